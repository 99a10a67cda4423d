"""Lists of different lengths to arrays of one length, without a Python object a row.

    padded(np.array([7, 8, 9]), lengths=np.array([2, 0, 1]), Column("clicked_item", "int64", FEATURE, length=2))
    # [[7, 8], [-1, -1], [9, -1]]

What is padded where: the samples as they are written (`esmm.layout`), candidates as they are scored
(`esmm.scoring`). Until then lists travel as long as they are, which is about half as long.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from esmm.errors import DataError
from esmm.schema import ABSENT, Column


def padded(flat: np.ndarray, lengths: np.ndarray, column: Column) -> np.ndarray:
    """The lists of a column, one after the other in `flat`, as [rows, length].

    Raises DataError, naming the column, where one is longer.
    """
    rows, length = len(lengths), column.length
    assert length is not None
    if rows and lengths.max() > length:
        raise DataError(f"column {column.name}", expected=f"lists of at most {length}",
                        found=f"one of {lengths.max()}")  # fmt: skip
    if len(flat) == rows * length:  # as samples have them
        return flat.reshape(rows, length)
    found = np.full(rows * length, _padding(column), flat.dtype)
    starts = np.cumsum(lengths) - lengths
    # Entry k of row r, which stands at starts[r] + k, goes to r · length + k.
    found[np.arange(len(flat)) + np.repeat(np.arange(rows) * length - starts, lengths)] = flat
    return found.reshape(rows, length)


def to_array(values: pa.Array, column: Column) -> np.ndarray:
    """A column of a batch as the samples hold it: [rows], or [rows, length]; what is null is absent, or 0.

    Raises DataError, naming the column, where it is of another type, or one of its lists is longer.
    """
    is_list = pa.types.is_list(values.type)
    kind = (values.type.value_type if is_list else values.type).to_pandas_dtype()
    # NumPy would take a float for an id, without a word.
    if is_list == (column.length is None) or not np.can_cast(kind, column.type, "same_kind"):
        raise DataError(f"column {column.name}", expected=str(column.arrow.type), found=str(values.type))
    if not is_list:
        return _scalars(values, column)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(values), 0))
    return padded(_scalars(values.flatten(), column), lengths, column)


def _scalars(values: pa.Array, column: Column) -> np.ndarray:
    filled = pc.fill_null(values, _padding(column)) if values.null_count else values
    return np.asarray(filled).astype(column.type, copy=False)


def _padding(column: Column) -> int:
    return ABSENT if column.type == "int64" else 0
