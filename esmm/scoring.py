"""A published model, applied to a DataFrame by a pandas UDF, and the nightly table of scores.

    scored = with_predictions(rows, config, version)     # rows + pctr, pcvr, pctcvr (float)
    score(spark, config, day, as_of, version)            # candidates to the day's partition of the table

TensorFlow is loaded where the rows are, inside the Python workers, once each: the driver and Spark's worker
daemon, which forks, never import it.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from esmm import candidates, schema, statements, storage, tables, versions
from esmm.config import Config
from esmm.errors import DataError
from esmm.padding import to_array
from esmm.publish import Manifest, new_run
from esmm.schema import Column

PREDICTIONS = ("pctr", "pcvr", "pctcvr")
"""P(click | shown), P(purchase | clicked, shown) and P(click and purchase | shown)."""

Predict = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def with_predictions(rows: DataFrame, config: Config, version: str) -> DataFrame:
    """Rows that have the columns of `esmm.schema.feature_columns`, lists padded or not, and pctr, pcvr and pctcvr.

    Only the features cross to Python; whatever else a row has stays where it is.
    """
    columns = schema.feature_columns(config)
    predict = _udf(config, version, columns)
    features = F.struct(*[F.col(column.name) for column in columns])
    return rows.withColumn("prediction", predict(features)).select(*rows.columns, "prediction.*")


def score(spark: SparkSession, config: Config, day: dt.date, as_of: dt.datetime, version: str) -> Manifest:
    """Score all candidates as they stood at a time, rank them within each user, publish the day.

    Raises DataError where the candidates or the model are not usable, ConflictError where another run
    scores the day; then nothing is published.
    """
    _check_model(config, version)
    table, run = tables.scores(config, spark), new_run()
    with table.claimed([day], run):
        rows = candidates.described(spark, config, as_of)
        with_predictions(rows, config, version).createOrReplaceTempView("scored")
        ranked = statements.run(spark, "12_ranked", {"model_version": version, "ds": str(day)})
        try:
            ranked.write.partitionBy(schema.DAY).parquet(table.stage(run))
            facts = {"model": version, "as_of": as_of.isoformat()}
            return table.publish(day, run, config=config.digest(), facts=facts)
        except BaseException:
            table.discard(run)
            raise


def _check_model(config: Config, version: str) -> None:
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


def _udf(config: Config, version: str, columns: tuple[Column, ...]) -> Any:
    """The pandas UDF from a struct of features to a struct of predictions."""
    models, batch_size, options = config.scoring.models, config.scoring.batch_size, config.storage

    @pandas_udf(", ".join(f"{name} float" for name in PREDICTIONS))  # type: ignore[call-overload]
    def predict(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        storage.configure(options)
        model = _model(models, version)
        for batch in batches:
            arrays = {
                column.name: to_array(
                    pa.Array.from_pandas(batch[column.name], type=column.arrow.type), column
                )
                for column in columns
            }
            yield pd.DataFrame(predict_in_batches(model, arrays, batch_size))

    return predict


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
    """The model's predictions, float32 [rows] each, made of batches of at most `batch_size` rows."""
    rows = len(next(iter(arrays.values())))
    parts = [
        model({name: array[start : start + batch_size] for name, array in arrays.items()})
        for start in range(0, rows, batch_size)
    ]
    return {
        name: np.concatenate([part[name] for part in parts] or [np.empty(0, "float32")])
        for name in PREDICTIONS
    }
