"""Samples from Parquet to TensorFlow, through Petastorm: every row once, as many batches on every rank.

    epoch = Epoch(plan, ranks=2, batch_size=1024, seed=7)
    for batch in to_tf_dataset(epoch, columns, rank=0):      # epoch.steps of them, on either rank
        batch["seller"]                                      # int64 [1024]
        batch["clicked_seller"]                              # int64 [1024, 20]
        batch["weight"]                                      # float32 [1024], 0 for the rows that fill up a batch

Which row groups a rank reads, and in which order, comes from the epoch (`esmm.epochs`). Petastorm's pool of threads
decodes them, a few ahead, into flat arrays, which are handed out in that order, whichever is ready first. Every rank
takes the same number of steps, since ranks with different numbers wait for each other for ever: a rank with fewer
rows spreads them over as many batches, and one without any takes part with batches of weight 0.
"""

import atexit
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import structlog
import tensorflow as tf
from petastorm.local_disk_cache import LocalDiskCache
from petastorm.reader import Reader
from petastorm.workers_pool import EmptyResultError
from petastorm.workers_pool.thread_pool import ThreadPool
from petastorm.workers_pool.ventilator import ConcurrentVentilator
from petastorm.workers_pool.worker_base import WorkerBase

from esmm import rowgroups
from esmm.batching import cut, gathered
from esmm.buffers import Arrays
from esmm.epochs import Epoch, Piece
from esmm.rowgroups import RowGroup
from esmm.schema import Column
from esmm.shards import own_directory, pack, unpack

_BATCHES_AHEAD = 2
_PATIENCE = 4.0
"""Seconds that closing a reader may take."""

Load = Callable[[RowGroup, Sequence[Column]], Arrays]
"""How columns of a row group are read: `esmm.rowgroups.load`, or what `local_cache` gives."""

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

    def __iter__(self) -> Generator[dict[str, tf.Tensor], None, None]:
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
    epoch: Epoch,
    columns: Sequence[Column],
    *,
    rank: int = 0,
    threads: int = 2,
    load: Load = rowgroups.load,
) -> SampleDataset:
    """`read_batches` as tensors, some batches ahead of whoever takes them.

    An element is a dict, by column, of tensors [batch_size] or [batch_size, length] of the columns' types;
    there are `epoch.steps`. Each iteration reads anew, in the same order, and raises what `read_batches` raises.
    Its threads end with the iterator.
    """
    errors: list[Exception] = []

    def batches() -> Iterator[Arrays]:
        errors.clear()
        try:
            yield from read_batches(epoch, columns, rank=rank, threads=threads, load=load)
        except Exception as error:
            errors.append(error)
            raise

    rows = epoch.batch_size
    signature = {
        column.name: tf.TensorSpec(
            (rows,) if column.length is None else (rows, column.length), tf.as_dtype(column.type)
        )
        for column in columns
    }
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(epoch.steps))
    return SampleDataset(dataset.prefetch(_BATCHES_AHEAD), errors)


def read_batches(
    epoch: Epoch,
    columns: Sequence[Column],
    *,
    rank: int = 0,
    threads: int = 2,
    load: Load = rowgroups.load,
) -> Iterator[Arrays]:
    """One rank's batches of an epoch, or of what is left of it: `epoch.steps` of them.

    Each has exactly `epoch.batch_size` rows, the samples spread evenly over all of them; rows of weight 0, ids -1
    and zeros, fill up the rest. Raises DataError as `read_row_groups`.
    """
    blocks = epoch.blocks(rank)
    pieces = [piece for block in blocks for piece in block.pieces]
    log.info("reading", rank=rank, ranks=epoch.ranks, epoch=epoch.number, row_groups=len(pieces),
             rows=epoch.rows(rank), steps=epoch.steps)  # fmt: skip
    with closing(read_row_groups(pieces, columns, threads, load)) as groups:
        yield from cut(gathered(blocks, groups), columns, epoch.batch_size, epoch.sizes(rank))


def read_row_groups(
    pieces: Sequence[Piece], columns: Sequence[Column], threads: int = 2, load: Load = rowgroups.load
) -> Generator[Arrays, None, None]:
    """The row groups' columns as `esmm.rowgroups.load` gives them, in the order given, decoded ahead.

    Raises load's DataError in the place of a row group that cannot be used. The threads have ended when the
    iterator has: used up, failed or closed.
    """
    if not pieces:
        return
    reader = _PlannedReader(pieces, columns, threads, load)
    try:
        yield from reader
    finally:
        reader.stop()
        reader.join()


@contextmanager
def local_cache(directory: Path, limit: int) -> Iterator[Load]:
    """A `load` that keeps what it has read, by Petastorm's cache, in a directory on local disk of its own.

    It keeps `limit` bytes and reads the rest anew each time. All is gone with the block. Raises ConfigError where
    the directory cannot be written to.
    """
    with own_directory(directory) as own:
        cache = LocalDiskCache(str(own / "cache"), limit, 0, eviction_policy="none", timeout=60)

        def load(group: RowGroup, columns: Sequence[Column]) -> Arrays:
            names = ",".join(column.name for column in columns)
            key = f"{group.url} {group.bytes} {group.index} {names}"
            try:
                # Bytes, since of anything else the cache would make a pickle.
                kept = cache.get(key, lambda: pack(rowgroups.load(group, columns)))
            except OSError as error:
                log.warning("cache not used", directory=str(directory), error=str(error))
                return rowgroups.load(group, columns)
            return unpack(kept, columns)

        try:
            yield load
        finally:
            cache.cleanup()


class _PlannedReader(Reader):
    """Petastorm's reader over row groups that are known.

    The constructor takes the place of Reader's, which lists the directory, unpickles _common_metadata, opens
    the footer of every file and chooses its shard from them.
    """

    def __init__(self, pieces: Sequence[Piece], columns: Sequence[Column], threads: int, load: Load) -> None:
        self.num_epochs, self.is_batched_reader = 1, True
        self.schema = self.ngram = None
        self.last_row_consumed = self.stopped = False
        ahead = 2 * threads  # row groups in memory, decoded or being decoded
        self._results_queue_reader = _InOrder(len(pieces))
        self._workers_pool = ThreadPool(threads, results_queue_size=ahead)
        self.ventilator = ConcurrentVentilator(
            self._workers_pool.ventilate,
            [{"sequence": sequence} for sequence in range(len(pieces))],
            max_ventilation_queue_size=ahead,
        )
        self._workers_pool.start(_Worker, (pieces, columns, load), ventilator=self.ventilator)

    def join(self) -> None:
        """Wait for the threads, though not for a storage that does not answer: they are daemons and end with it."""
        deadline = time.monotonic() + _PATIENCE
        for worker in self._workers_pool._workers:
            worker.join(max(0.0, deadline - time.monotonic()))


class _Worker(WorkerBase):
    """Decodes row groups in a thread of Petastorm's pool."""

    def process(self, sequence: int) -> None:
        pieces, columns, load = self.args
        piece: Piece = pieces[sequence]
        result: Arrays | Exception
        try:
            arrays = load(piece.group, columns)
            is_whole = piece.left is None
            result = arrays if is_whole else {name: array[piece.left] for name, array in arrays.items()}
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
