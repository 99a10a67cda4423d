"""Removes what publication left behind: directories of runs that nothing points at, claims of runs that died.

    for removed in vacuum(table, older_than=timedelta(days=7)):
        print(removed)    # build/demo/samples/run=20260325T010400-9f3a0c12/ds=2026-03-25 (6 files, 3,145,728 bytes)

A directory's age is that of its newest file; a day that is pointed elsewhere gets one more file in the directory
that it leaves (`esmm.publish.REPLACED`), so that the age counts from then: who began to read before it has that
long to finish. Left alone, whatever their age: what is pointed at, what a living run has claimed, what was
published through other pointers than the table's, and a table of which nothing is published at all, whose
pointers are more likely lost than its data.
"""

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pydantic
import structlog

from esmm.claims import whole_of
from esmm.files import listed
from esmm.pointers import MANIFEST, day_of, run_of
from esmm.publish import Manifest, Table

log = structlog.get_logger()


@dataclass(frozen=True)
class Removed:
    """A directory or a claim that was removed, or would be."""

    what: str
    files: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        return f"{self.what} ({self.files:,} files, {self.bytes:,} bytes)" if self.files else self.what


def vacuum(table: Table, older_than: dt.timedelta, *, dry_run: bool = False) -> Iterator[Removed]:
    """Remove a table's unneeded directories and dead claims, telling of each; where `dry_run`, only tell.

    Raises DataError where a pointer cannot be read: nothing is removed on a guess.
    """
    yield from _dead_claims(table, dry_run)
    runs = listed(table.fs, f"{table.path}/run=*")
    if runs and not table.days():
        log.warning("nothing of the table is published: its runs stay", table=table.root, runs=len(runs))
        return
    for run in runs:
        for path in _days_of(table, run):
            yield from _removed(table, path, older_than, dry_run)
        if not _days_of(table, run):
            # Only Spark's own is left: _SUCCESS or, of a run that died, _temporary.
            yield from _removed(table, run, older_than, dry_run)


def _dead_claims(table: Table, dry_run: bool) -> Iterator[Removed]:
    for key in table.claims.keys():  # noqa: SIM118 - no mapping
        for number, claim in table.claims.holders(key).items():
            if claim.is_dead:
                if not dry_run:
                    table.claims.remove(key, number)
                yield Removed(f"{table.claims.name}/{key}, claim of run {claim.run}, which is dead")


def _days_of(table: Table, run: str) -> list[str]:
    return [path for path in listed(table.fs, f"{run}/*") if day_of(PurePosixPath(path).name) is not None]


def _removed(table: Table, path: str, older_than: dt.timedelta, dry_run: bool) -> Iterator[Removed]:
    """Remove a run's directory, or that of one of its days, where nothing and nobody needs it."""
    try:
        files = table.fs.find(path)
        if any(_age(table, file) < older_than for file in files) or _was_published_elsewhere(table, path):
            return
        size = sum(map(table.fs.size, files))
        removed = Removed(f"{table.root}/{path.removeprefix(f'{table.path}/')}", len(files), size)
        # Right before the end, and in this order: a run that gives up its claim has moved the pointer before.
        if _is_claimed(table, path) or _is_pointed_at(table, path):
            return
        if not dry_run:
            table.fs.rm(path, recursive=True)
        if files:
            yield removed
    except FileNotFoundError:  # someone else is removing it
        return


def _age(table: Table, file: str) -> dt.timedelta:
    return dt.datetime.now(dt.UTC) - table.fs.modified(file).astimezone(dt.UTC)


def _was_published_elsewhere(table: Table, path: str) -> bool:
    try:
        manifest = Manifest.model_validate_json(table.fs.cat_file(f"{path}/{MANIFEST}"))
    except (FileNotFoundError, pydantic.ValidationError):  # its run died before it could publish
        return False
    if manifest.catalog == table.pointers.catalog:
        return False
    log.warning(
        "published in another way: it stays", path=path, catalog=manifest.catalog or "none, but files"
    )
    return True


def _is_claimed(table: Table, path: str) -> bool:
    """Whether the run of a directory is at work, or a claim cannot be read, which may be its."""
    living = {
        claim.run
        for key in table.claims.keys()  # noqa: SIM118 - no mapping
        for claim in table.claims.holders(key).values()
        if not claim.is_dead
    }
    return not living.isdisjoint({"unknown", *map(whole_of, re.findall(r"/run=([^/]+)", path))})


def _is_pointed_at(table: Table, path: str) -> bool:
    day = day_of(PurePosixPath(path).name)
    return day is not None and run_of(path, day) == table.pointers.run(day)
