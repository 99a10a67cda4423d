"""Candidates to scores: the model's probabilities, as columns of a Spark DataFrame and as a published day.

    scored = with_predictions(rows, config, version)              # rows + pctr, pcvr, pctcvr (float)
    scored = predictions_by_user(users, rows, config, version, ["user_id", "item_id"])    # users beside their rows
    score(spark, config, day, as_of, version)                     # candidates to the day's partition of the table

TensorFlow is loaded where the rows are, inside the Python workers, once each: the driver and Spark's worker
daemon, which forks, never import it. Rows go there and back as Arrow's record batches: no row, and no list of a
row, is ever a Python object.
"""

import datetime as dt
import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from esmm import candidates, drift, histograms, pairs, ranking, schema, storage, tables, versions
from esmm.by_user import groups, stream
from esmm.config import Config
from esmm.days import micros
from esmm.errors import DataError
from esmm.padding import to_array
from esmm.publish import Manifest, new_run
from esmm.schema import PREDICTIONS, USER_OF_ROW, Column

Batches = Iterable[pa.RecordBatch]

_PREDICTED = [T.StructField(name, T.FloatType(), False) for name in PREDICTIONS]

Predict = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def with_predictions(
    rows: DataFrame, config: Config, version: str, keep: Sequence[str] | None = None
) -> DataFrame:
    """Rows that have the columns of `esmm.schema.feature_columns`, lists padded or not, and pctr, pcvr and pctcvr.

    With `keep`, only these columns of the rows stay: what a worker does not send back costs nothing.
    """
    kept = list(rows.columns if keep is None else keep)
    sent = rows.select(*dict.fromkeys([*kept, *_names(schema.feature_columns(config))]))
    made = T.StructType([*rows.select(*kept).schema.fields, *_PREDICTED])
    return sent.mapInArrow(_scorer(config, version, partial(_answers, config, kept)), made)


def predictions_by_user(
    users: DataFrame,
    rows: DataFrame,
    config: Config,
    version: str,
    keep: Sequence[str],
    watch: drift.Watch | None = None,
) -> DataFrame:
    """Columns of users and rows, and pctr, pcvr and pctcvr: what the user alone decides is computed once a user.

    Users have a `user_id` and the columns of `esmm.schema.user_columns`, rows a `user_id` and all others. Rows come
    without an order; each has a user. `watch` is shown every row.
    """
    users = users.select("user_id", *_names(schema.user_columns(config)))
    kept = [name for name in keep if name not in users.columns]
    rows = rows.select("user_id", *dict.fromkeys([*kept, *_names(schema.row_columns(config))]))
    fields = {field.name: field for field in (*users.schema, *rows.schema)}
    made = T.StructType([*(fields[name] for name in keep), *_PREDICTED])
    return stream(users, rows).mapInArrow(
        _scorer(config, version, partial(_answers_by_user, config, keep, watch)), made
    )


def score(spark: SparkSession, config: Config, day: dt.date, as_of: dt.datetime, version: str) -> Manifest:
    """Score all candidates as they stood at a time, rank them within each user, publish the day.

    Raises DataError where the candidates, the model or what is ranked by are not usable, or where drift is to stop the
    day; ConflictError where another run scores the day; then nothing is published. The manifest counts candidates,
    duplicates among them, users and items, unknown ones besides, and has the indices of drift.
    """
    check_model(config, version)
    table, run = tables.scores(config, spark), new_run()
    with table.claimed([day], run):
        users, rows = candidates.by_user(spark, config, as_of)
        counts = pairs.counts(spark, config, micros(as_of))
        watch = drift.Watch(spark)
        scored = predictions_by_user(users, rows, config, version, ranking.needed(config), watch)
        ranked = ranking.ranked(spark, config, scored, day=day, as_of=as_of, version=version)
        try:
            ranked.write.partitionBy(schema.DAY).parquet(table.stage(run))
            ranking.check(spark.read.parquet(table.stage(run)))
            counts["duplicates"] = counts["candidates"] - watch.rows()
            drifted = drift.check(config, version, watch.found())
            facts = {"model": version, "as_of": as_of.isoformat(), "drift": drifted}
            return table.publish(day, run, config=config.digest(), counts=counts, facts=facts)
        except BaseException:
            table.discard(run)
            raise


def check_model(config: Config, version: str, *, may_lack: bool = False) -> None:
    """Raise DataError where a file of the model was changed, or where it takes other columns than the config's.

    With `may_lack` it need not take all of them.
    """
    versions.fetch(config.scoring.models, version)
    taken = versions.manifest(config.scoring.models, version).facts["columns"]
    made = {
        column.name: {"type": column.type, "length": column.length}
        for column in schema.feature_columns(config)
    }
    for name in taken if may_lack else [*taken, *made]:
        if taken.get(name) != made.get(name):
            found = f"'{name}' {'besides' if name not in made else 'missing' if name not in taken else 'otherwise'}"
            raise DataError(
                f"{config.scoring.models}/{version}", expected="a model of the config's columns", found=found
            )


def _scorer(
    config: Config, version: str, answers: Callable[[Predict, Batches], Batches]
) -> Callable[[Batches], Batches]:
    """What a worker does: `answers`, with the model."""
    models, options = config.scoring.models, storage.handed_over(config.storage)

    def score(batches: Batches) -> Batches:
        storage.configure(options)
        yield from answers(loaded(models, version), batches)

    return score


def _answers(config: Config, kept: Sequence[str], model: Predict, batches: Batches) -> Batches:
    """From record batches with the model's columns to such with `kept` and the predictions."""
    columns = schema.feature_columns(config)
    for batch in batches:
        found = predict_in_batches(model, _arrays(batch, columns), config.scoring.batch_size)
        yield _record_batch({name: batch.column(name) for name in kept}, found)


def _answers_by_user(
    config: Config, kept: Sequence[str], watch: drift.Watch | None, model: Predict, batches: Batches
) -> Batches:
    """The same from those of `esmm.by_user.stream`; `kept` are columns of users and of rows."""
    of_user, of_row = schema.user_columns(config), schema.row_columns(config)
    for users, rows, user_of_row in groups(batches):
        by_row, by_user = _arrays(rows, of_row), _arrays(users, of_user)
        found = predict_in_batches(
            model, by_row | {USER_OF_ROW: user_of_row}, config.scoring.batch_size, by_user
        )
        if watch is not None:
            of_users = histograms.binned(config, by_user, {})
            bins = {name: bins_g[user_of_row] for name, bins_g in of_users.items()}
            watch.add(bins | histograms.binned(config, by_row, found))
        passed = {
            name: rows.column(name)
            if name in rows.schema.names
            else users.column(name).take(pa.array(user_of_row))
            for name in kept
        }
        yield _record_batch(passed, found)


def _arrays(batch: pa.RecordBatch, columns: Iterable[Column]) -> dict[str, np.ndarray]:
    return {column.name: to_array(batch.column(column.name), column) for column in columns}


def _record_batch(kept: Mapping[str, pa.Array], found: Mapping[str, np.ndarray]) -> pa.RecordBatch:
    columns = {**kept, **{name: pa.array(found[name]) for name in PREDICTIONS}}
    return pa.RecordBatch.from_arrays([*columns.values()], [*columns])


def _names(columns: Iterable[Column]) -> list[str]:
    return [column.name for column in columns]


_held: dict[tuple[str, str], Predict] = {}
"""What this Python worker has loaded: one model, by where it is and its version."""


def loaded(models: str, version: str) -> Predict:
    """The model, fetched, verified and loaded once a Python worker, on the cores of one task.

    The one that the worker had goes before it comes: there is memory for one at a time (`esmm.room`).
    """
    if (models, version) not in _held:
        _held.clear()
        gc.collect()  # what TensorFlow loads refers to itself
        _held[models, version] = _load(models, version)
    return _held[models, version]


def _load(models: str, version: str) -> Predict:
    import tensorflow as tf

    from esmm import export

    cores = 1 if (task := TaskContext.get()) is None else task.cpus()
    tf.config.threading.set_intra_op_parallelism_threads(cores)
    tf.config.threading.set_inter_op_parallelism_threads(cores)
    return export.load(models, version)


def predict_in_batches(
    model: Predict,
    arrays: Mapping[str, np.ndarray],
    batch_size: int,
    users: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """The model's predictions, float32 [rows] each, made of batches of about equal size, at most `batch_size`.

    What is the same for all rows of a user may be in `users` instead, once a user; then `user_of_row` is there, too,
    and ascends.
    """
    rows = len(next(iter(arrays.values())))
    ends = np.linspace(0, rows, -(-rows // batch_size) + 1).astype(int)
    parts = []
    for start, end in pairwise(ends):
        part = {name: array[start:end] for name, array in arrays.items()}
        if users:
            first, last = part[USER_OF_ROW][[0, -1]]
            part |= {name: array[first : last + 1] for name, array in users.items()}
            part[USER_OF_ROW] = part[USER_OF_ROW] - first
        parts.append(model(part))
    return {
        name: np.concatenate([part[name] for part in parts] or [np.empty(0, "float32")])
        for name in PREDICTIONS
    }
