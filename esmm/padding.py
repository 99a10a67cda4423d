"""Lists of different lengths to arrays of one length, without a Python object a row.

    padded(np.array([7, 8, 9]), lengths=np.array([2, 0, 1]), length=2, padding=-1)
    # [[7, 8], [-1, -1], [9, -1]]

What is padded where: the samples as they are written (`esmm.layout`), candidates as they are scored
(`esmm.scoring`). Until then lists travel as long as they are, which is about half as long.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from esmm.schema import ABSENT, Column


def padded(flat: np.ndarray, lengths: np.ndarray, length: int, padding: float) -> np.ndarray:
    """The lists, one after the other in `flat`, as [rows, length]; raises ValueError where one is longer."""
    rows = len(lengths)
    if rows and lengths.max() > length:
        raise ValueError(f"expected lists of at most {length}, found one of {lengths.max()}")
    if len(flat) == rows * length:  # as samples have them
        return flat.reshape(rows, length)
    found = np.full(rows * length, padding, flat.dtype)
    starts = np.cumsum(lengths) - lengths
    # Entry k of row r, which stands at starts[r] + k, goes to r · length + k.
    found[np.arange(len(flat)) + np.repeat(np.arange(rows) * length - starts, lengths)] = flat
    return found.reshape(rows, length)


def to_array(values: pa.Array, column: Column) -> np.ndarray:
    """A column of a batch as the samples hold it: [rows], or [rows, length]; what is null is absent, or 0."""
    padding = ABSENT if column.type == "int64" else 0
    if column.length is None:
        return np.asarray(_filled(values, padding)).astype(column.type, copy=False)
    flat = np.asarray(_filled(values.flatten(), padding)).astype(column.type, copy=False)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(values), 0))
    return padded(flat, lengths, column.length, padding)


def _filled(values: pa.Array, padding: float) -> pa.Array:
    return pc.fill_null(values, padding) if values.null_count else values
