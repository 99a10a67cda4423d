"""Rows and gradients of a table are the same in whichever way ranks hold it: ranks as threads that meet."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from esmm.config import Embedding
from esmm.layers.tables import EmbeddingTable
from esmm.layers.variables import new_rows
from esmm.layers.ways import WAYS, holding

PATIENCE = 20.0


class Meeting:
    """Where threads give what they have and get what all gave."""

    def __init__(self, size: int) -> None:
        self._barrier, self._given = threading.Barrier(size), [None] * size

    def all(self, rank: int, given: Any) -> list[Any]:
        self._given[rank] = given
        self._barrier.wait(PATIENCE)
        found = list(self._given)
        self._barrier.wait(PATIENCE)
        return found


class Rank:
    """An exchange, in NumPy."""

    def __init__(self, meeting: Meeting, rank: int, size: int) -> None:
        self._meeting, self.rank, self.size = meeting, rank, size

    def total(self, tensor: tf.Tensor) -> tf.Tensor:
        return tf.constant(np.sum(self._meeting.all(self.rank, tensor.numpy()), axis=0))

    def gather(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return [tf.constant(np.concatenate(self._meeting.all(self.rank, each.numpy()))) for each in tensors]

    def all_to_all(self, tensor: tf.Tensor, counts_n: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        counts = np.asarray(counts_n)
        assert counts.sum() == len(tensor)
        parts = np.split(np.asarray(tensor), np.cumsum(counts)[:-1])
        mine = [of_rank[self.rank] for of_rank in self._meeting.all(self.rank, parts)]
        return tf.constant(np.concatenate(mine)), tf.constant([len(part) for part in mine], tf.int32)


def on_ranks(size: int, work: Callable[[Rank], Any]) -> list[Any]:
    meeting = Meeting(size)
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(work, [Rank(meeting, rank, size) for rank in range(size)]))


IDS = st.lists(st.integers(-1, 30), max_size=12)
"""With duplicates, absent ids, and none at all."""


@pytest.mark.parametrize("way", WAYS)
@given(
    ids=st.lists(st.tuples(IDS, IDS), min_size=1, max_size=3), rows=st.integers(1, 12), dim=st.integers(1, 3)
)
@settings(max_examples=60, deadline=None)
def test_every_way_finds_the_rows_and_sums_the_gradients(
    way: str, ids: list[tuple[list[int], list[int]]], rows: int, dim: int
) -> None:
    """As many ranks as there are pairs of a candidate's and a list's ids; one table for both columns."""
    whole, size = new_rows("table/t", rows, dim, 5, tf.float64).numpy(), len(ids)

    def work(exchange: Rank) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        hold = holding(exchange, {"t": way})  # type: ignore[arg-type]
        table = EmbeddingTable("t", Embedding(rows=rows, dim=dim), ["a", "b"], 5, tf.float64, hold=hold)
        columns = dict(zip(("a", "b"), ids[exchange.rank], strict=True))
        found = table.look_up({name: tf.constant(each, tf.int64) for name, each in columns.items()})
        used = found.rows.indices_u.numpy()
        assert len(set(used)) == len(used)
        np.testing.assert_array_equal(found.rows.values_ud, whole[used])
        for name, each in columns.items():
            places = found.places[name].numpy()[:, 0]
            assert (places >= 0).tolist() == [one >= 0 for one in each]
            assert len({(one, place) for one, place in zip(each, places, strict=True)}) == len(set(each))
        # Whole numbers, so that no order of sums matters.
        gradient = np.random.default_rng(exchange.rank).integers(-5, 6, (len(used), dim)).astype(np.float64)
        summed = found.total(tf.constant(gradient))
        at = summed.indices_u.numpy()
        assert len(set(at)) == len(at)
        if way == "sharded":
            at = at * size + exchange.rank
        return used, gradient, at, summed.values_ud.numpy()

    of_ranks = on_ranks(size, work)
    expected = np.zeros((rows, dim))
    for used, gradient, _, _ in of_ranks:
        np.add.at(expected, used, gradient)
    in_use = set().union(*(used.tolist() for used, *_ in of_ranks))
    found = np.zeros((rows, dim))
    for _, _, at, summed in of_ranks:
        mine = np.zeros((rows, dim))
        mine[at] = summed
        if way == "sharded":
            found += mine
        else:
            np.testing.assert_array_equal(mine, expected)
            assert set(at.tolist()) == in_use
    if way == "sharded":
        np.testing.assert_array_equal(found, expected)
        assert set().union(*(at.tolist() for _, _, at, _ in of_ranks)) == in_use
