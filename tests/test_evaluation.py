"""Evaluation of a frame of predictions on Spark, against NumPy and scikit-learn on the same rows."""

import datetime as dt
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from esmm import evaluation, schema, statements
from esmm.config import Config
from esmm.errors import DataError
from esmm.evaluation import Evaluation, days_before, evaluate, held_out
from esmm.publish import Table

DAY = dt.date(2026, 4, 1)
EARLIER = [dt.date(2026, 3, 30), dt.date(2026, 3, 31)]
SIGN_BIT_CLEARED = 9223372036854775807


def expit(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return 1 / (1 + np.exp(-logits))


def publish(config: Config, day: dt.date, rows: pd.DataFrame, **facts: float) -> None:
    """A day of samples, of the columns that evaluation needs."""
    table = Table(config.samples.table)
    directory = Path(table.path) / f"run=r{day}" / f"ds={day}"
    directory.mkdir(parents=True)
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), directory / "part-0.parquet")
    table.publish(day, f"r{day}", config=config.digest(), facts=facts)


def drawn(rows: int, seed: int) -> pd.DataFrame:
    """Exposures of 30 items with labels, weights, predictions that follow the truth, and the truth."""
    rng = np.random.default_rng(seed)
    item = rng.integers(0, 30, rows)
    liking = rng.normal(size=rows) + (item - 15) / 10
    true_pctr, true_pcvr = expit(liking - 1), expit(liking - 0.5 + rng.normal(size=rows))
    click = rng.random(rows) < true_pctr
    pctr, pcvr = (expit(liking + rng.normal(size=rows) - shift).astype("f4") for shift in (0.8, 0.2))
    return pd.DataFrame(
        {
            "name": [f"exposure {seed}/{number}" for number in range(rows)],
            "user_id": rng.integers(0, 80, rows),
            "item_id": item,
            "click": click.astype("i1"),
            "purchase": (click & (rng.random(rows) < true_pcvr)).astype("i1"),
            "weight": rng.choice([0.0, 0.5, 1.0], rows).astype("f4"),
            "pctr": pctr,
            "pcvr": pcvr,
            "pctcvr": pctr * pcvr,
            "true_pctr": true_pctr,
            "true_pcvr": true_pcvr,
        }
    )


def as_predictions(spark: SparkSession, rows: pd.DataFrame, parts: int = 3) -> DataFrame:
    """What scoring makes of samples: their exposure_id is a hash of the log's, and other columns come along."""
    frame = spark.createDataFrame(rows.drop(columns=["true_pctr", "true_pcvr"])).repartition(parts)
    hashed = f"xxhash64(name) & {SIGN_BIT_CLEARED} as exposure_id"
    return frame.selectExpr("*", hashed, "array(1L, 2L) as clicked_item")


def write_truth(config: Config, rows: pd.DataFrame) -> None:
    """The simulator's side table."""
    assert config.evaluation.truth is not None
    truth = pd.DataFrame(
        {
            "exposure_id": rows["name"],
            "pctr": rows["true_pctr"],
            "pcvr": rows["true_pcvr"],
            "click": rows["click"],
            "purchase": rows["purchase"],
        }
    )
    Path(config.evaluation.truth).mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pandas(truth), Path(config.evaluation.truth) / "part-0.parquet")


def without_truth(config: Config) -> Config:
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"truth": None})})


def run(spark: SparkSession, config: Config, predictions: DataFrame, trained: list[dt.date]) -> Evaluation:
    return evaluate(spark, config, predictions, model="v1", days=[DAY], popularity_days=trained)


def popularity_of(trained: pd.DataFrame, items: pd.Series) -> np.ndarray[Any, Any]:
    """Each item's click rate with 20 exposures at the rate of all on top; of all, for an unseen item."""
    overall = np.average(trained["click"], weights=trained["weight"])
    rates = {}
    for item, rows in trained[trained["weight"] > 0].groupby("item_id"):
        clicks = float(rows["weight"] @ rows["click"])
        rates[item] = (clicks + 20 * overall) / (rows["weight"].sum() + 20)
    return np.array([rates.get(item, overall) for item in items])


def test_all_figures_agree_with_the_same_rows_in_numpy(spark: SparkSession, config: Config) -> None:
    rows, trained = drawn(3_000, 1), [drawn(2_000, 2), drawn(1_000, 3)]
    trained = [of_day[of_day["item_id"] != 7] for of_day in trained]
    for day, of_day in zip(EARLIER, trained, strict=True):
        publish(config, day, of_day)
    write_truth(config, pd.concat([rows, *trained]))
    found = run(spark, config, as_predictions(spark, rows), EARLIER)

    used = rows[rows["weight"] > 0]
    clicked = used[used["click"] == 1]
    result = found.metrics.result()
    tasks = {
        "ctr": (used, "click", "pctr"),
        "cvr": (clicked, "purchase", "pcvr"),
        "ctcvr": (used, "purchase", "pctcvr"),
    }
    for name, (of_task, label, prediction) in tasks.items():
        y, p, w = of_task[label], of_task[prediction].astype("f8"), of_task["weight"]
        assert result[name]["rows"] == len(of_task)
        assert result[name]["auc"] == pytest.approx(roc_auc_score(y, p, sample_weight=w), abs=5e-4)
        assert result[name]["log_loss"] == pytest.approx(log_loss(y, p, sample_weight=w), rel=1e-9)
        accuracy = accuracy_score(y, p >= 0.5, sample_weight=w)
        assert result[name]["accuracy"] == pytest.approx(accuracy, rel=1e-9)
        assert result[name]["pcoc"] == pytest.approx((w @ p) / (w @ y), rel=1e-6)

    for name, (of_task, label, prediction) in tasks.items():
        users = [part for _, part in of_task.groupby("user_id") if part[label].nunique() == 2]
        aucs = [roc_auc_score(part[label], part[prediction], sample_weight=part["weight"]) for part in users]
        weights = [part["weight"].sum() for part in users]
        assert found.gauc[name] == {
            "gauc": pytest.approx(np.average(aucs, weights=weights), rel=1e-9),
            "users": len(users),
            "share_of_weight": pytest.approx(sum(weights) / of_task["weight"].sum(), rel=1e-9),
        }

    assert found.truth is not None
    truth = found.truth.result()
    best = clicked["purchase"], clicked["true_pcvr"], clicked["weight"]
    assert truth["cvr"]["auc"] == pytest.approx(roc_auc_score(*best[:2], sample_weight=best[2]), abs=5e-4)
    both = used["true_pctr"] * used["true_pcvr"]
    expected = roc_auc_score(used["purchase"], both, sample_weight=used["weight"])
    assert truth["ctcvr"]["auc"] == pytest.approx(expected, abs=5e-4)

    assert found.popularity is not None
    popularity = popularity_of(pd.concat(trained), used["item_id"])
    expected = roc_auc_score(used["click"], popularity, sample_weight=used["weight"])
    assert found.popularity.result()["auc"] == pytest.approx(expected, abs=5e-4)
    assert found.popularity.result()["mean_prediction"] == pytest.approx(
        np.average(popularity, weights=used["weight"]), rel=1e-9
    )

    assert found.pcvr is not None
    agreement = found.pcvr.result()
    covariance = np.cov(used["pcvr"], used["true_pcvr"], aweights=used["weight"])
    correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert agreement["correlation"] == pytest.approx(correlation, rel=1e-6)
    means = [np.average(used[name], weights=used["weight"]) for name in ("pcvr", "true_pcvr")]
    assert agreement["pcoc"] == pytest.approx(means[0] / means[1], rel=1e-6)


def test_the_number_of_partitions_changes_nothing(spark: SparkSession, config: Config) -> None:
    config, rows = without_truth(config), drawn(500, 4)
    one, many = (run(spark, config, as_predictions(spark, rows, parts), []) for parts in (1, 7))
    for name, result in one.metrics.result().items():
        assert result == pytest.approx(many.metrics.result()[name], rel=1e-12)
    assert (one.popularity, one.truth, one.pcvr) == (None, None, None)


def test_popularity_given_and_expected(spark: SparkSession) -> None:
    """Three of four exposures were clicked, so each item starts from :prior = 2 exposures and 1.5 clicks."""
    given = [(1, 1, 1.0), (1, 1, 1.0), (1, 0, 1.0), (2, 1, 1.0), (2, 0, 0.0), (3, 1, 0.0)]
    spark.createDataFrame(given, "item_id long, click tinyint, weight float").createOrReplaceTempView(
        "samples"
    )
    items = [1, 1, 2, 3, 4]
    predictions = [(row, item, 1, 0, 1.0, 0.1, 0.2, 0.02, [row, 7]) for row, item in enumerate(items)]
    labels, floats = "click int, purchase int, weight float", "pctr float, pcvr float, pctcvr float"
    names = f"exposure_id long, item_id long, {labels}, {floats}, segments array<bigint>"
    spark.createDataFrame(predictions, names).createOrReplaceTempView("predictions")
    rows = statements.run(spark, "popularity", {"prior": 2.0}).orderBy("exposure_id").collect()
    assert [row["item_id"] for row in rows] == items
    expected = [(2 + 1.5) / 5, (2 + 1.5) / 5, (1 + 1.5) / 3, 0.75, 0.75]
    assert [row["popularity"] for row in rows] == pytest.approx(expected)
    assert rows[2].asDict() | {"popularity": None} == {
        "exposure_id": 2, "item_id": 2, "click": 1, "purchase": 0, "weight": 1.0, "popularity": None,
        "pctr": pytest.approx(0.1), "pcvr": pytest.approx(0.2), "pctcvr": pytest.approx(0.02), "segments": [2, 7],
    }  # fmt: skip


def whole(config: Config, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with all columns of a sample."""
    for column in schema.sample_columns(config):
        if column.name not in rows:
            zeros = np.zeros((len(rows), column.length or 1), column.type)
            rows[column.name] = zeros[:, 0] if column.length is None else list(zeros)
    return rows


def test_held_out_samples_are_those_of_the_days(spark: SparkSession, config: Config) -> None:
    for day, seed in zip([*EARLIER, DAY], (1, 2, 3), strict=True):
        publish(config, day, whole(config, drawn(10, seed)))
    names = {row["name"] for row in held_out(spark, config, [EARLIER[1], DAY]).select("name").collect()}
    assert names == {f"exposure {seed}/{number}" for seed in (2, 3) for number in range(10)}


def test_the_days_before_are_the_published_ones(spark: SparkSession, config: Config) -> None:
    for day in (EARLIER[0], DAY):
        publish(config, day, drawn(5, 1))
    publish(config, EARLIER[1], drawn(5, 1).head(0))
    assert days_before(spark, config, DAY) == [EARLIER[0]], "of an empty day there is nothing to learn"
    assert days_before(spark, config, EARLIER[0]) == []


def test_a_missing_or_empty_day_is_an_error(spark: SparkSession, config: Config) -> None:
    publish(config, EARLIER[0], drawn(5, 1))
    with pytest.raises(DataError, match=r"ds=2026-04-01: expected a published day, found no manifest"):
        held_out(spark, config, [EARLIER[0], DAY])
    publish(config, DAY, drawn(5, 1).head(0))
    with pytest.raises(DataError, match=r"ds=2026-04-01: expected at least one sample, found an empty day"):
        held_out(spark, config, [EARLIER[0], DAY])


def test_a_day_without_some_of_its_exposures_is_not_evaluated(spark: SparkSession, config: Config) -> None:
    publish(config, DAY, drawn(5, 1), keep_unclicked=0.25)
    with pytest.raises(
        DataError, match=r"ds=2026-04-01: expected all exposures .*, found 25% of the unclicked ones"
    ):
        held_out(spark, config, [DAY])


def test_popularity_is_learnt_from_days_without_some_of_their_exposures(
    spark: SparkSession, config: Config
) -> None:
    config, rows = without_truth(config), drawn(50, 2)
    found = []
    for day, kept in zip(EARLIER, (0.25, 1.0), strict=True):
        publish(config, day, rows, keep_unclicked=kept)
        popularity = run(spark, config, as_predictions(spark, rows), [day]).popularity
        assert popularity is not None
        found.append(popularity.result())
    assert found[0] == found[1]


def test_what_sums_has_no_python_worker_before_what_scores_has_given_back_its_own(
    spark: SparkSession, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker keeps the model that it has scored with: in two of a task at once there could be two models."""

    def scored(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from [batch] * 50  # some 48 MB in all, more than the sockets on the way hold
        (tmp_path / "done").touch()

    summed = evaluation._partial

    def partial(heaviest: Any, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        assert (tmp_path / "done").exists()
        yield from summed(heaviest, batches)

    rows = drawn(20_000, 1)
    predictions = as_predictions(spark, rows, parts=1).select(*rows.columns[3:9])
    monkeypatch.setattr(evaluation, "_partial", partial)
    kept = spark.sparkContext._jsc.getPersistentRDDs().size()
    found = evaluation.measured(predictions.mapInArrow(scored, predictions.schema))
    assert found.ctr.rows == 50 * (rows["weight"] > 0).sum()
    assert spark.sparkContext._jsc.getPersistentRDDs().size() == kept


def test_no_rows_to_measure_is_an_error(spark: SparkSession, config: Config) -> None:
    rows = drawn(5, 1).assign(weight=np.zeros(5, "f4"))
    with pytest.raises(DataError, match="predictions: expected rows of a weight above 0, found none"):
        run(spark, without_truth(config), as_predictions(spark, rows), [])


def test_a_prediction_that_is_none_is_an_error(spark: SparkSession, config: Config) -> None:
    rows = drawn(50, 1).assign(weight=np.ones(50, "f4"))
    rows.loc[[3, 4], "pctcvr"] = np.nan
    with pytest.raises(
        DataError, match=r"predictions: expected probabilities in \[0, 1\].*found others in 2 rows"
    ):
        run(spark, without_truth(config), as_predictions(spark, rows), [])


def test_earlier_days_without_a_row_that_counts_are_an_error(spark: SparkSession, config: Config) -> None:
    publish(config, EARLIER[0], drawn(5, 1).assign(weight=np.zeros(5, "f4")))
    with pytest.raises(
        DataError, match="days to learn popularity from: expected samples of a weight above 0, found none"
    ):
        run(spark, without_truth(config), as_predictions(spark, drawn(20, 2)), EARLIER[:1])


def test_a_truth_that_does_not_fit_is_an_error(spark: SparkSession, config: Config) -> None:
    rows = drawn(50, 1).assign(weight=np.ones(50, "f4"))
    predictions = as_predictions(spark, rows)
    with pytest.raises(DataError, match=r"evaluation\.truth: expected Parquet files, found nothing there"):
        run(spark, config, predictions, [])
    write_truth(config, rows.head(48))
    with pytest.raises(DataError, match=r"evaluation\.truth: .* for every exposure, found none for 2 of 50"):
        run(spark, config, predictions, [])
    write_truth(config, pd.concat([rows, rows.head(1)]))
    with pytest.raises(
        DataError, match=r"evaluation\.truth: expected one row an exposure, found 2 of one exposure"
    ):
        run(spark, config, predictions, [])


def test_a_truth_without_its_column_is_an_error(spark: SparkSession, config: Config) -> None:
    assert config.evaluation.truth is not None
    Path(config.evaluation.truth).mkdir(parents=True)
    pq.write_table(
        pa.table({"exposure_id": ["a"], "pctr": [0.1]}), f"{config.evaluation.truth}/part-0.parquet"
    )
    with pytest.raises(
        DataError, match=r"evaluation\.truth: expected a column of .*, found no column 'pcvr'"
    ):
        run(spark, config, as_predictions(spark, drawn(5, 1)), [])


def test_workers_need_no_tensorflow() -> None:
    code = "import sys, esmm.evaluation; sys.exit(bool({'tensorflow', 'horovod'} & set(sys.modules)))"
    root = Path(__file__).resolve().parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
