"""jobs/score.py, of which one process is killed once: WHO WHEN MARKER [job options].

WHO is the driver, killed at one phase of its publication (`tests.killed_job`), or the first of the workers, or of their
executors, to come to a moment: "first rows", "later rows", or "ranked rows", when what it scored has been shuffled and
ranked, so that what dies takes shuffled rows with it. The file MARKER says that it has happened. What is patched is
only where a process dies.
"""

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
from pyspark.sql import DataFrame

from esmm import cli, drift, ranking
from jobs import score
from tests import killed_job

PROGRAM = "from tests.killed_score import main\nmain()\n"
"""As that of `tests.killed_job`."""

BATCHES = {"first rows": 1, "later rows": 3}
"""After how many: when a task has scored its first batch, or when it has handed on two and scored the third."""


def die_once(who: str, marker: str) -> None:
    """Kill this worker, or the Java process that its daemon belongs to."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return
    process = os.getpid() if who == "worker" else psutil.Process(os.getppid()).ppid()
    os.kill(process, signal.SIGKILL)


class DyingWatch(drift.Watch):
    """In the scorer: counts batches, and dies after one of them."""

    def __init__(self, spark: Any, who: str, batches: int, marker: str) -> None:
        super().__init__(spark)
        self._left, self._death = batches, (who, marker)

    def add(self, bins: Any) -> None:
        super().add(bins)
        self._left -= 1
        if self._left == 0:
            die_once(*self._death)


def main() -> None:
    who, when, marker = (sys.argv.pop(1) for _ in range(3))
    if who == "driver":
        killed_job.kill_at(when)
    elif when == "ranked rows":
        ranked = ranking.ranked

        def die(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            die_once(who, marker)
            yield from batches

        def dying(*arguments: Any, **named: Any) -> DataFrame:
            rows = ranked(*arguments, **named)
            return rows.mapInArrow(die, rows.schema)

        ranking.ranked = dying
    else:
        drift.Watch = lambda *of: DyingWatch(*of, who, BATCHES[when], marker)  # type: ignore[assignment, misc]
    cli.job(score.main)()
