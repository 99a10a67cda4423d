"""Claims: that no two runs write the same thing, such as a day of a table.

    claims = FileClaims(fs, "build/demo/samples/_claims")
    with claimed(claims, "2026-03-25", run) as held:     # for another run it ends in a ConflictError, exit code 3
        ...
        held.confirm()                                   # right before the step that others see

A claim has a number and is made exclusively: of two runs that make the same number, one succeeds. A dead run
leaves its claim behind; who takes over makes the next number. Having made a claim a run looks again, and gives
up where it is not the only one alive; since everyone makes first and looks then, two can both lose, but never
both win. Where the claims are kept is another matter: as files, here, or in a metastore, `esmm.catalog`.
"""

import datetime as dt
import os
import platform
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

import fsspec
import psutil
import pydantic

from esmm import storage
from esmm.errors import ConflictError
from esmm.files import create, listed, remove

EXPIRES = dt.timedelta(hours=12)
"""A claim that is older than this belongs to a run that died or hangs: longer than any run of a day takes."""

_CLOCKS = dt.timedelta(seconds=2)
"""What a process's start, as the system tells it, may be off by."""


def new_run() -> str:
    """A name for a run: the time, so that runs sort, and a random part, so that they differ."""
    return f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def part_of(run: str, part: str) -> str:
    """A name for what a run does apart, in a directory of its own but under the claims that it holds: RUN.PART."""
    return f"{run}.{part}"


def whole_of(run: str) -> str:
    """The run that holds the claims, of its own name or that of a part."""
    return run.partition(".")[0]


class Claim(pydantic.BaseModel):
    """Who holds something, and since when."""

    run: str
    host: str
    pid: int
    at: dt.datetime

    @classmethod
    def of(cls, run: str) -> "Claim":
        """A claim of this process, now."""
        return cls(run=run, host=_host(), pid=os.getpid(), at=dt.datetime.now(dt.UTC))

    @property
    def is_dead(self) -> bool:
        """Whether its run is over: too old or, where that can be seen, its process gone.

        A process that started after the claim was made is another one, which was given the same number.
        """
        if dt.datetime.now(dt.UTC) - self.at > EXPIRES:
            return True
        if self.host != _host():
            return False
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            return process.create_time() > (self.at + _CLOCKS).timestamp()
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False


class Claims(Protocol):
    """Where claims on some kind of thing are kept."""

    name: str
    """What messages call it."""

    def keys(self) -> list[str]:
        """All that is claimed."""

    def holders(self, key: str) -> dict[int, Claim]:
        """The claims on one thing by number, dead ones too."""

    def add(self, key: str, number: int, claim: Claim) -> None:
        """Make a claim; raises FileExistsError where the number is taken."""

    def remove(self, key: str, number: int) -> None:
        """Remove a claim, where it is there."""


class FileClaims:
    """Claims in a directory, on any storage that fsspec opens: DIRECTORY/KEY/000001.json.

    Exclusive as far as `esmm.files.create` is.
    """

    def __init__(self, fs: fsspec.AbstractFileSystem, directory: str) -> None:
        self._fs, self._directory = fs, directory
        self.name = directory

    def keys(self) -> list[str]:
        """All that is claimed."""
        found = listed(self._fs, f"{self._directory}/*/*.json")
        return sorted({PurePosixPath(path).parent.name for path in found})

    def holders(self, key: str) -> dict[int, Claim]:
        """The claims on one thing by number; one that is not written to its end yet is held by someone."""
        found = {}
        for path in listed(self._fs, f"{self._directory}/{key}/*.json"):
            number = int(PurePosixPath(path).stem)
            try:
                found[number] = Claim.model_validate_json(self._fs.cat_file(path))
            except FileNotFoundError:
                continue  # given up since it was listed
            except pydantic.ValidationError:
                found[number] = Claim(run="unknown", host="unknown", pid=0, at=self._modified(path))
        return found

    def add(self, key: str, number: int, claim: Claim) -> None:
        """Make a claim; raises FileExistsError where the number is taken."""
        create(self._fs, self._path(key, number), claim.model_dump_json().encode())

    def remove(self, key: str, number: int) -> None:
        """Remove a claim, where it is there, and the directories that held nothing else."""
        remove(self._fs, self._path(key, number), up_to=self._directory)

    def _path(self, key: str, number: int) -> str:
        return f"{self._directory}/{key}/{number:06d}.json"

    def _modified(self, path: str) -> dt.datetime:
        try:
            return self._fs.modified(path).astimezone(dt.UTC)
        except FileNotFoundError:
            return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Held:
    """A claim of this process."""

    claims: Claims
    key: str
    number: int
    run: str

    def confirm(self) -> None:
        """Raise ConflictError where the claim is not the only living one any more.

        So it is with a run that slept until its claim had expired and another one had taken over.
        """
        holders = self.claims.holders(self.key)
        own = holders.pop(self.number, None)
        _refuse(self, holders)
        if own is None or own.run != self.run:
            raise _conflict(self, "one that took this run for dead")


@contextmanager
def claimed(claims: Claims, key: str, run: str) -> Iterator[Held]:
    """Hold a claim while the block runs; raises ConflictError, naming the holder, where another run does."""
    dead = claims.holders(key)
    held = Held(claims, key, max(dead, default=0) + 1, run)
    _refuse(held, dead)
    try:
        claims.add(key, held.number, Claim.of(run))
    except FileExistsError:
        raise _conflict(held, "one that was a moment faster") from None
    try:
        held.confirm()
        for number in dead:
            claims.remove(key, number)
        yield held
    finally:
        claims.remove(key, held.number)


@contextmanager
def directory_claimed(directory: str, run: str) -> Iterator[Held]:
    """Hold a whole directory, by a claim beside it, while the block runs; raises ConflictError as `claimed`."""
    fs, path = storage.at(directory)
    beside = PurePosixPath(path)
    with claimed(FileClaims(fs, f"{beside.parent}/_claims"), beside.name, run) as held:
        yield held


def _refuse(held: Held, others: dict[int, Claim]) -> None:
    for claim in others.values():
        if not claim.is_dead:
            raise _conflict(held, f"run {claim.run} of process {claim.pid} on {claim.host}")


def _conflict(held: Held, found: str) -> ConflictError:
    return ConflictError(f"{held.claims.name}/{held.key}", expected="no other run", found=found)


def _host() -> str:
    """This machine's name, in letters that can stand in an address."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", platform.node())
