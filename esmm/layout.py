"""Rows of samples to files made for training.

    rows ─ each to a file of its day, by a seeded hash of the exposure's id ─ sorted by it ─▶ one file a task and day

The order of a day's rows depends on the seed alone, and so does the file a row goes to: files of a day differ in
size by chance alone (of 65 536 rows, by 256 or so), and are the same whatever days are written with it. A file's
row groups have samples.rows_per_group rows each;
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
from itertools import accumulate, groupby
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark import TaskContext
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm import schema, storage
from esmm.config import Config
from esmm.padding import to_array
from esmm.schema import DAY

_ATTEMPTS = "_attempts"
_EPOCH = dt.date(1970, 1, 1)
_PART = "_part"
_WRITTEN = pa.schema([(DAY, pa.string()), ("path", pa.string())])


def write(rows: DataFrame, directory: str, config: Config, *, rows_of: Mapping[dt.date, int]) -> bool:
    """Write one directory `ds=DAY` a day; whether there were rows to write.

    `rows` are as `esmm.features.described` gives them; `rows_of` is how many each day has, at least.
    """
    files_of = {day: math.ceil(rows / config.samples.rows_per_file) for day, rows in rows_of.items()}
    tasks = max(files_of.values())
    draw = F.xxhash64("exposure_id", F.lit(config.seed))
    day = F.unix_date(F.col(DAY).cast("date"))
    file = F.pmod(draw, _of_day(files_of, day))
    # One number to group by, the day and its file (16 bits), and one to sort by, with the draw's upper bits behind.
    part = F.shiftleft(day.cast("bigint"), 16).bitwiseOR(file)
    place = F.shiftleft(_PART, 32).bitwiseOR(F.shiftrightunsigned(draw, 32))
    # Days begin where the one before ended, or the first tasks would get all of what short ones have.
    first = dict(zip(files_of, accumulate(files_of.values(), initial=0), strict=False))
    task = F.pmod(_of_day(first, day) + file, F.lit(tasks)).cast("int")
    keys = F.array(*map(F.lit, keys_of_tasks(rows.sparkSession, tasks)))
    # Half of what would do, since the files of a day are not quite equal.
    most = {day: max(1, rows // (2 * config.training.ranks)) for day, rows in rows_of.items()}
    groups = {day: min(config.samples.rows_per_group, rows) for day, rows in most.items()}
    written = (
        rows.withColumn(_PART, part)
        .repartition(tasks, keys[task])
        .sortWithinPartitions(place, "exposure_id")
        .mapInArrow(_writer(directory, config, groups), f"{DAY} string, path string")
        .collect()
    )
    if written:
        _keep(directory, [(row[DAY], row["path"]) for row in written])
    return bool(written)


def _of_day(values: Mapping[dt.date, int], day: Column) -> Column:
    """The value of each row's day, which is given in days since 1970."""
    start = min(values)
    days = range((max(values) - start).days + 1)
    held = F.array(*[F.lit(values.get(start + dt.timedelta(days=after), 1)) for after in days])
    return held[day - F.lit((start - _EPOCH).days)]


def keys_of_tasks(spark: SparkSession, tasks: int) -> list[int]:
    """For each task a number that is sent there: Spark takes no task's number, but hashes what it distributes by."""
    found: dict[int, int] = {}
    tried = 0
    while len(found) < tasks:
        numbers = F.sequence(F.lit(tried), F.lit(tried + 20 * tasks - 1))
        hashed = F.transform(numbers, lambda number: F.pmod(F.hash(number), F.lit(tasks)))
        # Nothing runs for this one row: Spark folds it while it plans.
        [row] = spark.sql("select 1").select(hashed).collect()
        for number, task in enumerate(row[0], start=tried):
            found.setdefault(task, number)
        tried += 20 * tasks
    return [found[task] for task in range(tasks)]


def _writer(
    directory: str, config: Config, groups: Mapping[dt.date, int]
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What one task does: rows sorted by file to these, in row groups of so many rows, and their days and paths."""
    columns, written = schema.sample_columns(config), schema.arrow_schema(config)
    options = storage.handed_over(config.storage)
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
        for part, rows in groupby(_parts(batches), key=itemgetter(0)):
            day, file_of_day = _EPOCH + dt.timedelta(days=part >> 16), part & 0xFFFF
            path = f"{root}/{_ATTEMPTS}/{DAY}={day}/{file_of_day:05d}-{task.taskAttemptId()}.parquet"
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            with (
                fs.open(path, "wb") as file,
                pq.ParquetWriter(file, written, use_dictionary=repeated) as writer,
            ):
                for row_group in row_groups((table(batch) for _, batch in rows), groups[day]):
                    writer.write_table(row_group, row_group_size=row_group.num_rows)
            yield pa.RecordBatch.from_arrays([pa.array([str(day)]), pa.array([path])], schema=_WRITTEN)

    return write_task


def _parts(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of rows sorted by file, each cut where the file changes."""
    for batch in batches:
        parts, start = pc.run_end_encode(batch.column(_PART)), 0
        for part, end in zip(parts.values.to_pylist(), parts.run_ends.to_pylist(), strict=True):
            yield part, batch.slice(start, end - start)
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
