"""Rows of samples to files made for training.

    rows ─ shuffled by a seeded hash of the exposure's id ─ sorted by it within each day ─▶ one file a task and day

The order of a day's rows hangs on the seed alone, and so does the file a row goes to: files of a day differ in
size by chance alone (of 65 536 rows, by 256 or so). A file's row groups have samples.rows_per_group rows each;
the last takes what is left, half as many to one and a half times as many.

Files are written by Arrow inside the tasks, which is several times as fast for lists as Spark's own writer, and
which decides itself where a row group ends. A task may run twice (its executor was lost, or thought to be lost):
each attempt writes files of its own under `_attempts`, and the driver moves those of the attempt that Spark
counts. No row is doubled.
"""

import datetime as dt
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from esmm import schema, storage
from esmm.config import Config
from esmm.padding import to_array
from esmm.schema import DAY

_ATTEMPTS = "_attempts"
_WRITTEN = pa.schema([(DAY, pa.string()), ("path", pa.string())])


def write(rows: DataFrame, directory: str, config: Config, *, rows_of: Mapping[dt.date, int]) -> bool:
    """Write one directory `ds=DAY` a day; whether there were rows to write.

    `rows` are as `esmm.features.described` gives them; `rows_of` is how many each day has, at least.
    """
    files = math.ceil(max(rows_of.values()) / config.samples.rows_per_file)
    draw = F.xxhash64("exposure_id", F.lit(config.seed))
    # One number to sort by: the day (20 bits), then the draw's upper bits.
    place = F.shiftleft(F.unix_date(F.col(DAY).cast("date")).cast("bigint"), 44).bitwiseOR(
        F.shiftrightunsigned(draw, 20)
    )
    # Half of what would do, since the files of a day are not quite equal.
    most = {day: max(1, rows // (2 * config.training.ranks)) for day, rows in rows_of.items()}
    groups = {str(day): min(config.samples.rows_per_group, rows) for day, rows in most.items()}
    written = (
        rows.repartition(files, draw)
        .sortWithinPartitions(place, "exposure_id")
        .mapInArrow(_writer(directory, config, groups), f"{DAY} string, path string")
        .collect()
    )
    if written:
        _keep(directory, [(row[DAY], row["path"]) for row in written])
    return bool(written)


def _writer(
    directory: str, config: Config, groups: Mapping[str, int]
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What one task does: rows sorted by day to a file for each day, in row groups of so many rows, and their paths."""
    columns, written = schema.sample_columns(config), schema.arrow_schema(config)
    options = config.storage
    # Where values are nearly all different, a dictionary makes files larger, and writing slower.
    different = {"exposure_id", "exposed_at"} | {
        column.name for column in columns if column.length is not None and column.type == "float32"
    }
    repeated = [
        column.name if column.length is None else f"{column.name}.list.element"
        for column in columns
        if column.name not in different
    ]

    def table(batch: pa.RecordBatch) -> pa.Table:
        arrays = [_arrow(to_array(batch.column(column.name), column)) for column in columns]
        return pa.Table.from_arrays(arrays, schema=written)

    def write_task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        task = TaskContext.get()
        assert task is not None
        storage.configure(options)
        fs, root = storage.at(directory)
        for day, rows in groupby(_parts(batches), key=itemgetter(0)):
            path = f"{root}/{_ATTEMPTS}/{DAY}={day}/{task.partitionId():05d}-{task.taskAttemptId()}.parquet"
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            with (
                fs.open(path, "wb") as file,
                pq.ParquetWriter(file, written, use_dictionary=repeated) as writer,
            ):
                for row_group in row_groups((table(batch) for _, batch in rows), groups[day]):
                    writer.write_table(row_group, row_group_size=row_group.num_rows)
            yield pa.RecordBatch.from_arrays([pa.array([day]), pa.array([path])], schema=_WRITTEN)

    return write_task


def _parts(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Batches of rows sorted by day, each cut where the day changes."""
    for batch in batches:
        days, start = pc.run_end_encode(batch.column(DAY)), 0
        for day, end in zip(days.values.to_pylist(), days.run_ends.to_pylist(), strict=True):
            yield day, batch.slice(start, end - start)
            start = end


def row_groups(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The tables' rows in tables of `rows` each; the last has from half as many to one and a half times as many."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += table.num_rows
        while count >= 1.5 * rows:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, rows)
            waiting, count = [whole.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(waiting)


def _arrow(values: np.ndarray) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    rows, length = values.shape
    offsets = np.arange(0, rows * length + 1, length, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1)))


def _keep(directory: str, written: Sequence[tuple[str, str]]) -> None:
    """Move the files that count into their days' directories, and remove those of other attempts."""
    fs, root = storage.at(directory)

    def move(file: tuple[str, str]) -> None:
        day, path = file
        part = path.rpartition("/")[2].partition("-")[0]
        fs.mv(path, f"{root}/{DAY}={day}/part-{part}.parquet")

    for day in {day for day, _ in written}:
        fs.makedirs(f"{root}/{DAY}={day}", exist_ok=True)
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(move, written))
    fs.rm(f"{root}/{_ATTEMPTS}", recursive=True)
