"""Row groups as arrays: the values that were written, or an error that names the file and the column."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow.fs import LocalFileSystem

from esmm import rowgroups
from esmm.errors import DataError
from esmm.plan import make_plan
from esmm.rowgroups import RowGroup, load, plain_type, read_footer
from tests.sample_files import COLUMNS, LARGE, expected, table, with_column, write, write_tables

IDS, FLOATS = pa.list_(pa.int64()), pa.list_(pa.float32())


class Arrow(ArrowFSWrapper):
    """A storage of Arrow's behind fsspec, as Hadoop's is."""

    protocol = "arrow"

    def __init__(self, **options: Any) -> None:
        super().__init__(fs=LocalFileSystem(), **options)


fsspec.register_implementation("arrow", Arrow, clobber=True)


@pytest.fixture(params=["file", "memory", "arrow"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}://{tmp_path}/a.parquet"


def row_groups(url: str) -> tuple[RowGroup, ...]:
    """As a plan has them, whatever is in them."""
    return make_plan(url, None, ()).row_groups


def test_values_types_and_shapes_are_those_written(url: str) -> None:
    write(url, (5, 3))
    for group, numbers in zip(row_groups(url), (np.arange(5), np.arange(5, 8)), strict=True):
        arrays = load(group, COLUMNS)
        assert list(arrays) == [column.name for column in COLUMNS]
        for name, values in expected(numbers).items():
            assert arrays[name].dtype == values.dtype
            assert arrays[name].flags.c_contiguous
            np.testing.assert_array_equal(arrays[name], values)


def test_only_the_columns_asked_for_are_read_in_the_order_asked_for(url: str) -> None:
    write(url, (4,))
    arrays = load(row_groups(url)[0], [COLUMNS[5], COLUMNS[0]])
    assert list(arrays) == ["clicked_seller", "user_id"]


def test_two_who_read_one_file_do_not_move_each_other(url: str) -> None:
    """Memory's storage gives all who open a file the same object, position and all."""
    write(url, (4,))
    with rowgroups._opened(url) as first, rowgroups._opened(url) as second:
        assert first.read(4) == second.read(4) == b"PAR1"
        first.seek(first.size() - 4)
        assert [first.read(), first.read()] == [b"PAR1", b""]
        assert second.tell() == 4


def test_large_ids_survive(url: str) -> None:
    ids = [LARGE, 2**63 - 1, -1]
    lists = pa.array([[LARGE, 2**63 - 1, LARGE + 2]] * 3, IDS)
    samples = with_column(with_column(table(0, 3), "seller", pa.array(ids)), "clicked_seller", lists)
    write_tables(url, [samples])
    arrays = load(row_groups(url)[0], COLUMNS)
    assert arrays["seller"].tolist() == [9007199254740993, 9223372036854775807, -1]
    assert arrays["clicked_seller"][0].tolist() == [9007199254740993, 9223372036854775807, 9007199254740995]


BAD_VALUES = {
    "a null id": ("seller", pa.array([LARGE, None, 3, None], pa.int64()),
                  "expected no null, found 2 of them, the first in row 1 of row group 1"),
    "a null label": ("click", pa.array([0, 1, 0, None], pa.int8()),
                     "expected no null, found 1 of them, the first in row 3 of row group 1"),
    "no list": ("clicked_seller", pa.array([[1, 2, 3], None, [1, 2, 3], [4, 5, 6]], IDS),
                "expected no null, found 1 of them, the first in row 1 of row group 1"),
    "a null in a list": ("clicked_seller", pa.array([[1, 2, 3], [1, 2, 3], [4, 5, None], [7, 8, 9]], IDS),
                         "expected no null, found 1 of them, the first in row 2 of row group 1"),
    "a short list": ("clicked_weight", pa.array([[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2]], FLOATS),
                     "expected lists of 3, found 2 entries in row 3 of row group 1"),
    "lists right on average": ("clicked_seller", pa.array([[1, 2, 3], [1, 2], [1, 2, 3, 4], [1, 2, 3]], IDS),
                               "expected lists of 3, found 2 entries in row 1 of row group 1"),
    "an empty list": ("clicked_seller", pa.array([[], [1, 2, 3], [1, 2, 3], [1, 2, 3]], IDS),
                      "expected lists of 3, found 0 entries in row 0 of row group 1"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_VALUES)
def test_a_bad_value_is_named(tmp_path: Path, bad: str) -> None:
    name, values, message = BAD_VALUES[bad]
    url = f"file://{tmp_path}/a.parquet"
    write_tables(url, [table(0, 2), with_column(table(2, 4), name, values)])
    good, wrong = row_groups(url)
    load(good, COLUMNS)
    with pytest.raises(DataError, match=f"^{url}, column {name}: {message}$"):
        load(wrong, COLUMNS)


def test_a_column_is_not_taken_for_another_whose_name_goes_on_after_a_dot(url: str) -> None:
    """Both are sound, but for nulls in one: of that one's alone is it said that there are any."""
    nulls, dotted = pa.array([1, None, 3], pa.int64()), replace(COLUMNS[3], name="seller.raw")
    samples = table(0, 3)
    for place in (0, samples.num_columns):
        write_tables(url, [samples.add_column(place, "seller.raw", nulls)])
        read_footer(url, COLUMNS)
        with pytest.raises(
            DataError, match=r"column seller\.raw: expected no null, found 3 values and 1 nulls"
        ):
            read_footer(url, [dotted])
        write_tables(
            url, [with_column(samples, "seller", nulls).add_column(place, "seller.raw", samples["seller"])]
        )
        read_footer(url, [dotted])
        with pytest.raises(DataError, match="column seller: expected no null, found 3 values and 1 nulls"):
            read_footer(url, COLUMNS)


def test_a_file_replaced_by_one_of_another_schema_is_named(tmp_path: Path) -> None:
    url = write(f"file://{tmp_path}/a.parquet", (4,))
    (group,) = row_groups(url)
    for name, values, found in [
        ("seller", pa.array([1.0] * 4), "double"),
        ("clicked_seller", None, "no column"),
    ]:
        changed = table(0, 4).drop_columns([name])
        write_tables(url, [changed if values is None else changed.append_column(name, values)])
        as_long = replace(group, bytes=(tmp_path / "a.parquet").stat().st_size)
        with pytest.raises(DataError, match=f"a.parquet, column {name}: expected .*int64>?, found {found}$"):
            load(as_long, COLUMNS)


def test_a_file_of_other_row_groups_is_named(tmp_path: Path) -> None:
    (group,) = row_groups(write(f"file://{tmp_path}/a.parquet", (4,)))
    with pytest.raises(DataError, match="row group 0: expected 5 rows, as planned, found 4"):
        load(replace(group, rows=5), COLUMNS)
    with pytest.raises(DataError, match="row group 1: expected 4 rows, as planned, found no such row group"):
        load(replace(group, index=1), COLUMNS)


def test_a_file_of_another_length_is_named(tmp_path: Path) -> None:
    url, path = f"file://{tmp_path}/a.parquet", tmp_path / "a.parquet"
    (group,) = row_groups(write(url, (40,)))
    length = path.stat().st_size
    path.write_bytes(path.read_bytes()[: length // 2])
    with pytest.raises(
        DataError, match=rf"a\.parquet: expected {length} bytes, as planned, found {length // 2}$"
    ):
        load(group, COLUMNS)
    write(url, (41,))
    with pytest.raises(DataError, match=rf"a\.parquet: expected {length} bytes, as planned"):
        load(group, COLUMNS)


def test_a_file_that_is_gone_or_no_parquet_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^{url}: expected a Parquet file, found no file$"):
        load(RowGroup(url, 100, 0, 4), COLUMNS)
    (tmp_path / "b.parquet").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match=r"b\.parquet: expected a readable Parquet file, found .*footer"):
        load(RowGroup(f"file://{tmp_path}/b.parquet", 100, 0, 4), COLUMNS)
    with pytest.raises(DataError, match="expected a readable Parquet file, found"):
        load(RowGroup(f"file://{tmp_path}", 100, 0, 4), COLUMNS)


@pytest.mark.parametrize(("arrow", "plain"), [
    ("list<element: int64>", "list<int64>"), ("list<item: float not null>", "list<float>"), ("int64", "int64"),
    ("list<item: list<item: int64>>", "list<item: list<item: int64>>"),
])  # fmt: skip
def test_types_are_told_without_what_writers_differ_in(arrow: str, plain: str) -> None:
    assert plain_type(arrow) == plain
