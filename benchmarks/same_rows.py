"""Whether two programs made the same samples: row by row, column by column.

check(config, ours=table.files([day]), theirs=["build/bench/samples/duckdb/ds=2026-03-02/data_0.parquet"])

Ids, times and labels must be equal, weights to 1e-6. The order of rows and files, and columns that only one side has
(statistics), do not matter.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from esmm import schema

TOLERANCE = 1e-6


class DifferentRowsError(Exception):
    """The first difference that was found."""


def check(columns: Sequence[schema.Column], ours: Sequence[str], theirs: Sequence[str]) -> int:
    """How many rows both hold; raises DifferentRowsError where rows, or columns among `columns`, differ.

    Reads a column at a time; a row is the one of the same exposure_id.
    """
    ids, their_ids = _read(ours, "exposure_id"), _read(theirs, "exposure_id")
    order, their_order = np.argsort(ids), np.argsort(their_ids)
    ids, their_ids = ids[order], their_ids[their_order]
    if not np.array_equal(ids, their_ids):
        only = np.setxor1d(ids, their_ids)[:5].tolist()
        raise DifferentRowsError(
            f"{len(ids)} and {len(their_ids)} exposures; on one side alone or twice: {only}"
        )
    if len(np.unique(ids)) != len(ids):
        raise DifferentRowsError("an exposure is there twice on both sides")
    for column in columns:
        mine = _read(ours, column.name, column.length)[order]
        other = _read(theirs, column.name, column.length)[their_order]
        equal = np.isclose(mine, other, rtol=0, atol=TOLERANCE) if column.type == "float32" else mine == other
        if not equal.all():
            row = int(np.argwhere(~equal)[0][0])
            raise DifferentRowsError(f"{column.name} of exposure {ids[row]}: {mine[row]} and {other[row]}")
    return len(ids)


def _read(files: Sequence[str], column: str, length: int | None = None) -> np.ndarray:
    """One column of files: [rows], or [rows, length]; raises DifferentRowsError where it holds nulls."""
    tables = [
        pq.read_table(file.removeprefix("file://"), columns=[column], partitioning=None) for file in files
    ]
    values = pa.concat_tables(tables)[column].combine_chunks()
    if values.null_count:
        raise DifferentRowsError(f"{column}: {values.null_count} nulls")
    if length is None:
        return values.to_numpy(zero_copy_only=False)
    entries = values.flatten()
    if len(entries) != len(values) * length or entries.null_count:
        raise DifferentRowsError(f"{column}: expected lists of {length} without nulls")
    return entries.to_numpy(zero_copy_only=False).reshape(-1, length)
