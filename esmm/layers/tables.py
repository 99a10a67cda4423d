"""Embedding tables, and the rows of them that a batch needs, each gathered once.

A table that holds the candidate's `seller` and the list `clicked_seller`, in a batch of two samples:

    seller           [7, 9]                    # the rows that 7, 9 and 4 are hashed to are gathered once,
    clicked_seller   [[9, 9, -1], [4, -1, -1]] # [3, d], whatever the number of ids and towers

Gradients are taken by the gathered rows, not by the table: that makes a table's gradient one row for each
row in use, already summed over candidates, lists and towers.

Where a table's rows are is another matter (`Held`): in this process, or spread over ranks (`esmm.layers.ways`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import tensorflow as tf

from esmm.config import Embedding
from esmm.layers.rules import Hashed, Rule
from esmm.layers.variables import new_rows
from esmm.schema import ABSENT

Batch = Mapping[str, tf.Tensor]
"""Column to tensor, [b] or [b, n]."""


class Rows(NamedTuple):
    """Some rows of a table, each of them once, or a gradient by them."""

    indices_u: tf.Tensor
    """int64 [u]: which rows."""
    values_ud: tf.Tensor
    """[u, d]."""


class LookUp(NamedTuple):
    """What a batch needs of one table."""

    rows: Rows
    places: dict[str, tf.Tensor]
    """Column to int32 [b, n], n = 1 for a scalar: where in `rows` an id's row is, -1 where there is no id."""
    total: Callable[[tf.Tensor], Rows]
    """The gradient by the rows' values, [u, d], to that by the table's `weights`: see `Gathered`."""


class Gathered(NamedTuple):
    """Rows of a table, and the way back."""

    values_ud: tf.Tensor
    """[u, d]."""
    total: Callable[[tf.Tensor], Rows]
    """The gradient by the values, [u, d], to that by `weights`: summed over ranks, and each row there once."""


class Held(Protocol):
    """A table as a process holds it."""

    @property
    def weights(self) -> tf.Variable:
        """The rows that this process has, [rows here, d]: what its optimizer moves."""

    def gather(self, indices_u: tf.Tensor) -> Gathered:
        """Rows of the whole table, int64 [u], each asked for once."""


class Whole(tf.Module):
    """A table of one process."""

    def __init__(self, name: str, rows: int, dim: int, seed: int, dtype: tf.DType) -> None:
        super().__init__(name="whole")
        self.weights = new_rows(f"table/{name}", rows, dim, seed, dtype)

    def gather(self, indices_u: tf.Tensor) -> Gathered:
        """The rows; their gradient is the whole of it."""
        return Gathered(tf.gather(self.weights, indices_u), lambda values_ud: Rows(indices_u, values_ud))


class Shards(tf.Module):
    """A table in parts, row r in part r mod N, as a SavedModel has it that was trained by N ranks."""

    def __init__(self, dim: int, dtype: tf.DType, parts: int) -> None:
        """Parts of no rows, and of as many as whatever is put in their place."""
        super().__init__(name="shards")
        self.parts = [tf.Variable(tf.zeros((0, dim), dtype), shape=(None, dim)) for _ in range(parts)]

    @property
    def weights(self) -> tf.Variable:
        """Nothing is learnt here."""
        raise NotImplementedError

    def gather(self, indices_u: tf.Tensor) -> Gathered:
        """The rows, each from its part; there is no way back."""
        values_ud = tf.compat.v1.nn.embedding_lookup(self.parts, indices_u, partition_strategy="mod")
        return Gathered(values_ud, lambda values_ud: Rows(indices_u, values_ud))


Hold = Callable[[str, int, int, int, tf.DType], Held]
"""Makes a new table of a name, so many rows and floats a row, drawn by a seed, in a type."""


class EmbeddingTable(tf.Module):
    """One table, and the columns that share it."""

    def __init__(
        self,
        name: str,
        embedding: Embedding,
        columns: Sequence[str],
        seed: int,
        dtype: tf.DType,
        rule: Rule | None = None,
        hold: Hold = Whole,
    ) -> None:
        """By default ids are hashed into the embedding's rows; another rule says how many rows there are."""
        super().__init__(name=f"table_{name}")
        self.columns = tuple(columns)
        self.rule = rule or Hashed(embedding.rows)
        self.size, self.dim = self.rule.size, embedding.dim
        self.held = hold(name, self.size, self.dim, seed, dtype)

    @property
    def weights(self) -> tf.Variable:
        """The rows that this process holds."""
        return self.held.weights

    @property
    def is_whole(self) -> bool:
        """Whether these are all rows, the same in every process."""
        return isinstance(self.held, Whole)

    def look_up(self, batch: Batch) -> LookUp:
        """Gather the rows that a batch's ids need, each once, whatever the columns they come from."""
        ids = [_as_list(batch[column]) for column in self.columns]
        ids_m = tf.concat([tf.reshape(ids_bn, [-1]) for ids_bn in ids], axis=0)
        # With an absent id in front, absence is number 0 of the unique ids, and the rows begin at 1.
        absent_first = tf.concat([[tf.constant(ABSENT, tf.int64)], self.rule(ids_m)], axis=0)
        unique, numbers = tf.unique(absent_first)
        indices_u, places_m = unique[1:], numbers[1:] - 1
        places = tf.split(places_m, [tf.size(ids_bn) for ids_bn in ids])
        shaped = [tf.reshape(part, tf.shape(ids_bn)) for part, ids_bn in zip(places, ids, strict=True)]
        values_ud, total = self.held.gather(indices_u)
        return LookUp(Rows(indices_u, values_ud), dict(zip(self.columns, shaped, strict=True)), total)


def _as_list(ids: tf.Tensor) -> tf.Tensor:
    return ids[:, tf.newaxis] if ids.shape.rank == 1 else ids
