"""A command in a process of its own: how long it took, and how much memory it and all its children held at once.

    measured(["./spark-submit.sh", "jobs/build_samples.py", ...])     # {"command_s": 41.3, "peak_rss_gib": 3.2}

A page that several processes share counts once (Linux's proportional set size), so that a JVM with its Python workers
is not counted once for each worker.
"""

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.harness import GIB, ROOT, timed

INTERVAL_S = 0.2


def measured(command: Sequence[object], directory: Path = ROOT) -> dict[str, float]:
    """Run a command in a directory to its end; raises CalledProcessError where it fails."""
    with subprocess.Popen([str(part) for part in command], cwd=directory) as process:
        watch = PeakMemory(process.pid)
        watch.start()
        seconds = timed(process.wait)
        watch.stop()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return {"command_s": seconds, "peak_rss_gib": watch.peak / GIB}


class PeakMemory:
    """Looks, five times a second, at what a process and all that descends from it hold in memory."""

    def __init__(self, process_id: int) -> None:
        self.peak = 0
        self._process = psutil.Process(process_id)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; `peak` is the most that was seen, in bytes."""
        self._ended.set()
        self._thread.join()

    def look(self) -> None:
        """Note what is held now."""
        self.peak = max(self.peak, sum(_held(process) for process in self._family()))

    def _watch(self) -> None:
        self.look()
        while not self._ended.wait(INTERVAL_S):
            self.look()

    def _family(self) -> list[psutil.Process]:
        try:
            return [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _held(process: psutil.Process) -> int:
    """Bytes of a process; none where it has just ended."""
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return 0
