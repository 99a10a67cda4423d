"""One row group of a Parquet file as flat arrays, checked against the columns that it must hold.

    group = RowGroup(url="file:///samples/part-0.parquet", bytes=48_211, index=0, rows=16_384)
    load(group, [Column("seller", "int64", FEATURE), Column("clicked_seller", "int64", FEATURE, 20)])
    # {"seller": int64[16384], "clicked_seller": int64[16384, 20]}

A list column is its values, end to end, reshaped: there is no Python object a row, and no copy. Nulls,
lists of another length, other types and files that are not the ones planned are errors here, never values:
a null would turn ids into floats, which hold integers up to 2^53 alone.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.arrow import ArrowFSWrapper

from esmm import storage
from esmm.errors import DataError
from esmm.schema import Column


@dataclass(frozen=True)
class RowGroup:
    """A row group to read."""

    url: str
    """The file's address, on any storage that fsspec opens."""
    bytes: int
    """The file's length."""
    index: int
    """The row group's place in the file, from 0."""
    rows: int


class Footer(NamedTuple):
    """What a Parquet file says of itself."""

    bytes: int
    row_groups: tuple[int, ...]
    """Rows of each."""
    types: dict[str, str]
    """Column to type, as `plain_type` writes it."""


def plain_type(arrow: str) -> str:
    """An Arrow type's name without what two writers of the same data may differ in.

    >>> plain_type("list<element: int64 not null>")
    'list<int64>'
    """
    return re.sub(r"^list<[^:]*: (\w+)( not null)?>$", r"list<\1>", arrow)


def check_columns(where: str, types: Mapping[str, str], columns: Sequence[Column]) -> None:
    """Raise DataError, naming the column, where one is missing from `types` or of another type there."""
    for column in columns:
        expected, found = plain_type(str(column.arrow.type)), types.get(column.name)
        if found != expected:
            raise DataError(f"{where}, column {column.name}", expected=expected, found=found or "no column")


def read_footer(url: str, columns: Sequence[Column]) -> Footer:
    """Read a file's footer, and check what it says of some columns.

    Raises DataError, naming the file and where there is one the column: it is not a Parquet file; a column is
    missing or of another type, has nulls, or its lists have more or fewer entries than they should on average.
    """
    with _opened(url) as source:
        file = pq.ParquetFile(source)
        footer = Footer(source.size(), _rows(file), _types(file.schema_arrow))
        check_columns(url, footer.types, columns)
        _check_counts(url, file.metadata, columns)
        return footer


def load(group: RowGroup, columns: Sequence[Column]) -> dict[str, np.ndarray]:
    """Read columns of a row group.

    Returns, by name, arrays of the columns' types, [rows] or [rows, length], contiguous and read-only.

    Raises DataError, naming the file and where there is one the column: the file is missing, of another
    length than planned or not Parquet; the row group has another number of rows; a column is missing or of
    another type; there is a null; a list is not exactly as long as its column says. That is a StorageError where the
    storage failed instead, and another try may succeed.
    """
    with _opened(group.url) as source:
        if source.size() != group.bytes:
            raise DataError(group.url, expected=f"{group.bytes} bytes, as planned", found=str(source.size()))
        # One request for neighbouring columns pays where a request has a price: not on local disk. There, a column
        # at a time takes less memory on the way.
        is_far = isinstance(source, pa.PythonFile)
        file = pq.ParquetFile(source, pre_buffer=is_far)
        rows = dict(enumerate(_rows(file))).get(group.index)
        if rows != group.rows:
            raise DataError(f"{group.url}, row group {group.index}", expected=f"{group.rows} rows, as planned",
                            found="no such row group" if rows is None else f"{rows}")  # fmt: skip
        check_columns(group.url, _types(file.schema_arrow), columns)
        arrays: dict[str, np.ndarray] = {}
        for some in [columns] if is_far else [[column] for column in columns]:
            # The pool's threads are the parallelism; Arrow's own would compete with them and with TensorFlow's.
            table = file.read_row_group(group.index, [column.name for column in some], use_threads=False)
            arrays |= {column.name: _flat(table[column.name], column, group) for column in some}
        return arrays


def _check_counts(url: str, metadata: pq.FileMetaData, columns: Sequence[Column]) -> None:
    """Compare the counts of values and nulls with what the columns should have; writers may leave out the nulls'."""
    leaves = (metadata.schema.column(place) for place in range(metadata.num_columns))
    # A list's is "seller.list.element"; a name may have dots of its own.
    names = (leaf.path.rsplit(".", 2)[0] if leaf.max_repetition_level else leaf.path for leaf in leaves)
    places = {name: place for place, name in enumerate(names)}
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        for column in columns:
            chunk = group.column(places[column.name])
            statistics = chunk.statistics
            nulls = statistics.null_count if statistics is not None and statistics.has_null_count else 0
            if nulls or chunk.num_values != group.num_rows * (column.length or 1):
                expected = "no null" if column.length is None else f"lists of {column.length} without nulls"
                found = f"{chunk.num_values} values and {nulls} nulls in {group.num_rows} rows of row group {index}"
                raise DataError(f"{url}, column {column.name}", expected=expected, found=found)


def _rows(file: pq.ParquetFile) -> tuple[int, ...]:
    return tuple(file.metadata.row_group(index).num_rows for index in range(file.num_row_groups))


def _types(schema: pa.Schema) -> dict[str, str]:
    return {field.name: plain_type(str(field.type)) for field in schema}


def _flat(chunks: pa.ChunkedArray, column: Column, group: RowGroup) -> np.ndarray:
    array = chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()
    _refuse_nulls(array, 1, column, group)
    if column.length is None:
        return array.to_numpy()
    lengths = np.diff(array.offsets.to_numpy())
    wrong = np.flatnonzero(lengths != column.length)
    if wrong.size:
        raise DataError(f"{group.url}, column {column.name}", expected=f"lists of {column.length}",
                        found=f"{lengths[wrong[0]]} entries {_place(wrong[0], group)}")  # fmt: skip
    values = array.flatten()
    _refuse_nulls(values, column.length, column, group)
    return values.to_numpy().reshape(len(array), column.length)


def _refuse_nulls(values: pa.Array, width: int, column: Column, group: RowGroup) -> None:
    if values.null_count:
        first = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]
        raise DataError(f"{group.url}, column {column.name}", expected="no null",
                        found=f"{values.null_count} of them, the first {_place(first // width, group)}")  # fmt: skip


def _place(row: int, group: RowGroup) -> str:
    return f"in row {row} of row group {group.index}"


@contextmanager
def _opened(url: str) -> Iterator[pa.NativeFile]:
    """A file for Arrow to read; what goes wrong while it is open becomes a DataError that names it."""
    fs, path = storage.at(url)
    with storage.explained(url, "a Parquet file"):
        local = storage.is_local(fs)
        with pa.OSFile(path) if local else pa.PythonFile(_Ranges(fs, path), mode="r") as source:
            yield source


class _Ranges(io.RawIOBase):
    """A file of any fsspec storage, each read one request for one range of bytes.

    Storages' own file objects read ahead, which columns do not need, and memory's is one object shared by
    all who open it, position and all.
    """

    def __init__(self, fs: fsspec.AbstractFileSystem, path: str) -> None:
        self._fs, self._path = fs, path
        # Arrow's storages, such as Hadoop's, else open what begins at 0 as a stream, and then seek in it.
        self._options = {"seekable": True} if isinstance(fs, ArrowFSWrapper) else {}
        self._size: int = fs.size(path)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def read(self, size: int | None = -1) -> Any:
        start = self._position
        end = self._size if size is None or size < 0 else min(start + size, self._size)
        if start >= end:
            return b""
        self._position = end
        return self._fs.cat_file(self._path, start=start, end=end, **self._options)
