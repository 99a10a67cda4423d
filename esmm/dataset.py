"""Samples from Parquet to TensorFlow, through Petastorm: every row once, as many batches on every rank.

    epoch = Epoch(plan, ranks=2, batch_size=1024, seed=7)
    for batch in to_tf_dataset(epoch, columns, rank=0):      # epoch.steps of them, on either rank
        batch["seller"]                                      # int64 [1024]
        batch["clicked_seller"]                              # int64 [1024, 20]
        batch["weight"]                                      # float32 [1024], 0 for the rows that fill up a batch

Which row groups a rank reads, and in which order, comes from the epoch (`esmm.epochs`). Petastorm's pool of threads
decodes them, a few ahead, into flat arrays (`esmm.reader`). Every rank takes the same number of steps, since ranks
with different numbers wait for each other for ever: a rank with fewer rows spreads them over as many batches, and one
without any takes part with batches of weight 0.
"""

import atexit
import sqlite3
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import structlog
import tensorflow as tf
from petastorm.local_disk_cache import LocalDiskCache

from esmm import rowgroups
from esmm.batching import cut, gathered
from esmm.buffers import Arrays
from esmm.epochs import Epoch
from esmm.reader import Load, StoppedError, read_row_groups
from esmm.row_cache import own_directory, pack, unpack
from esmm.rowgroups import RowGroup
from esmm.schema import Column

_BATCHES_AHEAD = 2

_CACHE_ERRORS = (OSError, sqlite3.Error)
"""What a full or broken disk ends in: the cache's index is SQLite's."""

log = structlog.get_logger()


class _Reading:
    """One iteration over a dataset: how to end it from outside, and what it failed with."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.errors: list[Exception] = []


class SampleDataset(tf.data.Dataset):
    """Batches as tensors; iterating over it raises the reader's own error.

    Datasets made from it (`map`, `take`) raise TensorFlow's, which quotes ours.
    """

    def __init__(self, make: Callable[[_Reading], tf.data.Dataset]) -> None:
        self._make, self._dataset = make, make(_Reading())
        super().__init__(self._dataset._variant_tensor)

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
        reading = _Reading()
        iterator = iter(self._make(reading))
        try:
            yield from iterator
        except tf.errors.OpError:
            if reading.errors:
                raise reading.errors.pop() from None
            raise
        finally:
            # In this order: TensorFlow's iterator does not go before its thread has what it waits for.
            reading.stop.set()
            del iterator


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
    rows = epoch.batch_size
    signature = {
        column.name: tf.TensorSpec(
            (rows,) if column.length is None else (rows, column.length), tf.as_dtype(column.type)
        )
        for column in columns
    }

    def make(reading: _Reading) -> tf.data.Dataset:
        def batches() -> Iterator[Arrays]:
            try:
                yield from read_batches(
                    epoch, columns, rank=rank, threads=threads, load=load, stop=reading.stop
                )
            except StoppedError:
                return
            except Exception as error:
                reading.errors.append(error)
                raise

        dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(epoch.steps))
        return dataset.prefetch(_BATCHES_AHEAD)

    return SampleDataset(make)


def read_batches(
    epoch: Epoch,
    columns: Sequence[Column],
    *,
    rank: int = 0,
    threads: int = 2,
    load: Load = rowgroups.load,
    stop: threading.Event | None = None,
) -> Iterator[Arrays]:
    """One rank's batches of an epoch, or of what is left of it: `epoch.steps` of them.

    Each has exactly `epoch.batch_size` rows, the samples spread evenly over all of them; rows of weight 0, ids -1
    and zeros, fill up the rest. Raises DataError and StoppedError as `read_row_groups`.
    """
    blocks = epoch.blocks(rank)
    pieces = [piece for block in blocks for piece in block.pieces]
    log.info("reading", rank=rank, ranks=epoch.ranks, epoch=epoch.number, row_groups=len(pieces),
             rows=epoch.rows(rank), steps=epoch.steps)  # fmt: skip
    with closing(read_row_groups(pieces, columns, threads, load, stop)) as groups:
        yield from cut(gathered(blocks, groups), columns, epoch.batch_size, epoch.sizes(rank))


@contextmanager
def local_cache(directory: Path, limit: int) -> Iterator[Load]:
    """A `load` that keeps what it has read, by Petastorm's cache, in a directory on local disk of its own.

    It keeps `limit` bytes and reads the rest anew each time, and so where the disk is full. All is gone with the
    block. Raises ConfigError where no directory can be made.
    """
    with own_directory(directory) as own:
        try:
            cache = LocalDiskCache(str(own / "cache"), limit, 0, eviction_policy="none", timeout=60)
        except _CACHE_ERRORS as error:
            log.warning("cache not used", directory=str(directory), error=str(error))
            yield rowgroups.load
            return

        def load(group: RowGroup, columns: Sequence[Column]) -> Arrays:
            names = ",".join(column.name for column in columns)
            key = f"{group.url} {group.bytes} {group.index} {names}"
            try:
                # Bytes, since of anything else the cache would make a pickle.
                kept = cache.get(key, lambda: pack(rowgroups.load(group, columns)))
            except _CACHE_ERRORS as error:
                log.warning("cache not used", directory=str(directory), error=str(error))
                return rowgroups.load(group, columns)
            return unpack(kept, columns)

        try:
            yield load
        finally:
            cache.cleanup()
