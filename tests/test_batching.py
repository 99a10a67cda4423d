"""Batches cut from row groups: against the rows' numbers, put in order by hand."""

import weakref
from collections.abc import Iterator
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esmm import batching
from esmm.batching import cut, gathered
from esmm.buffers import Arrays
from esmm.epochs import Block, Piece, spread
from esmm.rowgroups import RowGroup
from esmm.schema import Column, Role
from tests.sample_files import COLUMNS, expected

SIZES = st.lists(st.integers(1, 30), max_size=12)


def groups(sizes: list[int]) -> Iterator[Arrays]:
    start = 0
    for size in sizes:
        yield expected(np.arange(start, start + size))
        start += size


def in_blocks(sizes: list[int], per_block: int, seed: int | None) -> list[Block]:
    pieces = [Piece(RowGroup("a", 1, index, rows)) for index, rows in enumerate(sizes)]
    return [
        Block(tuple(pieces[start : start + per_block]), None if seed is None else (seed, start))
        for start in range(0, len(pieces), per_block)
    ]


def test_the_example_of_the_module() -> None:
    columns = [Column("item", "int64", Role.FEATURE)]
    row_groups = [{"item": np.array([10, 11, 12])}, {"item": np.array([13, 14])}]
    blocks = gathered(in_blocks([3, 2], 1, None), row_groups)
    batches = [batch["item"].tolist() for batch in cut(blocks, columns, 4, spread(5, 2))]
    assert batches == [[10, 11, -1, -1], [12, 13, 14, -1]]


def test_rows_are_spread_evenly() -> None:
    assert spread(5, 2) == [2, 3]
    assert spread(7, 3) == [2, 2, 3]
    assert spread(2, 4) == [0, 1, 0, 1]
    assert spread(0, 2) == [0, 0]
    assert spread(0, 0) == []


@given(rows=st.integers(0, 10_000), batch_size=st.integers(1, 300))
def test_no_batch_is_a_remainder(rows: int, batch_size: int) -> None:
    """As few batches as rows need are all as full as the mean."""
    sizes = spread(rows, -(-rows // batch_size))
    assert sum(sizes) == rows
    assert not sizes or max(sizes) <= batch_size
    assert not sizes or max(sizes) - min(sizes) <= 1


def test_padding_weighs_nothing() -> None:
    [batch] = cut([], COLUMNS, 2, [0])
    assert {name: array.tolist() for name, array in batch.items()} == {
        "user_id": [-1, -1], "click": [0, 0], "weight": [0, 0], "seller": [-1, -1], "price": [0, 0],
        "clicked_seller": [[-1, -1, -1], [-1, -1, -1]], "clicked_weight": [[0, 0, 0], [0, 0, 0]],
    }  # fmt: skip
    assert [str(array.dtype) for array in batch.values()] == [column.type for column in COLUMNS]


@given(sizes=SIZES, batch_size=st.integers(1, 40), seed=st.none() | st.integers(0, 2), part=st.integers(1, 40),
       per_block=st.integers(1, 4))  # fmt: skip
def test_batches_hold_the_rows_of_the_blocks_in_turn(
    sizes: list[int], batch_size: int, seed: int | None, part: int, per_block: int
) -> None:
    with mock.patch.object(batching, "_PART_ROWS", part):
        check_batches(in_blocks(sizes, per_block, seed), sizes, batch_size, seed)


def check_batches(planned: list[Block], sizes: list[int], batch_size: int, seed: int | None) -> None:
    def blocks() -> Iterator[batching.Gathered]:
        return gathered(planned, groups(sizes))

    order: list[int] = []
    for parts, rows in blocks():
        order += np.concatenate([part["user_id"] for part in parts])[rows].tolist()
    assert sorted(order) == list(range(sum(sizes)))
    if seed is None:
        assert order == sorted(order)
    filled = spread(sum(sizes), -(-sum(sizes) // batch_size))
    batches = list(cut(blocks(), COLUMNS, batch_size, filled))
    assert len(batches) == len(filled)
    [padding] = cut([], COLUMNS, batch_size, [0])
    start = 0
    for size, batch in zip(filled, batches, strict=True):
        due = order[start : start + size]
        start += size
        assert sorted(batch["user_id"][:size]) == sorted(due)
        for name, values in expected(batch["user_id"][:size]).items():
            assert batch[name].shape == (batch_size, *values.shape[1:])
            np.testing.assert_array_equal(batch[name][:size], values)
            np.testing.assert_array_equal(batch[name][size:], padding[name][size:])
    assert start == len(order)


@pytest.mark.parametrize("per_block", [1, 4])
def test_a_block_is_gone_before_the_next_one_is_gathered(
    per_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "_PART_ROWS", 10)
    watching: list[weakref.ref[np.ndarray]] = []
    most = 0

    def watched() -> Iterator[Arrays]:
        nonlocal most
        for arrays in groups([10] * 40):
            watching.append(weakref.ref(arrays["user_id"]))
            most = max(most, sum(reference() is not None for reference in watching))
            yield arrays
            del arrays

    blocks = gathered(in_blocks([10] * 40, per_block, 1), watched())
    rows = sum(int(batch["weight"].sum()) for batch in cut(blocks, COLUMNS, 16, [16] * 25))
    assert rows == 400
    assert most <= per_block + 1
