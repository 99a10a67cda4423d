"""Who reads what: every row once in equal steps, and positions from which others read the rest. No file is read."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esmm import epochs
from esmm.epochs import Epoch, Leg, Position, generator
from esmm.errors import DataError
from esmm.plan import PlannedFile, ReadingPlan

FILES = st.lists(st.lists(st.integers(0, 60), max_size=8).map(tuple), min_size=1, max_size=8).filter(
    lambda files: any(map(any, files))
)
WAYS = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 40), st.floats(0, 1)), min_size=1, max_size=4)
"""Ranks, batch size, and the share of the steps after which the run stops."""
SEEDS = st.none() | st.integers(-3, 3)
Row = tuple[str, int, int]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "BLOCK_ROWS", 50)


def plan_of(*files: Sequence[int]) -> ReadingPlan:
    return ReadingPlan(
        columns={},
        files=tuple(
            PlannedFile(url=f"file:///{n:03}.parquet", bytes=1, row_groups=tuple(groups))
            for n, groups in enumerate(files)
        ),
    )


def everything(plan: ReadingPlan) -> list[Row]:
    return [(group.url, group.index, row) for group in plan.row_groups for row in range(group.rows)]


def sequence(epoch: Epoch, rank: int) -> list[Row]:
    """The rows that a rank reads, in order: (file, row group, row)."""
    found = []
    for block in epoch.blocks(rank):
        rows = [
            (piece.group.url, piece.group.index, int(row))
            for piece in block.pieces
            for row in (range(piece.group.rows) if piece.left is None else piece.left)
        ]
        found += [rows[place] for place in block.order()]
    return found


def batches(epoch: Epoch, rank: int) -> list[list[Row]]:
    rows = iter(sequence(epoch, rank))
    return [list(itertools.islice(rows, size)) for size in epoch.sizes(rank)]


def test_the_example_of_the_module() -> None:
    plan = plan_of((100,), (60,), (50,))
    epoch = Epoch(plan, ranks=2, batch_size=40)
    assert (epoch.rows(0), epoch.rows(1), epoch.steps) == (100, 110, 3)
    position = epoch.after(2)
    assert position.epoch == 0
    assert position.legs == (Leg(ranks=2, batch_size=40, steps=2),)
    # ⌊2 · 100 / 3⌋ = 66 and ⌊2 · 110 / 3⌋ = 73 have been read.
    rest = Epoch(plan, ranks=3, batch_size=40, position=position)
    assert sum(rest.rows(rank) for rank in range(3)) == 34 + 37


def test_a_tie_goes_to_the_lowest_rank_and_the_rest_get_nothing() -> None:
    epoch = Epoch(plan_of((5, 5)), ranks=4, batch_size=5)
    assert [len(epoch.blocks(rank)) for rank in range(4)] == [1, 1, 0, 0]
    assert [epoch.sizes(rank) for rank in range(4)] == [[5], [5], [0], [0]]


@given(
    files=FILES, ranks=st.integers(1, 7), batch_size=st.integers(1, 100), number=st.integers(0, 3), seed=SEEDS
)
def test_every_row_is_one_ranks_and_ranks_are_balanced(
    files: list[tuple[int, ...]], ranks: int, batch_size: int, number: int, seed: int | None
) -> None:
    plan = plan_of(*files)
    epoch = Epoch(plan, ranks=ranks, batch_size=batch_size, seed=seed, position=Position(epoch=number))
    read = [sequence(epoch, rank) for rank in range(ranks)]
    assert sorted(itertools.chain(*read)) == everything(plan)
    rows = [len(each) for each in read]
    assert rows == [epoch.rows(rank) for rank in range(ranks)] == [sum(epoch.sizes(r)) for r in range(ranks)]
    assert max(rows) - min(rows) <= max(group.rows for group in plan.row_groups)
    assert epoch.steps == math.ceil(max(rows) / batch_size)
    for rank in range(ranks):
        sizes = epoch.sizes(rank)
        assert len(sizes) == epoch.steps
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1


def test_the_order_is_the_seeds_and_the_epochs_and_a_rank_keeps_its_row_groups() -> None:
    plan = plan_of(*[(7, 5)] * 20)

    def order(seed: int | None, number: int, rank: int = 1) -> tuple[Row, ...]:
        reading = Epoch(plan, ranks=2, batch_size=9, seed=seed, position=Position(epoch=number))
        return tuple(sequence(reading, rank))

    assert order(7, 2) == order(7, 2)
    orders = [order(seed, number) for seed, number in [(7, 0), (7, 1), (8, 0), (-7, 0), (None, 0)]]
    assert len(set(orders)) == 5
    assert set(order(7, 0)) == set(order(7, 1)) == set(order(7, 5))
    assert order(None, 0, rank=0) + order(None, 0) != order(7, 0, rank=0) + order(7, 0)
    assert order(None, 0) == order(None, 5) == tuple(sorted(order(None, 0)))


def test_rows_of_several_row_groups_change_places() -> None:
    epoch = Epoch(plan_of((30, 30, 30, 30, 5)), batch_size=10, seed=1)
    blocks = epoch.blocks(0)
    assert [len(block.pieces) for block in blocks] == [2, 2, 1]  # 50 rows, and two at least
    whole = [block.order().tolist() for block in blocks]
    assert [sorted(order) for order in whole] == [list(range(block.rows)) for block in blocks]
    assert any(row >= 30 for row in whole[0][:30])
    assert whole[0] != whole[1]


@given(files=FILES, ways=WAYS, seed=SEEDS, number=st.integers(0, 2))
def test_what_was_read_until_each_stop_and_the_rest_is_every_row_once(
    files: list[tuple[int, ...]], ways: list[tuple[int, int, float]], seed: int | None, number: int
) -> None:
    """Each time on other ranks, in batches of another size; the last ones read to the end."""
    plan = plan_of(*files)
    position, read = Position(epoch=number), []
    for turn, (ranks, batch_size, share) in enumerate(ways):
        epoch = Epoch(plan, ranks=ranks, batch_size=batch_size, seed=seed, position=position)
        is_last = turn == len(ways) - 1
        steps = epoch.steps if is_last else int(share * epoch.steps)
        for rank in range(ranks):
            taken = batches(epoch, rank)
            assert len(taken) == epoch.steps
            assert all(len(batch) <= batch_size for batch in taken)
            read += itertools.chain(*taken[:steps])
        position = Position.model_validate_json(epoch.after(steps).model_dump_json())
        if steps == epoch.steps:
            break
    assert sorted(read) == everything(plan)
    assert position == Position(epoch=number + 1)


@given(files=FILES, ranks=st.integers(1, 5), batch_size=st.integers(1, 30), seed=SEEDS, data=st.data())
def test_as_many_ranks_go_on_with_the_very_batches_that_were_to_come(
    files: list[tuple[int, ...]], ranks: int, batch_size: int, seed: int | None, data: st.DataObject
) -> None:
    plan = plan_of(*files)
    whole = Epoch(plan, ranks=ranks, batch_size=batch_size, seed=seed)
    first = data.draw(st.integers(0, whole.steps - 1))
    resumed = Epoch(plan, ranks=ranks, batch_size=batch_size, seed=seed, position=whole.after(first))
    assert resumed.steps == whole.steps - first
    second = data.draw(st.integers(0, resumed.steps - 1))
    again = Epoch(plan, ranks=ranks, batch_size=batch_size, seed=seed, position=resumed.after(second))
    for rank in range(ranks):
        assert batches(resumed, rank) == batches(whole, rank)[first:]
        assert batches(again, rank) == batches(whole, rank)[first + second :]
        assert resumed.rows(rank) == sum(whole.sizes(rank)[first:])


def test_row_groups_that_were_read_are_not_opened_again() -> None:
    plan = plan_of((30,) * 20)
    epoch = Epoch(plan, batch_size=10, seed=3)
    assert (
        sum(
            len(block.pieces)
            for block in Epoch(plan, batch_size=10, seed=3, position=epoch.after(55)).blocks(0)
        )
        == 2
    )
    others = Epoch(plan, ranks=3, batch_size=10, seed=3, position=epoch.after(55))
    assert sum(len(block.pieces) for rank in range(3) for block in others.blocks(rank)) == 2


def test_a_position_of_many_rows_is_small() -> None:
    plan = plan_of(*[(16_384,) * 5] * 1000)
    epoch = Epoch(plan, ranks=8, batch_size=4096, seed=3)
    position = epoch.after(1000)
    others = Epoch(plan, ranks=5, batch_size=4096, seed=3, position=position).after(100)
    assert len(others.model_dump_json()) < 200


@pytest.mark.parametrize(("files", "seed"), [([(9, 9)], 2), ([(9, 8)], 1), ([(9,), (9,)], 1)])
def test_a_position_in_other_samples_or_of_another_seed_is_refused(
    files: list[tuple[int, ...]], seed: int
) -> None:
    position = Epoch(plan_of((9, 9)), batch_size=2, seed=1).after(3)
    with pytest.raises(DataError, match=r"^position: expected one in these samples, of this seed and order"):
        Epoch(plan_of(*files), batch_size=2, seed=seed, position=position)


def other_blocks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(epochs, "BLOCK_ROWS", 20)


def another_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(epochs, "_ORDER", epochs._ORDER + 1)


def another_numpy(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(epochs, "generator", lambda *numbers: generator(*numbers, 1))


@pytest.mark.parametrize("changed", [other_blocks, another_order, another_numpy])
def test_a_position_in_another_order_of_the_same_samples_is_refused(
    monkeypatch: pytest.MonkeyPatch, changed: Callable[[pytest.MonkeyPatch], None]
) -> None:
    plan = plan_of((30, 30, 30))
    position = Epoch(plan, batch_size=2, seed=1).after(3)
    changed(monkeypatch)
    with pytest.raises(DataError, match=r"^position: expected one in these samples, of this seed and order"):
        Epoch(plan, batch_size=2, seed=1, position=position)


def test_the_order_is_that_of_its_number() -> None:
    """Where this fails, positions of before mean other rows: raise `_ORDER`, and put in what is right from now on."""
    plan = plan_of(*[(7, 30)] * 5)
    position = Epoch(plan, ranks=3, batch_size=9, seed=4, position=Position(epoch=2)).after(3)
    epoch = Epoch(plan, ranks=2, batch_size=9, seed=4, position=position)
    read = [
        " ".join(f"{int(url[8:11])}.{index}.{row}" for url, index, row in batches(epoch, rank)[1])
        for rank in range(2)
    ]
    assert epochs._ORDER == 1
    assert read == [
        "0.1.28 0.0.6 1.0.4 0.1.7 4.1.18 4.1.15 4.1.12 4.1.9",
        "1.1.16 1.1.9 1.1.11 3.1.15 2.1.20 2.1.3 3.0.3 1.1.3 3.1.14",
    ]


def test_random_numbers_of_fewer_keys_are_not_those_of_zeros() -> None:
    keys = [(1,), (1, 0), (1, 0, 0), (1, 0, 0, 0), (1, 0, 0, 0, 0), (-1, 0)]
    assert len({tuple(generator(*key).integers(0, 2**60, 3)) for key in keys}) == len(keys)
    assert np.array_equal(generator(5, 1).permutation(9), generator(5, 1).permutation(9))
