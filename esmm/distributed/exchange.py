"""What ranks exchange in a step: sums, and nothing but sums.

    exchange = HorovodExchange()                     # or Alone(), for one process without Horovod
    exchange.sum([gradient, weight])                 # each summed over ranks, in one message
    exchange.sum_rows({"item": Rows([7, 2], g)})     # rank 1 has Rows([2], h): on both ranks
    # {"item": Rows([7, 2], [g of 7, g of 2 + h])}

Every rank gets the same bits, so that equal ranks stay equal. A rank's batch may be all padding, and use no
row of a table: its share is then zeros, or no rows.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import horovod.tensorflow as horovod
import tensorflow as tf

from esmm.layers.tables import Rows

T = TypeVar("T")


class Exchange(Protocol):
    """How a rank takes part."""

    rank: int
    size: int

    def at(self, step: int, doing: str) -> None:
        """Note what this rank does now, for whoever asks where it was when it was lost."""

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Each tensor, all of them of one type, summed over ranks: one message for all of them."""

    def sum_rows(self, rows: Mapping[str, Rows]) -> dict[str, Rows]:
        """By table, the rows of all ranks; equal rows are one, and their values are summed."""

    def broadcast(self, variables: Sequence[tf.Variable]) -> None:
        """Set variables to what rank 0 has."""

    def broadcast_object(self, value: T) -> T:
        """What rank 0 has."""

    def gather_objects(self, value: T) -> list[T]:
        """What each rank has, in their order."""


class Place(NamedTuple):
    """Where a rank is: in which step, and what it does there."""

    step: int
    doing: str


class Alone:
    """One rank: what it has is the sum."""

    rank, size = 0, 1

    def at(self, step: int, doing: str) -> None:
        """Nobody asks."""

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The tensors."""
        return list(tensors)

    def sum_rows(self, rows: Mapping[str, Rows]) -> dict[str, Rows]:
        """The rows."""
        return dict(rows)

    def broadcast(self, variables: Sequence[tf.Variable]) -> None:
        """Nothing to do."""

    def broadcast_object(self, value: T) -> T:
        """The value."""
        return value

    def gather_objects(self, value: T) -> list[T]:
        """The value, alone."""
        return [value]


class HorovodExchange:
    """One of Horovod's ranks, see `esmm.distributed.joining`."""

    def __init__(self) -> None:
        horovod.init()
        self.rank: int = horovod.rank()
        self.size: int = horovod.size()
        self.local_size: int = horovod.local_size()
        """The ranks on this rank's host."""
        self.last = Place(0, "starting")
        """Where this rank is."""

    def at(self, step: int, doing: str) -> None:
        """Note what this rank does now; its heart tells (`esmm.distributed.heartbeats`)."""
        self.last = Place(step, doing)

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Each tensor, all of them of one type, summed over ranks by one all-reduce."""
        flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)
        summed = horovod.allreduce(flat, op=horovod.Sum, name="sum")
        parts = tf.split(summed, [tf.size(tensor) for tensor in tensors])
        return [tf.reshape(part, tf.shape(tensor)) for part, tensor in zip(parts, tensors, strict=True)]

    def sum_rows(self, rows: Mapping[str, Rows]) -> dict[str, Rows]:
        """By table, the rows of all ranks, merged: two all-gathers, whatever the number of tables.

        A rank's rows are merged before they are sent: the bytes are those of the rows in use, not of the ids.
        """
        if not rows:
            return {}
        indices = horovod.grouped_allgather([part.indices_u for part in rows.values()], name="rows")
        values = horovod.grouped_allgather([part.values_ud for part in rows.values()], name="values")
        return {name: merge(Rows(*both)) for name, *both in zip(rows, indices, values, strict=True)}

    def broadcast(self, variables: Sequence[tf.Variable]) -> None:
        """Set variables to what rank 0 has, in place: a table is not copied."""
        horovod.broadcast_variables(variables, root_rank=0, inplace=True)

    def broadcast_object(self, value: T) -> T:
        """What rank 0 has; it must be picklable."""
        # Its default name is the value's type, which differs between the rank that has it and the others.
        received: T = horovod.broadcast_object(value, root_rank=0, name="object")
        return received

    def gather_objects(self, value: T) -> list[T]:
        """What each rank has, in their order; it must be picklable."""
        received: list[T] = horovod.allgather_object(value, name="objects")
        return received


def merge(rows: Rows) -> Rows:
    """Rows with equal indices to one, in the order of their first; their values are summed."""
    unique_u, places = tf.unique(rows.indices_u)
    return Rows(unique_u, tf.math.unsorted_segment_sum(rows.values_ud, places, tf.size(unique_u)))
