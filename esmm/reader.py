"""Row groups, decoded ahead by Petastorm's threads and handed out in the order in which they were asked for.

    pieces = [piece for block in epoch.blocks(rank) for piece in block.pieces]
    for arrays in read_row_groups(pieces, columns):
        arrays["seller"]                                     # int64 [16384]

Petastorm's Reader, its ventilator, which deals out the work, and its pool of threads are used. What they read, and in
which order it comes out, is the project's own.
"""

import atexit
import threading
import time
import weakref
from collections.abc import Callable, Generator, Sequence

from petastorm.reader import Reader
from petastorm.workers_pool import EmptyResultError
from petastorm.workers_pool.thread_pool import ThreadPool
from petastorm.workers_pool.ventilator import ConcurrentVentilator
from petastorm.workers_pool.worker_base import WorkerBase

from esmm import rowgroups
from esmm.buffers import Arrays
from esmm.epochs import Piece
from esmm.rowgroups import RowGroup
from esmm.schema import Column

_PATIENCE = 4.0
"""Seconds that closing a reader may take."""

Load = Callable[[RowGroup, Sequence[Column]], Arrays]
"""How columns of a row group are read: `esmm.rowgroups.load`, or what `esmm.dataset.local_cache` gives."""


class StoppedError(Exception):
    """Raised to whoever waits for a row group once the reader was told to stop."""


def read_row_groups(
    pieces: Sequence[Piece],
    columns: Sequence[Column],
    threads: int = 2,
    load: Load = rowgroups.load,
    stop: threading.Event | None = None,
) -> Generator[Arrays, None, None]:
    """The row groups' columns as `esmm.rowgroups.load` gives them, in the order given, decoded ahead.

    Raises load's DataError in the place of a row group that cannot be used, and StoppedError soon after another thread
    has set `stop`. The threads have ended when the iterator has: used up, failed or closed.
    """
    if not pieces:
        return
    reader = _PlannedReader(pieces, columns, threads, load, stop or threading.Event())
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

    def __init__(
        self,
        pieces: Sequence[Piece],
        columns: Sequence[Column],
        threads: int,
        load: Load,
        stop: threading.Event,
    ) -> None:
        self._stopping, self._has_waited = threading.Lock(), False
        self.num_epochs, self.is_batched_reader = 1, True
        self.schema = self.ngram = None
        self.last_row_consumed = self.stopped = False
        ahead = 2 * threads  # row groups in memory, decoded or being decoded
        self._results_queue_reader = _InOrder(len(pieces))
        self._workers_pool = _Pool(threads, ahead, stop)
        self.ventilator = ConcurrentVentilator(
            self._workers_pool.ventilate,
            [{"sequence": sequence} for sequence in range(len(pieces))],
            max_ventilation_queue_size=ahead,
        )
        self._workers_pool.start(_Worker, (pieces, columns, load), ventilator=self.ventilator)
        _open.add(self)

    def stop(self) -> None:
        """Let the threads end. Any thread may ask, and more than one; Petastorm's ventilator expects one."""
        with self._stopping:
            super().stop()

    def join(self) -> None:
        """Wait for the threads, though not for a storage that does not answer: they are daemons and end with it."""
        if self._has_waited:  # at the process's end: the generator is closed when even modules are gone
            return
        deadline = time.monotonic() + _PATIENCE
        for worker in self._workers_pool._workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        self._has_waited = True


_open: weakref.WeakSet[_PlannedReader] = weakref.WeakSet()


@atexit.register
def _end() -> None:
    """End the readers that are open when the process ends, used up or not.

    Arrow's code calls Python's for each storage but the local disk. A thread that is on its way back from there when
    the interpreter is gone takes the process down with it.
    """
    readers = list(_open)
    for reader in readers:
        reader.stop()
    for reader in readers:
        reader.join()


class _Pool(ThreadPool):
    """Petastorm's pool, but whoever waits for its results learns that it is stopped, or is to be."""

    def __init__(self, threads: int, ahead: int, stop: threading.Event) -> None:
        super().__init__(threads, results_queue_size=ahead)
        self._stop = stop

    def all_workers_done(self) -> bool:
        # What get_results asks at each turn, every 0.1 s; whether it is stopped it does not ask.
        if self._stop.is_set() or self._stop_event.is_set():
            raise StoppedError
        return bool(super().all_workers_done())


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
