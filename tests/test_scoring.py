"""Scoring: the same probabilities as the model's own, ranks, and a table that is whole or not there."""

import datetime as dt
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from esmm import cli, ranking, schema, scoring
from esmm.config import Config, Scoring
from esmm.errors import ConfigError, ConflictError, DataError
from esmm.padding import to_array
from esmm.publish import Table
from tests.brute_force import Event
from tests.test_candidates import MIDNIGHT, joined, write_candidates
from tests.test_samples import DAYS, MINUTE, ZONE, write_logs

DAY = DAYS[1]
AS_OF = dt.datetime.combine(DAY, dt.time(), ZONE)


@pytest.fixture
def model(config: Config) -> str:
    """The version of an untrained model whose numbers differ from row to row."""
    from esmm import models
    from esmm.export import export

    made = models.make(config)
    for table in made.tables.values():
        table.weights.assign(table.weights * 20)
    return export(made, config, config.scoring.models, {})


@pytest.fixture
def candidates(config: Config) -> None:
    """Three users with four, four and one candidates."""
    clicks = [Event(10 + n, 1, n, MIDNIGHT - (n + 1) * MINUTE) for n in range(8)]
    write_logs(config, [Event(1, 1, 7, MIDNIGHT)], clicks, [Event(20, 1, 3, MIDNIGHT)])
    write_candidates(config, user_id=[1, 1, 1, 1, 2, 2, 2, 2, 3], item_id=[1, 2, 3, 4, 1, 2, 3, 4, 9])


def scores(spark: SparkSession, config: Config) -> pd.DataFrame:
    frame = spark.read.parquet(*Table(config.scoring.table).files([DAY])).toPandas()
    return frame.sort_values(["user_id", "rank"], ignore_index=True)


@pytest.mark.usefixtures("candidates")
def test_scores_are_the_models_and_are_ranked(spark: SparkSession, config: Config, model: str) -> None:
    from esmm.export import load

    manifest = scoring.score(spark, config, DAY, AS_OF, model)
    assert (manifest.rows, manifest.facts["model"]) == (9, model)
    assert manifest.counts == {
        "candidates": 9, "duplicates": 0, "users": 3, "unknown_users": 0, "items": 5, "unknown_items": 0,
    }  # fmt: skip
    found = scores(spark, config)
    assert list(found.columns) == [
        "user_id", "item_id", "pctr", "pcvr", "pctcvr", "score", "rank", "model_version", "scored_at",
    ]  # fmt: skip
    assert set(found["model_version"]) == {model}
    assert {
        time.tz_localize(str(spark.conf.get("spark.sql.session.timeZone"))) for time in found["scored_at"]
    } == {pd.Timestamp(AS_OF)}

    rows = {(row["user_id"], row["item_id"]): row for row in joined(spark, config, AS_OF).collect()}
    ordered = [rows[user, item] for user, item in zip(found["user_id"], found["item_id"], strict=True)]
    columns = {
        column.name: to_array(pa.array([row[column.name] for row in ordered], column.arrow.type), column)
        for column in schema.feature_columns(config)
    }
    for name, expected in load(config.scoring.models, model)(columns).items():
        np.testing.assert_allclose(found[name], expected, atol=1e-6)
    np.testing.assert_allclose(found["pctcvr"], found["pctr"] * found["pcvr"], rtol=1e-6)
    assert found["pctcvr"].nunique() > 5, "rows differ, so the comparison can fail"

    for _, of_user in found.groupby("user_id"):
        assert list(of_user["rank"]) == list(range(1, len(of_user) + 1))
        assert list(of_user["pctcvr"]) == sorted(of_user["pctcvr"], reverse=True)


@pytest.mark.usefixtures("candidates")
@pytest.mark.slow
def test_scoring_a_day_again_gives_the_same_rows(spark: SparkSession, config: Config, model: str) -> None:
    first = scoring.score(spark, config, DAY, AS_OF, model)
    before = scores(spark, config)
    second = scoring.score(spark, config, DAY, AS_OF, model)
    assert first.run != second.run
    pd.testing.assert_frame_equal(before, scores(spark, config))


@pytest.mark.usefixtures("candidates")
def test_a_model_that_was_changed_is_refused_and_nothing_is_published(
    spark: SparkSession, config: Config, model: str
) -> None:
    path = Path(config.scoring.models) / model / "variables/variables.data-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"variables.data-00000-of-00001: expected the file with SHA-256"):
        scoring.score(spark, config, DAY, AS_OF, model)
    assert Table(config.scoring.table).days() == []
    assert not list(Path(config.scoring.table).glob("run=*"))


@pytest.mark.usefixtures("candidates")
def test_a_model_of_other_features_is_refused(spark: SparkSession, config: Config, model: str) -> None:
    features = dict(list(config.features.items())[:-1])
    other = config.model_copy(update={"features": features})
    with pytest.raises(DataError, match="expected a model of the config's columns, found 'price' besides"):
        scoring.score(spark, other, DAY, AS_OF, model)


@pytest.mark.usefixtures("candidates")
def test_a_day_that_another_run_scores_is_a_conflict(spark: SparkSession, config: Config, model: str) -> None:
    with Table(config.scoring.table).claimed([DAY], "other"), pytest.raises(ConflictError):
        scoring.score(spark, config, DAY, AS_OF, model)


def test_batches_of_any_size_give_the_same(config: Config, model: str) -> None:
    from esmm.export import load

    predict = load(config.scoring.models, model)
    random = np.random.default_rng(3)
    columns = {
        column.name: random.integers(-1, 50, (10, column.length) if column.length else 10).astype(column.type)
        for column in schema.feature_columns(config)
    }
    whole = predict(columns)
    for size in (1, 3, 10, 99):
        for name, values in scoring.predict_in_batches(predict, columns, size).items():
            np.testing.assert_allclose(values, whole[name], atol=1e-6)
    empty = {name: array[:0] for name, array in columns.items()}
    assert {name: len(array) for name, array in scoring.predict_in_batches(predict, empty, 4).items()} == {
        "pctr": 0, "pcvr": 0, "pctcvr": 0,
    }  # fmt: skip


def test_a_worker_drops_the_model_that_it_has_before_it_loads_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is loaded refers to itself, as what TensorFlow loads does, so that to forget it is not enough."""
    before: list[weakref.ref[Any]] = []
    were_there: list[list[bool]] = []

    def load(models: str, version: str) -> Any:
        were_there.append([model() is not None for model in before])
        loaded = type("Model", (), {})()
        loaded.itself = loaded
        before.append(weakref.ref(loaded))
        return loaded

    monkeypatch.setattr(scoring, "_held", {})
    monkeypatch.setattr(scoring, "_load", load)
    for version in ("v1", "v1", "v2", "v1"):
        scoring.loaded("models", version)
    assert were_there == [[], [False], [False, False]]


def ranked_by(config: Config, **settings: Any) -> Config:
    """The config with other settings of scoring, checked."""
    scoring = config.scoring.model_dump() | settings
    return config.model_copy(update={"scoring": Scoring.model_validate(scoring)})


@pytest.mark.usefixtures("candidates")
def test_ranks_go_by_what_the_config_says_and_only_the_first_stay(
    spark: SparkSession, config: Config, model: str
) -> None:
    """By a column of the candidates and a feature; of equal scores the lower item comes first.

    A pair that comes twice counts with the lower of what passes through.
    """
    write_candidates(
        config, user_id=[1, 1, 1, 1, 2, 2, 1], item_id=[1, 2, 3, 4, 2, 1, 2],
        bid=[0.5, 2.0, 0.5, 1.0, 1.0, 1.0, 3.0],
    )  # fmt: skip
    config = ranked_by(config, rank_by="bid + 0 * price", top=3, pass_through=["bid"])
    manifest = scoring.score(spark, config, DAY, AS_OF, model)
    found = scores(spark, config)
    assert manifest.rows == 5
    assert (manifest.counts["candidates"], manifest.counts["duplicates"]) == (7, 1)
    assert found[["user_id", "item_id", "bid", "score", "rank"]].to_numpy().tolist() == [
        [1, 2, 2.0, 2.0, 1], [1, 4, 1.0, 1.0, 2], [1, 1, 0.5, 0.5, 3], [2, 1, 1.0, 1.0, 1], [2, 2, 1.0, 1.0, 2],
    ]  # fmt: skip


@pytest.mark.usefixtures("candidates")
def test_ranks_may_go_by_what_is_the_users(spark: SparkSession, config: Config, model: str) -> None:
    """The feature `user` is its id; it comes once a user, and counts for each row."""
    config = ranked_by(config, rank_by="user * 100 + 0 * pctcvr")
    scoring.score(spark, config, DAY, AS_OF, model)
    found = scores(spark, config)
    assert (found["score"] == found["user_id"] * 100).all()
    assert list(found["item_id"]) == [1, 2, 3, 4, 1, 2, 3, 4, 9]


@pytest.mark.parametrize("top", [2, 3000])
def test_most_of_what_is_not_kept_is_dropped_before_the_shuffle(
    spark: SparkSession, config: Config, top: int
) -> None:
    rows = spark.range(10_000).selectExpr(
        "struct(id % 3 as user_id, id as item_id) as passthrough",
        "0.5f as pctr",
        "0.5f as pcvr",
        "0.25f as pctcvr",
    )
    config = ranked_by(config, top=top)
    threshold = "spark.sql.optimizer.windowGroupLimitThreshold"
    spark.conf.set(threshold, cli.spark_settings(config)[threshold])
    try:
        found = ranking.ranked(spark, config, rows, day=DAY, as_of=AS_OF, version="v1")
        plan = found._jdf.queryExecution().executedPlan().toString()
    finally:
        spark.conf.unset(threshold)
    assert plan.index("Exchange hashpartitioning(user_id") < plan.rindex("WindowGroupLimit"), plan
    assert f", row_number(), {top}, Partial" in plan


@pytest.mark.parametrize(
    ("rank_by", "kind", "message"),
    [
        (
            "pctcvr * bid",
            DataError,
            r"^scoring.rank_by: expected a number for every candidate, found none for user 2",
        ),
        ("pctcvr * prise", ConfigError, r"^scoring.rank_by: expected an expression of .* found .*`prise`"),
        ("pctcvr *", ConfigError, r"^scoring.rank_by: expected an expression of .* found .*[Ss]yntax"),
    ],
)
@pytest.mark.usefixtures("candidates")
def test_what_cannot_be_ranked_by(
    spark: SparkSession, config: Config, model: str, rank_by: str, kind: type[Exception], message: str
) -> None:
    write_candidates(config, user_id=[1, 2, 2], item_id=[1, 2, 1], bid=[0.5, float("nan"), 1.0])
    config = ranked_by(config, rank_by=rank_by, pass_through=["bid"])
    with pytest.raises(kind, match=message):
        scoring.score(spark, config, DAY, AS_OF, model)
    assert Table(config.scoring.table).days() == []
    assert not list(Path(config.scoring.table).glob("run=*"))


@pytest.mark.usefixtures("candidates")
def test_a_model_that_predicts_no_number_is_named_with_the_pair(spark: SparkSession, config: Config) -> None:
    """Whatever ranks go by: the prices are numbers."""
    from esmm import models
    from esmm.export import export

    made = models.make(config)
    logs = config.model_copy(update={"scoring": config.scoring.model_copy(update={"rank_by": "price"})})
    for table in made.tables.values():
        table.weights.assign(table.weights * float("nan"))
    version = export(made, logs, config.scoring.models, {})
    with pytest.raises(
        DataError, match=r"^pctr: expected a number for every candidate, found none for user 1 and"
    ):
        scoring.score(spark, logs, DAY, AS_OF, version)
    assert Table(config.scoring.table).days() == []


def test_columns_that_cannot_pass_through(spark: SparkSession, config: Config, model: str) -> None:
    with pytest.raises(ConfigError, match=r"^scoring.pass_through: expected each once, and none of user_id"):
        ranked_by(config, pass_through=["rank"])
    other = ranked_by(config, pass_through=["nowhere"])
    write_logs(config, [Event(1, 1, 7, MIDNIGHT)], [Event(2, 1, 7, MIDNIGHT)], [Event(3, 1, 7, MIDNIGHT)])
    write_candidates(config, user_id=[1], item_id=[1])
    with pytest.raises(
        DataError, match=r"^scoring.pass_through: expected a column of .* no column 'nowhere'"
    ):
        scoring.score(spark, other, DAY, AS_OF, model)
