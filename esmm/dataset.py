"""Samples from Parquet to TensorFlow, through Petastorm: every row once, as many batches on every rank.

    dataset = to_tf_dataset(plan, columns, 1024, rank=0, ranks=2, epoch=0, seed=7)
    for batch in dataset:                # plan.steps(2, 1024, 0, 7) of them, on either rank
        batch["seller"]                  # int64 [1024]
        batch["clicked_seller"]          # int64 [1024, 20]
        batch["weight"]                  # float32 [1024], 0 for the rows that fill up a batch

Which row groups a rank reads comes from the plan. Petastorm's pool of threads decodes them, a few ahead,
into flat arrays, which are handed out in the plan's order, whichever is ready first. Every rank takes the
same number of steps, since ranks with different numbers wait for each other for ever: a rank with fewer rows
spreads them over as many batches, and one without any takes part with batches of weight 0.
"""

import atexit
import weakref
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

import structlog
import tensorflow as tf
from petastorm.reader import Reader
from petastorm.workers_pool import EmptyResultError
from petastorm.workers_pool.thread_pool import ThreadPool
from petastorm.workers_pool.ventilator import ConcurrentVentilator
from petastorm.workers_pool.worker_base import WorkerBase

from esmm.batching import Arrays, cut, in_order, shuffled, spread
from esmm.plan import ReadingPlan
from esmm.rowgroups import RowGroup, load
from esmm.schema import Column

_BATCHES_AHEAD = 2

log = structlog.get_logger()


class SampleDataset(tf.data.Dataset):
    """Batches as tensors; iterating over it raises the reader's own error.

    Datasets made from it (`map`, `take`) raise TensorFlow's, which quotes ours.
    """

    def __init__(self, dataset: tf.data.Dataset, errors: list[Exception]) -> None:
        self._dataset, self._errors = dataset, errors
        super().__init__(dataset._variant_tensor)

    def _inputs(self) -> list[tf.data.Dataset]:
        return [self._dataset]

    @property
    def element_spec(self) -> dict[str, tf.TensorSpec]:
        """Column to the static shape and type of its tensor."""
        spec: dict[str, tf.TensorSpec] = self._dataset.element_spec
        return spec

    def __iter__(self) -> Iterator[dict[str, tf.Tensor]]:
        iterator = self._iterate()
        _iterating.add(iterator)
        return iterator

    def _iterate(self) -> Generator[dict[str, tf.Tensor], None, None]:
        try:
            yield from self._dataset
        except tf.errors.OpError:
            if self._errors:
                raise self._errors.pop() from None
            raise


_iterating: weakref.WeakSet[Generator[dict[str, tf.Tensor], None, None]] = weakref.WeakSet()


@atexit.register
def _stop_iterating() -> None:
    """TensorFlow waits for its prefetching thread, which cannot run Python once the interpreter shuts down."""
    for iterator in list(_iterating):
        iterator.close()


def to_tf_dataset(
    plan: ReadingPlan,
    columns: Sequence[Column],
    batch_size: int,
    *,
    rank: int = 0,
    ranks: int = 1,
    epoch: int = 0,
    seed: int | None = None,
    threads: int = 2,
) -> SampleDataset:
    """`read_batches` as tensors, some batches ahead of whoever takes them.

    An element is a dict, by column, of tensors [batch_size] or [batch_size, length] of the columns' types;
    there are `plan.steps(ranks, batch_size, epoch, seed)`. Each iteration reads anew, in the same order, and
    raises what `read_batches` raises. Its threads end with the iterator.
    """
    errors: list[Exception] = []

    def batches() -> Iterator[Arrays]:
        errors.clear()
        try:
            yield from read_batches(plan, columns, batch_size,
                                    rank=rank, ranks=ranks, epoch=epoch, seed=seed, threads=threads)  # fmt: skip
        except Exception as error:
            errors.append(error)
            raise

    signature = {
        column.name: tf.TensorSpec(
            (batch_size,) if column.length is None else (batch_size, column.length), tf.as_dtype(column.type)
        )
        for column in columns
    }
    steps = plan.steps(ranks, batch_size, epoch, seed)
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    return SampleDataset(dataset.prefetch(_BATCHES_AHEAD), errors)


def read_batches(
    plan: ReadingPlan,
    columns: Sequence[Column],
    batch_size: int,
    *,
    rank: int = 0,
    ranks: int = 1,
    epoch: int = 0,
    seed: int | None = None,
    threads: int = 2,
) -> Iterator[Arrays]:
    """One rank's batches of an epoch, `plan.steps(ranks, batch_size, epoch, seed)` of them.

    Each has exactly `batch_size` rows, the samples spread evenly over all of them; rows of weight 0, ids -1 and
    zeros, fill up the rest. Without a seed nothing is shuffled. Raises DataError as `read_row_groups`.
    """
    share = plan.share(rank, ranks, epoch, seed)
    steps = plan.steps(ranks, batch_size, epoch, seed)
    rows = sum(group.rows for group in share)
    log.info("reading", rank=rank, ranks=ranks, epoch=epoch, row_groups=len(share), rows=rows, steps=steps)
    with closing(read_row_groups(share, columns, threads)) as groups:
        blocks = in_order(groups) if seed is None else shuffled(groups, seed, epoch, rank)
        yield from cut(blocks, columns, batch_size, spread(rows, steps))


def read_row_groups(
    groups: Sequence[RowGroup], columns: Sequence[Column], threads: int = 2
) -> Generator[Arrays, None, None]:
    """The row groups' columns as `esmm.rowgroups.load` gives them, in the order given, decoded ahead.

    Raises load's DataError in the place of a row group that cannot be used. The threads have ended when the
    iterator has: used up, failed or closed.
    """
    if not groups:
        return
    reader = _PlannedReader(groups, columns, threads)
    try:
        yield from reader
    finally:
        reader.stop()
        reader.join()


class _PlannedReader(Reader):
    """Petastorm's reader over row groups that are known.

    The constructor takes the place of Reader's, which lists the directory, unpickles _common_metadata, opens
    the footer of every file and chooses its shard from them.
    """

    def __init__(self, groups: Sequence[RowGroup], columns: Sequence[Column], threads: int) -> None:
        self.num_epochs, self.is_batched_reader = 1, True
        self.schema = self.ngram = None
        self.last_row_consumed = self.stopped = False
        ahead = 2 * threads  # row groups in memory, decoded or being decoded
        self._results_queue_reader = _InOrder(len(groups))
        self._workers_pool = ThreadPool(threads, results_queue_size=ahead)
        self.ventilator = ConcurrentVentilator(
            self._workers_pool.ventilate,
            [{"sequence": sequence} for sequence in range(len(groups))],
            max_ventilation_queue_size=ahead,
        )
        self._workers_pool.start(_Worker, (groups, columns), ventilator=self.ventilator)


class _Worker(WorkerBase):
    """Decodes row groups in a thread of Petastorm's pool."""

    def process(self, sequence: int) -> None:
        groups, columns = self.args
        result: Arrays | Exception
        try:
            result = load(groups[sequence], columns)
        except Exception as error:
            # Handed over as a result: of an exception the pool prints the traceback, and it may wait for ever
            # for room to hand it over.
            result = error
        self.publish_func((sequence, result))


class _InOrder:
    """Takes what the workers publish, and gives it out in the order of the row groups."""

    batched_output = True

    def __init__(self, total: int) -> None:
        self._total, self._next = total, 0
        self._early: dict[int, Arrays | Exception] = {}

    def read_next(self, workers_pool: ThreadPool, _schema: None, _ngram: None) -> Arrays:
        if self._next == self._total:
            raise StopIteration
        while self._next not in self._early:
            sequence, published = self._take(workers_pool)
            self._early[sequence] = published
        result = self._early.pop(self._next)
        self._next += 1
        if isinstance(result, Exception):
            raise result
        return result

    @staticmethod
    def _take(workers_pool: ThreadPool) -> tuple[int, Arrays | Exception]:
        taken: tuple[int, Arrays | Exception]
        try:
            taken = workers_pool.get_results()
        except EmptyResultError:
            # The pool checks that all it was given is done, then that nothing more comes: the last row groups
            # can be given to it in between. There are more, as these are counted here.
            taken = workers_pool.get_results()
        return taken
