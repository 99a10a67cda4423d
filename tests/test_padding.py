"""Padding: every entry at its place, what is missing absent, nothing of large ids lost."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmm.errors import DataError
from esmm.padding import padded, to_array
from esmm.schema import Column, Role

LARGE = 2**53 + 1


@settings(deadline=None)
@given(lists=st.lists(st.lists(st.integers(0, 2**62), max_size=4)))
def test_entries_come_first_and_in_order(lists: list[list[int]]) -> None:
    flat = np.array([entry for entries in lists for entry in entries], np.int64)
    column = Column("a", "int64", Role.FEATURE, 4)
    found = padded(flat, np.array([len(entries) for entries in lists], np.int64), column)
    assert found.tolist() == [entries + [-1] * (4 - len(entries)) for entries in lists]


def test_a_list_that_is_too_long_is_not_cut() -> None:
    column = Column("a", "int64", Role.FEATURE, 2)
    with pytest.raises(DataError, match=r"^column a: expected lists of at most 2, found one of 3$"):
        to_array(pa.array([[7], [7, 8, 9]]), column)


@pytest.mark.parametrize(
    ("type_", "length", "values", "message"),
    [
        ("int64", None, pa.array([0.5, None]), "int64, found double"),
        ("int64", 2, pa.array([[0.5]]), "list<item: int64>, found list<item: double>"),
        ("int64", None, pa.array(["7"]), "int64, found string"),
        ("int64", None, pa.array([None]), "int64, found null"),
        ("float32", 2, pa.array([0.5], "float32"), "list<item: float>, found float"),
        ("float32", None, pa.array([[0.5]]), "float, found list<item: double>"),
    ],
)
def test_a_column_of_another_type_is_not_taken_for_it(
    type_: Any, length: int | None, values: pa.Array, message: str
) -> None:
    with pytest.raises(DataError, match=f"^column a: expected {message}$"):
        to_array(values, Column("a", type_, Role.FEATURE, length))


@pytest.mark.parametrize(
    ("type_", "length", "values", "expected"),
    [
        ("int64", None, [LARGE, None], [LARGE, -1]),
        ("float32", None, [0.5, None], [0.5, 0.0]),
        ("int8", None, [1, 0], [1, 0]),
        ("int64", 3, [[LARGE, None], None, []], [[LARGE, -1, -1], [-1] * 3, [-1] * 3]),
        ("int64", 2, [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        ("float32", 2, [[0.5], []], [[0.5, 0.0], [0.0, 0.0]]),
    ],
)
def test_a_column_as_the_samples_hold_it(
    type_: Any, length: int | None, values: list[Any], expected: list[Any]
) -> None:
    column = Column("a", type_, Role.FEATURE, length)
    found = to_array(pa.array(values, column.arrow.type), column)
    assert (str(found.dtype), found.tolist()) == (type_, expected)


def test_a_slice_of_a_batch_is_that_slice() -> None:
    column = Column("a", "int64", Role.FEATURE, 2)
    values = pa.array([[1], [2, 3], [4]], column.arrow.type).slice(1, 1)
    assert to_array(values, column).tolist() == [[2, 3]]


def test_no_rows() -> None:
    column = Column("a", "float32", Role.FEATURE, 2)
    assert to_array(pa.array([], column.arrow.type), column).shape == (0, 2)
