"""Claims: that no two runs write the same day of a table.

    with claimed(fs, "build/demo/samples/_claims/ds=2026-03-25", run):
        ...                                  # another run for the day ends in a ConflictError, exit code 3

A claim is a file made exclusively, `000001.json`. A dead run leaves its claim behind; who takes over makes
the next number, again exclusively, so that of two only one succeeds. The highest number holds.
"""

import datetime as dt
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pydantic

from esmm.errors import ConflictError

EXPIRES = dt.timedelta(hours=12)
"""A claim of another host that is older than this belongs to a run that died."""


class Claim(pydantic.BaseModel):
    """Who holds a day."""

    run: str
    host: str
    pid: int
    at: dt.datetime

    @classmethod
    def of(cls, run: str) -> "Claim":
        """A claim of this process, now."""
        return cls(run=run, host=platform.node(), pid=os.getpid(), at=dt.datetime.now(dt.UTC))

    @property
    def is_dead(self) -> bool:
        """Whether its run is over: the process is gone or, where that cannot be seen, the claim is old."""
        if self.host != platform.node():
            return dt.datetime.now(dt.UTC) - self.at > EXPIRES
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


@contextmanager
def claimed(fs: fsspec.AbstractFileSystem, directory: str, run: str) -> Iterator[None]:
    """Hold a claim while the block runs; raises ConflictError, naming the holder, where another run does."""
    fs.makedirs(directory, exist_ok=True)
    held = sorted(fs.glob(f"{directory}/*.json"))
    number = 1
    if held:
        holder = Claim.model_validate_json(fs.cat_file(held[-1]))
        if not holder.is_dead:
            raise _conflict(directory, f"run {holder.run} of process {holder.pid} on {holder.host}")
        number = int(held[-1].rpartition("/")[2].removesuffix(".json")) + 1
    path = f"{directory}/{number:06d}.json"
    try:
        fs.pipe_file(path, Claim.of(run).model_dump_json().encode(), mode="create")
    except FileExistsError:
        raise _conflict(directory, "a run that was a moment faster") from None
    try:
        yield
    finally:
        # Dead claims first: while ours is there, it is the highest, and nobody takes those for the holder's.
        for left in [*held, path]:
            fs.rm_file(left)


def _conflict(directory: str, holder: str) -> ConflictError:
    return ConflictError(directory, expected="no other run for this day", found=holder)
