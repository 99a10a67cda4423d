"""Pointers: which run's directory holds the day of a table that readers are to see.

    pointers = FilePointers(fs, "build/demo/samples")
    pointers.point(date(2026, 3, 25), "20260326T010400-9f3a0c12")   # _manifests/ds=2026-03-25.json
    pointers.run(date(2026, 3, 25))                                  # "20260326T010400-9f3a0c12"

A pointer changes in one step, and the day with it. Here they are files; `esmm.catalog` has them in a metastore.
"""

import datetime as dt
import json
import re
from pathlib import PurePosixPath
from typing import Protocol

import fsspec

from esmm.errors import DataError
from esmm.files import SUCCESSOR, erase, listed, read_whole, write_atomically
from esmm.schema import DAY

MANIFEST = "_manifest.json"
"""In a run's directory of a day: what the files beside it hold. Readers of Parquet skip names with _ in front."""


def directory(run: str, day: dt.date | None = None) -> str:
    """Where a run keeps its files, or those of one day, below the table's directory."""
    return f"run={run}" if day is None else f"run={run}/{DAY}={day}"


def day_of(name: str) -> dt.date | None:
    """The day that `ds=DAY` names, None for any other name."""
    match = re.fullmatch(rf"{DAY}=(\d{{4}}-\d\d-\d\d)", name)
    return dt.date.fromisoformat(match[1]) if match else None


def run_of(path: str, day: dt.date) -> str | None:
    """The run whose directory of a day an address ends in, None where it ends otherwise."""
    match = re.search(rf"(?:^|/)run=([^/]+)/{DAY}={day}/?$", path)
    return match[1] if match else None


class Pointers(Protocol):
    """The pointers of a table."""

    catalog: str | None
    """The name of the catalog's table, where that is what holds them."""

    def check(self) -> None:
        """Raise DataError where it can be told that `point` will fail: before the work, not after it."""

    def days(self) -> list[dt.date]:
        """The days that are published, in order."""

    def run(self, day: dt.date) -> str | None:
        """The run that the day is pointed at, None where it is not published."""

    def point(self, day: dt.date, run: str) -> None:
        """Point the day at what a run has written for it, in one step."""

    def remove(self, day: dt.date) -> None:
        """Make the day one that is not published, in one step."""


class FilePointers:
    """One file a day, `_manifests/ds=DAY.json`: a copy of the manifest of the run that it points at."""

    catalog: str | None = None

    def __init__(self, fs: fsspec.AbstractFileSystem, table: str) -> None:
        self._fs, self._table = fs, table

    def check(self) -> None:
        """Files are always in order."""

    def days(self) -> list[dt.date]:
        """The days that are published, in order."""
        # By one listing: between two of them a successor could get its own name.
        paths = listed(self._fs, f"{self._path('*')}*")
        names = {PurePosixPath(path).name.removesuffix(SUCCESSOR) for path in paths}
        days = [day_of(name.removesuffix(".json")) for name in names]
        return sorted(day for day in days if day is not None)

    def run(self, day: dt.date) -> str | None:
        """The run that the day is pointed at; raises DataError where the file cannot be understood."""
        path = self._path(day)
        try:
            return str(json.loads(read_whole(self._fs, path))["run"])
        except FileNotFoundError:
            return None
        except (ValueError, LookupError, TypeError):
            raise DataError(path, expected="a manifest", found="something else") from None

    def point(self, day: dt.date, run: str) -> None:
        """Point the day at what a run has written for it."""
        manifest = self._fs.cat_file(f"{self._table}/{directory(run, day)}/{MANIFEST}")
        write_atomically(self._fs, self._path(day), manifest)

    def remove(self, day: dt.date) -> None:
        """Make the day one that is not published."""
        erase(self._fs, self._path(day))

    def _path(self, day: dt.date | str) -> str:
        return f"{self._table}/_manifests/{DAY}={day}.json"
