"""Candidates to scores: the model's probabilities, as columns of a Spark DataFrame and as a published day.

    scored = with_predictions(rows, config, version)     # rows + pctr, pcvr, pctcvr (float)
    score(spark, config, day, as_of, version)            # candidates to the day's partition of the table

TensorFlow is loaded where the rows are, inside the Python workers, once each: the driver and Spark's worker
daemon, which forks, never import it. Rows go there and back as Arrow's record batches: no row, and no list of a
row, is ever a Python object.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from esmm import candidates, ranking, schema, storage, tables, versions
from esmm.config import Config
from esmm.errors import DataError
from esmm.padding import to_array
from esmm.publish import Manifest, new_run
from esmm.schema import PREDICTIONS

Predict = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def with_predictions(
    rows: DataFrame, config: Config, version: str, keep: Sequence[str] | None = None
) -> DataFrame:
    """Rows that have the columns of `esmm.schema.feature_columns`, lists padded or not, and pctr, pcvr and pctcvr.

    With `keep`, only these columns of the rows stay: what a worker does not send back costs nothing.
    """
    kept = list(rows.columns if keep is None else keep)
    columns = [column.name for column in schema.feature_columns(config)]
    sent = rows.select(*dict.fromkeys([*kept, *columns]))
    predictions = [T.StructField(name, T.FloatType(), False) for name in PREDICTIONS]
    made = T.StructType([*rows.select(*kept).schema.fields, *predictions])
    return sent.mapInArrow(_scorer(config, version, kept), made)


def score(spark: SparkSession, config: Config, day: dt.date, as_of: dt.datetime, version: str) -> Manifest:
    """Score all candidates as they stood at a time, rank them within each user, publish the day.

    Raises DataError where the candidates, the model or what is ranked by are not usable, ConflictError where another
    run scores the day; then nothing is published.
    """
    check_model(config, version)
    table, run = tables.scores(config, spark), new_run()
    with table.claimed([day], run):
        rows = candidates.described(spark, config, as_of)
        scored = with_predictions(rows, config, version, keep=ranking.needed(config))
        ranked = ranking.ranked(spark, config, scored, day=day, as_of=as_of, version=version)
        try:
            ranked.write.partitionBy(schema.DAY).parquet(table.stage(run))
            ranking.check(spark.read.parquet(table.stage(run)))
            facts = {"model": version, "as_of": as_of.isoformat()}
            return table.publish(day, run, config=config.digest(), facts=facts)
        except BaseException:
            table.discard(run)
            raise


def check_model(config: Config, version: str) -> None:
    """Raise DataError where a file of the model was changed, or where it takes other columns than the config's."""
    versions.fetch(config.scoring.models, version)
    taken = versions.manifest(config.scoring.models, version).facts["columns"]
    made = {
        column.name: {"type": column.type, "length": column.length}
        for column in schema.feature_columns(config)
    }
    for name in [*taken, *made]:
        if taken.get(name) != made.get(name):
            found = f"'{name}' {'besides' if name not in made else 'missing' if name not in taken else 'otherwise'}"
            raise DataError(
                f"{config.scoring.models}/{version}", expected="a model of the config's columns", found=found
            )


def _scorer(
    config: Config, version: str, kept: Sequence[str]
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """From record batches with the model's columns to such with `kept` and the predictions."""
    models, batch_size, options = config.scoring.models, config.scoring.batch_size, config.storage
    columns = schema.feature_columns(config)

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        storage.configure(options)
        model = _model(models, version)
        for batch in batches:
            arrays = {column.name: to_array(batch.column(column.name), column) for column in columns}
            found = predict_in_batches(model, arrays, batch_size)
            made = [*(batch.column(name) for name in kept), *(pa.array(found[name]) for name in PREDICTIONS)]
            yield pa.RecordBatch.from_arrays(made, [*kept, *PREDICTIONS])

    return score


@lru_cache(maxsize=1)
def _model(models: str, version: str) -> Predict:
    """The model, fetched, verified and loaded once a Python worker, on the cores of one task."""
    import tensorflow as tf

    from esmm import export

    cores = 1 if (task := TaskContext.get()) is None else task.cpus()
    tf.config.threading.set_intra_op_parallelism_threads(cores)
    tf.config.threading.set_inter_op_parallelism_threads(cores)
    return export.load(models, version)


def predict_in_batches(
    model: Predict, arrays: Mapping[str, np.ndarray], batch_size: int
) -> dict[str, np.ndarray]:
    """The model's predictions, float32 [rows] each, made of batches of about equal size, at most `batch_size`."""
    rows = len(next(iter(arrays.values())))
    ends = np.linspace(0, rows, -(-rows // batch_size) + 1).astype(int)
    parts = [
        model({name: array[start:end] for name, array in arrays.items()}) for start, end in pairwise(ends)
    ]
    return {
        name: np.concatenate([part[name] for part in parts] or [np.empty(0, "float32")])
        for name in PREDICTIONS
    }
