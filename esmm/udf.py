"""The model as a column: pctr, pcvr and pctcvr of whatever rows one has, in Python and in SQL.

    rows.withColumn("p", udf.predict(config, version)).where("p.pctcvr > 0.01")
    udf.register(spark, config, version)
    spark.sql("select user_id, esmm_predict(struct(*)).pctcvr from rows")

Rows have the model's columns by name (`esmm.schema.feature_columns`), as the samples and described candidates do; lists
are padded or as long as they are. The numbers are those of `scoring.with_predictions`, which never makes a Python
object of a list, as pandas does of each: for tables of scores take that.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from esmm import schema, scoring, storage
from esmm.config import Config
from esmm.errors import DataError
from esmm.padding import padded
from esmm.schema import ABSENT, PREDICTIONS

NAME = "esmm_predict"
"""What the function is called in SQL."""

_RESULT = ", ".join(f"{name} float" for name in PREDICTIONS)


def predict(config: Config, version: str) -> Column:
    """The predictions for a row of any DataFrame with the model's columns: struct<pctr, pcvr, pctcvr: float>.

    What is null is absent, or 0. Raises DataError where a file of the model was changed, or where it takes other
    columns than the config's.
    """
    sent = [_sent(column).alias(column.name) for column in schema.feature_columns(config)]
    found: Column = _function(config, version)(F.struct(*sent))
    return found


def register(spark: SparkSession, config: Config, version: str, name: str = NAME) -> None:
    """Make a function of this name known to the session's SQL; raises DataError as `predict` does.

    It takes one struct, such as `struct(*)`, that has the model's columns among its fields, and gives what `predict`
    does. In an id it takes no null: pandas has none, and would make inexact floats of all.
    """
    spark.udf.register(name, _function(config, version))


def _sent(column: schema.Column) -> Column:
    """A column of the model's as pandas can hold it: ids are whole numbers only as long as none is null."""
    value, absent = F.col(column.name).cast(column.spark), F.lit(ABSENT).cast("bigint")
    if column.type != "int64":
        return value
    if column.length is None:
        return F.coalesce(value, absent)
    return F.transform(value, lambda entry: F.coalesce(entry, absent))


def _function(config: Config, version: str) -> Any:
    scoring.check_model(config, version)
    models, batch_size = config.scoring.models, config.scoring.batch_size
    columns, options = schema.feature_columns(config), storage.handed_over(config.storage)

    def predictions(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        storage.configure(options)
        model = scoring.loaded(models, version)
        for frame in frames:
            yield pd.DataFrame(scoring.predict_in_batches(model, _arrays(frame, columns), batch_size))

    return pandas_udf(predictions, _RESULT)  # type: ignore[call-overload]


def _arrays(frame: pd.DataFrame, columns: Sequence[schema.Column]) -> dict[str, np.ndarray]:
    """The fields of a batch's structs that the model takes, each [rows] or [rows, length]."""
    for column in columns:
        if column.name not in frame:
            raise DataError(f"column {column.name}", expected="a field of the struct", found="no such field")
    return {
        column.name: (_scalars if column.length is None else _lists)(frame[column.name], column)
        for column in columns
    }


def _scalars(values: pd.Series, column: schema.Column) -> np.ndarray:
    return _checked(values.to_numpy(), column)


def _lists(values: pd.Series, column: schema.Column) -> np.ndarray:
    # A list without entries has no type of its own: joined with the others, it would make floats of their ids.
    there = [entries for entries in values if entries is not None and len(entries)]
    flat = np.concatenate(there) if there else np.empty(0, column.type)
    lengths = np.array([0 if entries is None else len(entries) for entries in values], np.int64)
    return padded(_checked(flat, column), lengths, column)


def _checked(values: np.ndarray, column: schema.Column) -> np.ndarray:
    """The values in the column's type; of numbers, a null has become NaN, and is 0."""
    if not np.can_cast(values.dtype, column.type, "same_kind"):
        expected = f"{column.type}, without a null" if column.type == "int64" else column.type
        raise DataError(f"column {column.name}", expected=expected, found=str(values.dtype))
    if column.type == "int64":
        return values.astype(column.type, copy=False)
    return np.nan_to_num(values.astype(column.type, copy=False), posinf=np.inf, neginf=-np.inf)
