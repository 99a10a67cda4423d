"""Scoring: the same probabilities as the model's own, ranks, and a table that is whole or not there."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from esmm import schema, scoring
from esmm.config import Config
from esmm.errors import ConflictError, DataError
from esmm.padding import to_array
from esmm.publish import Table
from tests.brute_force import Event
from tests.test_candidates import MIDNIGHT, write_candidates
from tests.test_samples import DAYS, MINUTE, ZONE, write_logs

DAY = DAYS[1]
AS_OF = dt.datetime.combine(DAY, dt.time(), ZONE)


@pytest.fixture
def model(config: Config) -> str:
    """The version of an untrained model whose numbers differ from row to row."""
    from esmm import models
    from esmm.export import export

    made = models.make(config)
    for table in made.inputs.tables.values():
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
    from esmm.candidates import described
    from esmm.export import load

    manifest = scoring.score(spark, config, DAY, AS_OF, model)
    assert (manifest.rows, manifest.facts["model"]) == (9, model)
    found = scores(spark, config)
    assert list(found.columns) == ["user_id", "item_id", "pctr", "pcvr", "pctcvr", "rank", "model_version"]
    assert set(found["model_version"]) == {model}

    rows = {(row["user_id"], row["item_id"]): row for row in described(spark, config, AS_OF).collect()}
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
