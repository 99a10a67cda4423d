"""Files made for training: sizes, row groups, an order that the seed decides, no row lost or doubled."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm import layout, schema
from esmm.config import Config, parse

DAYS = [dt.date(2026, 3, 24), dt.date(2026, 3, 25)]


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 30), max_size=12), rows=st.integers(1, 12))
def test_row_groups_have_the_rows_asked_for_and_the_last_what_is_left(sizes: list[int], rows: int) -> None:
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    tables = [
        pa.table({"n": pa.array(range(end - size, end), pa.int64())})
        for end, size in zip(ends, sizes, strict=True)
    ]
    groups = list(layout.row_groups(tables, rows))
    assert [n for group in groups for n in group["n"].to_pylist()] == list(range(sum(sizes)))
    assert all(group.num_rows == rows for group in groups[:-1])
    if len(groups) > 1:
        assert 0.5 * rows <= groups[-1].num_rows < 1.5 * rows


def described(spark: SparkSession, config: Config, rows: int) -> DataFrame:
    """Rows of two days in equal parts, lists unpadded: row n clicked n % 4 items."""
    entries = F.expr("slice(sequence(1L, 5L), 1, cast(id % 4 as int))")
    known = {"exposure_id": F.col("id"), "ds": F.expr("if(id % 2 = 0, '2026-03-24', '2026-03-25')")}
    for column in schema.sample_columns(config):
        made = F.lit(1) if column.length is None else entries
        known.setdefault(column.name, made.cast(column.spark))
    return spark.range(rows).select(*[value.alias(name) for name, value in known.items()])


@pytest.fixture
def small(config: Config) -> Config:
    """Files of about 100 rows, row groups of 30, three ranks."""
    values = config.model_dump(mode="json")
    values["samples"] |= {"rows_per_file": 100, "rows_per_group": 30}
    values["training"] |= {"ranks": 3}
    return parse(values)


@pytest.fixture
def write(spark: SparkSession, small: Config, tmp_path: Path) -> Callable[..., list[list[pa.Table]]]:
    """Writes rows and returns, for each day, a table a file."""

    def written(rows: int, name: str = "run") -> list[list[pa.Table]]:
        directory = tmp_path / name
        frame = described(spark, small, rows).repartition(3)
        layout.write(frame, str(directory), small, rows_of=dict.fromkeys(DAYS, rows // 2))
        assert not (directory / "_attempts").exists()
        return [
            [pq.read_table(path, partitioning=None) for path in sorted((directory / f"ds={day}").iterdir())]
            for day in DAYS
        ]

    return written


def test_every_row_once_in_files_of_about_equal_size(write: Callable[..., list[list[pa.Table]]]) -> None:
    for parity, files in enumerate(write(2000)):
        ids = [n for file in files for n in file["exposure_id"].to_pylist()]
        assert sorted(ids) == list(range(parity, 2000, 2))
        assert ids != sorted(ids)
        assert len(files) == 10
        # Binomial, 100 ± 9.5: beyond five standard deviations is no chance.
        assert all(50 < file.num_rows < 150 for file in files)


def test_lists_are_padded(write: Callable[..., list[list[pa.Table]]], small: Config) -> None:
    [name, behaviour] = next(iter(small.lists.items()))
    column = schema.list_column(name, behaviour, behaviour.entities[0])
    table = write(40)[1][0]
    for key, entries in zip(table["exposure_id"].to_pylist(), table[column.name].to_pylist(), strict=True):
        real = list(range(1, 1 + key % 4))
        assert entries == real + [-1] * (behaviour.length - len(real))
    assert table.schema.equals(schema.arrow_schema(small))


def test_the_same_rows_make_the_same_files(write: Callable[..., list[list[pa.Table]]]) -> None:
    first, second = write(500), write(500, "again")
    assert [[file.to_pydict() for file in day] for day in first] == [
        [file.to_pydict() for file in day] for day in second
    ]


def test_a_small_day_does_not_make_the_others_row_groups_small(
    spark: SparkSession, small: Config, tmp_path: Path
) -> None:
    """Of 8 and 1,000 rows, for three ranks: one row a row group, and 30."""
    rows = described(spark, small, 2000).where("exposure_id % 2 = 1 or exposure_id < 16")
    layout.write(rows, str(tmp_path), small, rows_of={DAYS[0]: 8, DAYS[1]: 1000})
    sizes = {
        day: {
            pq.read_metadata(path).row_group(0).num_rows
            for path in (tmp_path / f"ds={day}").glob("*.parquet")
        }
        for day in DAYS
    }
    assert sizes == {DAYS[0]: {1}, DAYS[1]: {30}}


def test_a_day_has_the_same_files_alone_as_with_others(
    spark: SparkSession, small: Config, tmp_path: Path
) -> None:
    """Of 250 and 1,000 rows: three files of their own, not ten of 25 rows; the second day's begin elsewhere."""
    rows = described(spark, small, 2000).where("exposure_id % 2 = 1 or exposure_id < 500")
    sizes = {DAYS[0]: 250, DAYS[1]: 1000}

    def files(name: str, days: list[dt.date]) -> dict[str, dict[str, list[object]]]:
        of_days = rows.where(F.col("ds").isin([str(day) for day in days])).repartition(3)
        directory = tmp_path / name
        layout.write(of_days, str(directory), small, rows_of={day: sizes[day] for day in days})
        return {
            str(path.relative_to(directory)): pq.read_table(path, partitioning=None).to_pydict()
            for path in directory.rglob("*.parquet")
        }

    together = files("together", DAYS)
    assert together == files("first", DAYS[:1]) | files("second", DAYS[1:])
    assert sum(str(DAYS[0]) in path for path in together) == 3
    assert sum(str(DAYS[1]) in path for path in together) == 10


@pytest.mark.parametrize("tasks", [1, 2, 7, 64])
def test_each_task_has_a_key_that_leads_to_it(spark: SparkSession, tasks: int) -> None:
    keys = layout.keys_of_tasks(spark, tasks)
    rows = spark.createDataFrame(list(enumerate(keys)), "task int, key int").repartition(tasks, "key")
    found = rows.select("task", F.spark_partition_id()).collect()
    assert sorted(map(tuple, found)) == [(task, task) for task in range(tasks)]


def test_row_groups_in_the_files(write: Callable[..., list[list[pa.Table]]], tmp_path: Path) -> None:
    """Of about 100 rows: 30, 30, and one or two more; 4 rows a day and three ranks: a row group a row."""
    write(2000)
    for path in (tmp_path / "run").glob("ds=*/*.parquet"):
        metadata = pq.read_metadata(path)
        sizes = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        assert set(sizes[:-1]) == {30}
        assert 15 <= sizes[-1] < 45
    write(8, "few")
    for day in DAYS:
        [path] = (tmp_path / f"few/ds={day}").glob("*.parquet")
        assert pq.read_metadata(path).num_row_groups == 4
