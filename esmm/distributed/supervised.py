"""Horovod's launcher on Spark, with what it lacks: an end after a loss or a signal, and lines shown as they come.

outcomes = supervised(lambda: horovod.spark.run(…), monitor, spark.sparkContext, begin=lambda: None)
"""

import codecs
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any, TextIO, TypeVar

import structlog
from horovod.runner import gloo_run
from horovod.runner.common.util import network
from py4j.protocol import Py4JError
from pyspark import SparkContext

from esmm.distributed.heartbeats import error_of
from esmm.distributed.monitor import Monitor

T = TypeVar("T")

log = structlog.get_logger()

_PATIENCE = 10.0
"""Seconds that Horovod has to end all ranks after a loss or a signal; it gives each five to end by itself."""


def supervised(
    launch: Callable[[], T], monitor: Monitor, spark: SparkContext, begin: Callable[[], None]
) -> T:
    """What `launch`, which runs Horovod's launcher, returns or raises; RankLostError where it never would after a loss.

    `begin` is called, in a thread, when there is a task for each rank, before the first of them starts.

    The ranks' lines come out as they are written, and what ends one of the launcher's threads in a line of the log.
    SIGINT and SIGTERM end the ranks, too, and raise KeyboardInterrupt and SystemExit: no rank was lost.
    """
    with _lines_at_once(), _one_line_a_thread(), _exit_by_sigterm():
        return _ended_with_its_ranks(launch, monitor, spark, begin)


def _ended_with_its_ranks(
    launch: Callable[[], T], monitor: Monitor, spark: SparkContext, begin: Callable[[], None]
) -> T:
    """What Horovod's launcher returns or raises; after a loss or a signal, what is left of its ranks is ended.

    It would wait for ever for a rank that is frozen. It ends them all when an event is set, which it makes to catch
    signals by: these are caught here, and the event is given to it. Where a whole host is frozen it waits for ever for
    that, too, as it does for tasks before there are ranks, and is left to itself. It asks for the event when all tasks
    are there, right before it starts the ranks.
    """
    event, outcome = threading.Event(), Future[T]()

    def run() -> None:
        with suppress(InvalidStateError):  # nobody waits for it any more
            try:
                outcome.set_result(launch())
            except BaseException as error:
                outcome.set_exception(error)

    def end(error: BaseException) -> None:
        event.set()
        if not wait([outcome], _PATIENCE).done:
            with suppress(Py4JError, OSError):  # Spark may be gone already
                spark.cancelAllJobs()
            wait([outcome], 1)  # the thread that ran Spark's job says so
            with suppress(InvalidStateError):
                outcome.set_exception(error)

    def starting() -> threading.Event:
        begin()
        return event

    monitor.after_a_loss(lambda: end(error_of(monitor.lost)))
    standard = gloo_run.register_shutdown_event
    gloo_run.register_shutdown_event = starting
    try:
        threading.Thread(target=run, name="horovod", daemon=True).start()
        return outcome.result()
    except (KeyboardInterrupt, SystemExit) as told:
        log.warning("ending the ranks", since=type(told).__name__)
        end(told)
        raise
    finally:
        gloo_run.register_shutdown_event = standard


@contextmanager
def _exit_by_sigterm() -> Iterator[None]:
    """Have SIGTERM raise SystemExit, as SIGINT raises KeyboardInterrupt: else nobody would end the ranks."""

    def end(number: int, _: object) -> None:
        sys.exit(128 + number)  # what a shell tells of a process that a signal has ended

    standard = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, standard)


@contextmanager
def _lines_at_once() -> Iterator[None]:
    """Show a rank's lines when it writes them: Horovod's client waits for 64 KiB of them."""

    def copy(source: Any, target: TextIO) -> None:
        decoder, pending = codecs.getincrementaldecoder("utf-8")("replace"), ""
        while data := source.stream.read1():
            lines, newline, pending = (pending + decoder.decode(data)).rpartition("\n")
            target.write(lines + newline)
            target.flush()
        target.write(pending)

    standard = network.shutil
    network.shutil = SimpleNamespace(copyfileobj=copy)
    try:
        yield
    finally:
        network.shutil = standard


@contextmanager
def _one_line_a_thread() -> Iterator[None]:
    """Say in one line what ended one of Horovod's threads: `run` raises what follows from it."""

    def hook(ended: threading.ExceptHookArgs) -> None:
        first, *_ = str(ended.exc_value).splitlines() or [""]
        log.warning("Horovod's launcher", thread_ended_by=f"{ended.exc_type.__name__}: {first}")

    standard = threading.excepthook
    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = standard
