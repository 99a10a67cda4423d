"""Predictions on held-out days to metrics, beside what popularity and the truth would have scored.

    samples = held_out(spark, config, days)
    predictions = scoring.with_predictions(samples, config, version)
    evaluation = evaluate(spark, config, predictions, model=version, days=days, popularity_days=earlier)
    evaluation.metrics.result()["ctr"]["auc"]       # 0.7431
    evaluation.gauc["ctr"]["gauc"]                  # 0.6812, the mean of the users' own AUCs

Each Spark worker sums its rows into one vector (`esmm.metrics`); what leaves it is the vector's entries that
are not 0, and Spark adds those up. So one pass over the rows is enough, and what the driver gets is bounded
by the number of bins, whatever the number of rows. The GAUC, for which rows have to meet those of their user, is
Spark's own work (`sql/gauc.sql`); predictions are kept until both are done, so that no row is scored twice.

Two yardsticks are measured on the same rows. Item popularity, the click rate of the item in earlier days, is
what a model must beat. The true probabilities, which only simulated logs have, are what none can but by luck.

Rows are measured by the values of a few features, too (`esmm.segments`), in the same pass.

Predictions of the same samples with lists as of their day's start (`esmm.nightly`) are measured where they are given:
what is left of a model whose scores are made once a night.
"""

import datetime as dt
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm import inputs, schema, segments, statements, tables
from esmm.agreement import Agreement
from esmm.cached import cached
from esmm.config import Config, Log
from esmm.errors import DataError
from esmm.metrics import TASKS, Additive, Floats, Metrics, Result, TaskMetrics
from esmm.plan import make_plan
from esmm.schema import PREDICTIONS
from esmm.segments import BySegment, Segment, Values

POPULARITY_PRIOR = 20.0
"""Exposures at the rate of all items that an item's own are mixed with."""

_LABELS = ("click", "purchase", "weight")


@dataclass(frozen=True)
class Evaluation:
    """What one model's predictions on some days are worth."""

    name: str
    """The config's."""
    model: str
    """The version."""
    days: tuple[dt.date, ...]
    popularity_days: tuple[dt.date, ...]
    """The days that the popularity of items was learnt from."""
    metrics: Metrics
    gauc: Mapping[str, Result]
    """By task: gauc, the mean of the users' AUCs by the weight of their rows (Zhou et al. 2018, section 6); users, how
    many have rows of both labels, which it takes; share_of_weight, how much of the rows' weight is theirs. None where
    there is nothing to divide by."""
    popularity: TaskMetrics | None
    """Click, predicted by the item's popularity; None without days to learn it from."""
    truth: Metrics | None
    """The three tasks, predicted by the true probabilities; None where these are not known."""
    pcvr: Agreement | None
    """pCVR and the true one, over all rows, clicked or not; None where the truth is not known."""
    nightly: Metrics | None
    """As `metrics`, with lists as of the day's start; None where that was not asked for, or is the same."""
    segments: Mapping[str, Sequence[Segment]] = field(default_factory=dict)
    """By segment of the config, its values."""
    calibration: Mapping[str, Any] | None = None
    """What the model's manifest states of its calibration (`Validation.calibrate`); None where it has none."""


class _Sums(Additive):
    """All states of an evaluation in one vector."""

    SIZE = 2 * Metrics.SIZE + TaskMetrics.SIZE + Agreement.SIZE

    def __init__(self, vector: Floats | None = None) -> None:
        super().__init__(vector)
        ends = np.cumsum([Metrics.SIZE, Metrics.SIZE, TaskMetrics.SIZE])
        model, truth, popularity, pcvr = np.split(self.vector, ends)
        self.model, self.truth = Metrics(model), Metrics(truth)
        self.popularity, self.pcvr = TaskMetrics(popularity), Agreement(pcvr)

    def update(self, rows: Mapping[str, Floats]) -> None:
        labels = {name: rows[name] for name in _LABELS}
        self.model.update(**labels, **{name: rows[name] for name in PREDICTIONS})
        if "popularity" in rows:
            self.popularity.update(rows["click"], rows["weight"], rows["popularity"])
        if "true_pctr" in rows:
            pctr, pcvr = rows["true_pctr"], rows["true_pcvr"]
            self.truth.update(**labels, pctr=pctr, pcvr=pcvr, pctcvr=pctr * pcvr)
            self.pcvr.update(rows["weight"], rows["pcvr"], pcvr)


def days_before(spark: SparkSession, config: Config, day: dt.date) -> list[dt.date]:
    """The published days before a day, from which popularity may be learnt: those that have samples."""
    table = tables.samples(config, spark)
    return [earlier for earlier in table.days() if earlier < day and table.manifest(earlier).rows]


def held_out(spark: SparkSession, config: Config, days: Sequence[dt.date]) -> DataFrame:
    """The samples of published days.

    Raises DataError, naming the day or the file, where one is missing, empty, or without some of its unclicked
    exposures; and where columns, types or the lengths of lists are not the config's, with which models are compared
    (`scoring.check_model`): Spark would make nulls of a column that a file lacks, and short lists would be padded.
    """
    table = tables.samples(config, spark)
    for day in days:
        kept = table.manifest(day).facts.get("keep_unclicked", 1.0)
        if kept < 1:
            raise DataError(f"{table.root}/ds={day}", expected="all exposures (build_samples --all-exposures)",
                            found=f"{kept:.0%} of the unclicked ones")  # fmt: skip
        if not table.manifest(day).rows:
            raise DataError(f"{table.root}/ds={day}", expected="at least one sample", found="an empty day")
    plan = make_plan(table, days, schema.sample_columns(config))
    return spark.read.parquet(*(file.url for file in plan.files))


def evaluate(
    spark: SparkSession,
    config: Config,
    predictions: DataFrame,
    *,
    model: str,
    days: Sequence[dt.date],
    popularity_days: Sequence[dt.date],
    nightly: DataFrame | None = None,
    calibration: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Measure predictions: samples with the columns pctr, pcvr and pctcvr. They are made once.

    `nightly` are the predictions of the same samples with lists as of the day's start (`esmm.nightly`), `calibration`
    what the model's manifest states of that.
    Raises DataError where there are no rows of a weight above 0, a prediction is no probability, a day to
    learn popularity from is not published, or the truth does not cover the rows.
    """
    columns = [*_LABELS, *PREDICTIONS]
    by_value = segments.column(config).alias("segments")
    # Before the joins: lists would otherwise travel through their shuffles.
    with cached(predictions.select("exposure_id", "user_id", "item_id", *columns, by_value)) as rows:
        rows.createOrReplaceTempView("predictions")
        if popularity_days:
            # Days of training, which may lack unclicked exposures: the others weigh for them.
            earlier = spark.read.parquet(*tables.samples(config, spark).files(popularity_days))
            rows = _with_popularity(spark, earlier)
            columns.append("popularity")
        if config.evaluation.truth is not None:
            rows = _with_truth(spark, rows, config.evaluation.truth)
            columns += ["true_pctr", "true_pcvr"]
        heaviest = segments.heaviest(spark, config)
        sums, by_segment = _summed(rows, columns, heaviest)
        _check(sums)
        gauc = _gauc(spark)
    truth_known = config.evaluation.truth is not None
    return Evaluation(
        name=config.name,
        model=model,
        days=tuple(days),
        popularity_days=tuple(popularity_days),
        metrics=sums.model,
        gauc=gauc,
        popularity=sums.popularity if popularity_days else None,
        truth=sums.truth if truth_known else None,
        pcvr=sums.pcvr if truth_known else None,
        nightly=None if nightly is None else measured(nightly),
        segments=segments.named(spark, config, by_segment, days),
        calibration=calibration,
    )


def measured(predictions: DataFrame) -> Metrics:
    """The metrics of predictions alone, such as those of another model on the same samples.

    They are made before they are summed: a task that did both at once would take two Python workers, and the one that
    sums could have a model, too, from when it scored.
    """
    columns = [*_LABELS, *PREDICTIONS]
    with cached(predictions.select(columns)) as rows:
        return _summed(rows, columns)[0].model


def _check(sums: _Sums) -> None:
    """Raise DataError where a report could not be made of the sums."""
    if not sums.model.ctr.rows and not sums.model.ctr.invalid:
        raise DataError("predictions", expected="rows of a weight above 0", found="none")
    sums.model.result()  # raises where a prediction is no probability
    if sums.popularity.invalid:
        raise DataError("days to learn popularity from", expected="samples of a weight above 0", found="none")
    if sums.truth.ctr.invalid:
        raise DataError("evaluation.truth", expected="two true probabilities for every exposure",
                        found=f"none for {sums.truth.ctr.invalid:,} of {sums.model.ctr.rows:,}")  # fmt: skip


def _gauc(spark: SparkSession) -> dict[str, Result]:
    """As in `Evaluation`, for every task."""
    found = {row["task"]: row.asDict() for row in statements.run(spark, "gauc").collect()}
    nothing: Result = {"gauc": None, "users": 0, "share_of_weight": None}
    return {task: {name: found.get(task, nothing)[name] for name in nothing} for task in TASKS}


def _with_popularity(spark: SparkSession, earlier: DataFrame) -> DataFrame:
    """The predictions with `popularity`, null where no sample has a weight."""
    earlier.createOrReplaceTempView("samples")
    return statements.run(spark, "popularity", {"prior": POPULARITY_PRIOR})


def _with_truth(spark: SparkSession, predictions: DataFrame, path: str) -> DataFrame:
    """The rows with true_pctr and true_pcvr, null where the truth lacks the exposure."""
    where = "evaluation.truth"
    try:
        source = inputs.Input(spark, where, Log(path=path))
        truth = source.frame.select(
            source.id("exposure_id").alias("exposure_id"),
            F.col(source.column("pctr")).alias("true_pctr"),
            F.col(source.column("pcvr")).alias("true_pcvr"),
        )
    except DataError as error:
        raise DataError(where, expected=error.expected, found=error.found) from None
    twice = truth.groupBy("exposure_id").count().where("count > 1").first()
    if twice is not None:
        raise DataError(where, expected="one row an exposure", found=f"{twice['count']} of one exposure")
    return predictions.join(truth, "exposure_id", "left")


def _summed(rows: DataFrame, columns: Sequence[str], heaviest: Values = ()) -> tuple[_Sums, BySegment]:
    """The states of all rows, and by segment: each partition's summed by a worker and these by Spark."""
    wanted = [F.col(name).cast("double") for name in columns]
    if heaviest:
        wanted.append(F.col("segments"))
    numbers = rows.select(wanted)
    partial_sums = numbers.mapInArrow(partial(_partial, heaviest), "part int, position int, amount double")
    with warnings.catch_warnings():
        # What a worker ends with it would print beside the error, as a traceback.
        warnings.filterwarnings("ignore", "toPandas attempted Arrow optimization")
        total = partial_sums.groupBy("part", "position").agg(F.sum("amount").alias("amount")).toPandas()
    sums, by_segment = _Sums(), BySegment(heaviest)
    for part, state in enumerate([sums, *by_segment.parts]):
        of_part = total[total["part"] == part]
        state.vector[of_part["position"].to_numpy()] = of_part["amount"].to_numpy()
    return sums, by_segment


def _partial(heaviest: Values, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """A partition's rows to the entries of their states that are not 0. Runs in Spark's Python workers."""
    sums, by_segment = _Sums(), BySegment(heaviest)
    for batch in batches:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        values = columns.pop("segments", None)
        # A null, which a join leaves where it found nothing, becomes NaN and counts as invalid.
        rows = {name: column.to_numpy(zero_copy_only=False) for name, column in columns.items()}
        sums.update(rows)
        if values is not None:
            of_model = {name: rows[name] for name in (*_LABELS, *PREDICTIONS)}
            by_segment.update(of_model, values.flatten().to_numpy().reshape(len(values), -1))
    for part, state in enumerate([sums, *by_segment.parts]):
        positions = np.flatnonzero(state.vector)
        parts = np.full(len(positions), part, np.int32)
        arrays = [pa.array(parts), pa.array(positions, pa.int32()), pa.array(state.vector[positions])]
        yield pa.RecordBatch.from_arrays(arrays, ["part", "position", "amount"])
