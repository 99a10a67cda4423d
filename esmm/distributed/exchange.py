"""What ranks exchange in a step.

    exchange = HorovodExchange()                     # or Alone(), for one process without Horovod
    exchange.sum([gradient, weight])                 # each summed over ranks, in one message
    exchange.gather([[7, 2]])                        # rank 1 has [2]: [[7, 2, 2]] on both ranks
    exchange.all_to_all([7, 2, 4], [1, 2])           # 7 for rank 0, the others for rank 1

Of sums and of what is gathered every rank gets the same bits, so that equal ranks stay equal. What ranks make of these
is up to `esmm.step` and, for tables, `esmm.layers.ways`.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

import horovod.tensorflow as horovod
import tensorflow as tf

from esmm.distributed.heartbeats import READING

T = TypeVar("T")


class Exchange(Protocol):
    """How a rank takes part."""

    rank: int
    size: int
    local_rank: int
    """Among the ranks on this rank's host."""
    local_size: int
    """The ranks on this rank's host."""

    def at(self, step: int, doing: str) -> None:
        """Note what this rank does now, for whoever asks where it was when it was lost."""

    def awaited(self, batches: Iterable[T]) -> Iterator[T]:
        """The same, noting of each that this rank waits for it: one that does not come is a loss."""

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Each tensor, all of them of one type, summed over ranks: one message for all of them."""

    def total(self, number: tf.Tensor) -> tf.Tensor:
        """One tensor, summed over ranks."""

    def gather(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Of each tensor, what all ranks have, one after the other along the first axis; as much as each has."""

    def all_to_all(self, tensor: tf.Tensor, counts_n: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Rows for the N ranks, the first counts_n[0] for rank 0 and so on; what came from them, and how many each."""

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


STARTING = Place(0, "starting")


class Whereabouts:
    """Where a rank is: its heart tells (`esmm.distributed.heartbeats`)."""

    last = STARTING

    def at(self, step: int, doing: str) -> None:
        """Note what this rank does now."""
        self.last = Place(step, doing)

    def awaited(self, batches: Iterable[T]) -> Iterator[T]:
        """The same, noting of each that this rank waits for it, amid what it does now."""
        iterator = iter(batches)
        for number in itertools.count(1):
            amid = self.last
            self.last = Place(amid.step, f"{READING} batch {number}, {amid.doing}")
            try:
                batch = next(iterator)
            except StopIteration:
                return
            finally:
                self.last = amid
            yield batch


class Alone:
    """One rank: what it has is the sum."""

    rank, size = 0, 1
    local_rank, local_size = 0, 1

    def at(self, step: int, doing: str) -> None:
        """Nobody asks."""

    def awaited(self, batches: Iterable[T]) -> Iterator[T]:
        """The same."""
        return iter(batches)

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The tensors."""
        return list(tensors)

    def total(self, number: tf.Tensor) -> tf.Tensor:
        """The tensor."""
        return number

    def gather(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The tensors."""
        return list(tensors)

    def all_to_all(self, tensor: tf.Tensor, counts_n: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The rows."""
        return tensor, counts_n

    def broadcast(self, variables: Sequence[tf.Variable]) -> None:
        """Nothing to do."""

    def broadcast_object(self, value: T) -> T:
        """The value."""
        return value

    def gather_objects(self, value: T) -> list[T]:
        """The value, alone."""
        return [value]


class HorovodExchange(Whereabouts):
    """One of Horovod's ranks, see `esmm.distributed.joining`."""

    def __init__(self) -> None:
        horovod.init()
        self.rank: int = horovod.rank()
        self.size: int = horovod.size()
        self.local_rank: int = horovod.local_rank()
        self.local_size: int = horovod.local_size()

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Each tensor, all of them of one type, summed over ranks by one all-reduce."""
        flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)
        summed = horovod.allreduce(flat, op=horovod.Sum, name="sum")
        parts = tf.split(summed, [tf.size(tensor) for tensor in tensors])
        return [tf.reshape(part, tf.shape(tensor)) for part, tensor in zip(parts, tensors, strict=True)]

    def total(self, number: tf.Tensor) -> tf.Tensor:
        """One tensor, summed over ranks."""
        [summed] = self.sum([number])
        return summed

    def gather(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Of each tensor, what all ranks have, in the order of the ranks."""
        return [horovod.allgather(tensor, name="gather") for tensor in tensors]

    def all_to_all(self, tensor: tf.Tensor, counts_n: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What the ranks have for this one, in the order of the ranks."""
        received, received_n = horovod.alltoall(tensor, splits=counts_n, name="all_to_all")
        return received, received_n

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
