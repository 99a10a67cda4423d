"""The three ways in which ranks hold an embedding table. All of them train the same model.

    way        a rank holds        a rank sends, each step, of bytes
    dense      every row           2 (N - 1) / N · 4 R (d + 1)      the whole table's gradient, all-reduced
    sparse     every row           (N - 1) · U (4 d + 8)            the gradient by the rows in use, all-gathered
    sharded    every N-th row      (N - 1) / N · U (8 d + 8)        ids out, their rows back, their gradients out

of N ranks, a table of R rows and d floats a row, and the U rows of it that a rank's batch uses. Dense is for tables of
which each batch uses most rows, sharded for those that no rank has memory for: what it sends does not grow with the
number of ranks.

    hold = holding(exchange, {"item": "sharded", "hour": "dense"})
    model = models.make(config, hold=hold)
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import tensorflow as tf

from esmm.layers.tables import Gathered, Held, Hold, Rows, Whole
from esmm.layers.variables import new_rows

if TYPE_CHECKING:
    from esmm.distributed.exchange import Exchange


class Dense(Whole):
    """A replica a rank, whose whole gradient is summed."""

    def __init__(
        self, name: str, rows: int, dim: int, seed: int, dtype: tf.DType, exchange: "Exchange"
    ) -> None:
        super().__init__(name, rows, dim, seed, dtype)
        self._shape, self._exchange = (rows, dim + 1), exchange

    def gather(self, indices_u: tf.Tensor) -> Gathered:
        """The rows. Beside their gradient it is counted who uses a row: one in use can have a gradient of zero."""

        def total(values_ud: tf.Tensor) -> Rows:
            counted_ud = tf.pad(values_ud, [[0, 0], [0, 1]], constant_values=1)
            whole = tf.scatter_nd(indices_u[:, tf.newaxis], counted_ud, tf.constant(self._shape, tf.int64))
            summed = self._exchange.total(whole)
            used_u = tf.where(summed[:, -1] > 0)[:, 0]
            return Rows(used_u, tf.gather(summed, used_u)[:, :-1])

        return Gathered(tf.gather(self.weights, indices_u), total)


class Sparse(Whole):
    """A replica a rank; the gradients of the rows in use come together from all ranks."""

    def __init__(
        self, name: str, rows: int, dim: int, seed: int, dtype: tf.DType, exchange: "Exchange"
    ) -> None:
        super().__init__(name, rows, dim, seed, dtype)
        self._exchange = exchange

    def gather(self, indices_u: tf.Tensor) -> Gathered:
        """The rows. What is sent of a batch is one gradient a row, not one an id."""

        def total(values_ud: tf.Tensor) -> Rows:
            return merged(Rows(*self._exchange.gather([indices_u, values_ud])))

        return Gathered(tf.gather(self.weights, indices_u), total)


class Sharded:
    """Row r is row r // N of rank r mod N, of N ranks. No tf.Module: what differs from rank to rank is kept by each."""

    def __init__(
        self, name: str, rows: int, dim: int, seed: int, dtype: tf.DType, exchange: "Exchange"
    ) -> None:
        self._exchange = exchange
        self.weights = new_rows(
            f"table/{name}", rows, dim, seed, dtype, first=exchange.rank, every=exchange.size
        )

    def gather(self, indices_u: tf.Tensor) -> Gathered:
        """Each row from the rank that has it, which gets its gradient back, from all that asked for it."""
        ranks, trade = self._exchange.size, self._exchange.all_to_all
        owner_u = tf.cast(indices_u % ranks, tf.int32)
        by_owner_u = tf.argsort(owner_u, stable=True)
        asked_n = tf.math.bincount(owner_u, minlength=ranks, maxlength=ranks)
        wanted_w, wanted_n = trade(tf.gather(indices_u, by_owner_u), asked_n)
        own_w = wanted_w // ranks
        values_ud, _ = trade(tf.gather(self.weights, own_w), wanted_n)

        def total(gradient_ud: tf.Tensor) -> Rows:
            gradient_wd, _ = trade(tf.gather(gradient_ud, by_owner_u), asked_n)
            return merged(Rows(own_w, gradient_wd))

        return Gathered(tf.gather(values_ud, tf.math.invert_permutation(by_owner_u)), total)


WAYS: dict[str, Callable[..., Held]] = {"dense": Dense, "sparse": Sparse, "sharded": Sharded}


def holding(exchange: "Exchange", ways: Mapping[str, str]) -> Hold:
    """How tables are made that are held in some ways, by their names; `whole` is one process's own."""

    def hold(name: str, rows: int, dim: int, seed: int, dtype: tf.DType) -> Held:
        if ways[name] == "whole":
            return Whole(name, rows, dim, seed, dtype)
        return WAYS[ways[name]](name, rows, dim, seed, dtype, exchange)

    return hold


def sent(way: str, ranks: int, rows: int, dim: int, in_use: float, size: int = 4) -> float:
    """Bytes that a rank sends a step: see above; `size` is that of a number."""
    if way == "dense":
        return 2 * (ranks - 1) / ranks * size * rows * (dim + 1)
    if way == "sparse":
        return (ranks - 1) * in_use * (size * dim + 8)
    return (ranks - 1) / ranks * in_use * (2 * size * dim + 8)


def merged(rows: Rows) -> Rows:
    """Rows with equal indices to one, in the order of their first; their values are summed."""
    unique_u, places = tf.unique(rows.indices_u)
    return Rows(unique_u, tf.math.unsorted_segment_sum(rows.values_ud, places, tf.size(unique_u)))
