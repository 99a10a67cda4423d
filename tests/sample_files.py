"""Small Parquet files of samples in which every value of a row follows from the row's number."""

from collections.abc import Sequence

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from esmm.schema import Column, Role

COLUMNS = (
    Column("user_id", "int64", Role.KEY),
    Column("click", "int8", Role.LABEL),
    Column("weight", "float32", Role.WEIGHT),
    Column("seller", "int64", Role.FEATURE),
    Column("price", "float32", Role.FEATURE),
    Column("clicked_seller", "int64", Role.FEATURE, 3),
    Column("clicked_weight", "float32", Role.FEATURE, 3),
)
LARGE = 9007199254740993
"""2^53 + 1: the first integer that a float64 cannot hold."""


def expected(numbers: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of the rows of these numbers."""
    return {
        "user_id": numbers,
        "click": (numbers % 2).astype(np.int8),
        "weight": np.ones(len(numbers), np.float32),
        "seller": LARGE + 2 * numbers,
        "price": (numbers / 4).astype(np.float32),
        "clicked_seller": LARGE + 10 * numbers[:, None] + np.arange(3),
        "clicked_weight": (numbers[:, None] + np.arange(3) / 4).astype(np.float32),
    }


def table(start: int, rows: int) -> pa.Table:
    """Rows of consecutive numbers as Arrow holds them."""
    columns = expected(np.arange(start, start + rows))
    return pa.table({name: pa.array(values.tolist(), _type(name)) for name, values in columns.items()})


def write(url: str, row_groups: Sequence[int], start: int = 0) -> str:
    """A file of row groups of so many rows each, numbered through from `start`."""
    return write_tables(url, [table(start + sum(row_groups[:n]), rows) for n, rows in enumerate(row_groups)])


def write_tables(url: str, tables: Sequence[pa.Table]) -> str:
    """A file of one row group a table."""
    fs, path = fsspec.core.url_to_fs(url)
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    with fs.open(path, "wb") as handle, pq.ParquetWriter(handle, tables[0].schema) as writer:
        for each in tables:
            writer.write_table(each)
    return url


def with_column(samples: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """The samples with other values in one column."""
    return samples.set_column(samples.column_names.index(name), name, values)


def _type(name: str) -> pa.DataType:
    return next(column.arrow.type for column in COLUMNS if column.name == name)
