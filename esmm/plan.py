"""The reading plan: which files and row groups there are, checked before anything is read.

    plan = make_plan("build/demo/samples", [dt.date(2026, 3, 25)], columns)
    plan.row_groups                      # (RowGroup("file:///…/part-0.parquet", bytes=48_211, index=0, rows=16_384), …)
    plan.rows                            # 50_000

Made once, before the first step, from manifests or Parquet footers, and handed to the ranks as JSON. Who reads
what of it is another matter (`esmm.epochs`).
"""

import datetime as dt
import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import PurePosixPath
from typing import NamedTuple, Self

import fsspec
import pydantic
import structlog

from esmm import storage
from esmm.errors import ConfigError, DataError
from esmm.files import read_whole, write_atomically
from esmm.publish import Table
from esmm.rowgroups import Footer, RowGroup, check_columns, plain_type, read_footer
from esmm.schema import DAY, Column

_REQUESTS_AT_A_TIME = 16

log = structlog.get_logger()


class PlannedFile(pydantic.BaseModel):
    """One Parquet file to read."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    url: str
    """Its address, on any storage that fsspec opens."""
    bytes: pydantic.PositiveInt
    """Its length; a file of another length is not the one that was planned."""
    row_groups: tuple[pydantic.NonNegativeInt, ...]
    """Rows of each row group."""


class ReadingPlan(pydantic.BaseModel):
    """All that a reader of samples has to know before it opens a file."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    columns: dict[str, str]
    """The columns that all files have, and their Arrow types."""
    files: tuple[PlannedFile, ...]

    @property
    def row_groups(self) -> tuple[RowGroup, ...]:
        """The row groups that hold rows, in the order of the files."""
        return tuple(
            RowGroup(file.url, file.bytes, index, rows)
            for file in self.files
            for index, rows in enumerate(file.row_groups)
            if rows
        )

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(sum(file.row_groups) for file in self.files)

    def some(self, rows: int) -> Self:
        """Every k-th row group, from the first on, so that they have about so many rows; all, where that is fewer."""
        numbers, step = itertools.count(), max(1, self.rows // rows)
        files = [
            # A row group without rows is not read.
            file.model_copy(update={"row_groups": tuple(
                held if held and next(numbers) % step == 0 else 0 for held in file.row_groups
            )})
            for file in self.files
        ]  # fmt: skip
        return self.model_copy(update={"files": tuple(files)})

    def dump(self, url: str) -> None:
        """Write the plan to a file, in JSON."""
        fs, path = storage.at(url)
        write_atomically(fs, path, self.model_dump_json(indent=1).encode())

    @classmethod
    def load(cls, url: str) -> Self:
        """The plan that `dump` wrote; raises DataError where the file holds none."""
        fs, path = storage.at(url)
        try:
            return cls.model_validate_json(read_whole(fs, path))
        except FileNotFoundError:
            raise DataError(url, expected="a reading plan", found="no file") from None
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise DataError(url, expected="a reading plan", found=f"{first['msg']} ({where})") from None


class _Part(NamedTuple):
    """Files whose columns are told in one place: a manifest, a footer, a plan."""

    where: str
    types: dict[str, str]
    files: tuple[PlannedFile, ...]


def make_plan(samples: str | Table, days: Iterable[dt.date] | None, columns: Sequence[Column]) -> ReadingPlan:
    """Plan the reading of some columns of samples.

    Args:
        samples: a table, opened or by its directory (its manifests say what to read), a file, directory or
            glob of Parquet files, or the file of a plan, *.json. The footers of all files are read, and
            compared with what was said of them.
        days: the days of the table to read, None for all that are published; nothing else has days.
        columns: what will be read.

    Raises:
        DataError: nothing is there, a day is not published, there are no rows, a column is missing, of another
            type or has nulls, a list is of another length, a file cannot be read or is another one than was
            published, or a directory holds _common_metadata.
        ConfigError: days are asked of what has none.
    """
    where = samples.root if isinstance(samples, Table) else samples
    with storage.explained(where, "a table, files or a plan"):
        table = samples if isinstance(samples, Table) else None
        plan = _make_plan(where, table, days, columns)
    log.info("reading plan", files=len(plan.files), row_groups=len(plan.row_groups), rows=plan.rows)
    return plan


def of_table(samples: str, table: str | Table) -> tuple[str | Table, list[dt.date] | None]:
    """Samples by a day of a table, or by an address of their own: the first two arguments of `make_plan`."""
    try:
        return table, [dt.date.fromisoformat(samples)]
    except ValueError:
        return samples, None


def _make_plan(
    samples: str, table: Table | None, days: Iterable[dt.date] | None, columns: Sequence[Column]
) -> ReadingPlan:
    fs, path = storage.at(samples)
    if table is None and (fs.exists(f"{path}/_manifests") or fs.glob(f"{path}/run=*")):
        table = Table(samples)
    if days is not None and table is None:
        raise ConfigError(samples, expected="a table, since days are asked for", found="none")
    if table is not None:
        parts = _parts_of_table(table, days)
    elif samples.endswith(".json"):
        given = ReadingPlan.load(samples)
        _refuse_pickles(file.url for file in given.files)
        parts = [_Part(samples, given.columns, given.files)]
    else:
        parts = _parts_of_files(samples, columns)
    files = tuple(file for part in parts for file in part.files)
    if not any(any(file.row_groups) for file in files):
        raise DataError(samples, expected="Parquet files with rows", found=f"no row in {len(files)} files")
    for part in parts:
        check_columns(part.where, part.types, columns)
    if table is not None or samples.endswith(".json"):
        _check_files(files, columns)
    shared = set.intersection(*(set(part.types.items()) for part in parts))
    return ReadingPlan(columns=dict(sorted(shared)), files=files)


def _check_files(files: Sequence[PlannedFile], columns: Sequence[Column]) -> None:
    """Raise DataError where a file is not what was said of it, before the first step rather than at some later one."""
    for file, footer in zip(files, _footers([file.url for file in files], columns), strict=True):
        for what, expected, found in [
            ("bytes", file.bytes, footer.bytes),
            ("rows a row group", list(file.row_groups), list(footer.row_groups)),
        ]:
            if expected != found:
                raise DataError(file.url, expected=f"{expected} {what}, as planned", found=str(found))


def _footers(urls: Sequence[str], columns: Sequence[Column]) -> list[Footer]:
    with ThreadPoolExecutor(_REQUESTS_AT_A_TIME) as pool:
        return list(pool.map(read_footer, urls, repeat(columns)))


def _parts_of_table(table: Table, days: Iterable[dt.date] | None) -> list[_Part]:
    """One part a day, from its manifest."""
    days = table.days() if days is None else sorted(set(days))
    if not days:
        raise DataError(table.root, expected="a published day", found="none")
    parts = []
    for day in days:
        manifest = table.manifest(day)
        files = tuple(
            PlannedFile(url=table.url(file.path), bytes=file.bytes, row_groups=file.row_groups)
            for file in manifest.files
        )
        types = {name: plain_type(kind) for name, kind in manifest.columns.items()}
        parts.append(_Part(f"{table.root}/{DAY}={day}", types, files))
    _refuse_pickles((file.url for part in parts for file in part.files), table.root)
    return parts


def _parts_of_files(samples: str, columns: Sequence[Column]) -> list[_Part]:
    """One part a file, from its footer."""
    fs, path = storage.at(samples)
    paths = _parquet_files(fs, path)
    urls = [storage.address(found, like=samples) for found in paths]
    _refuse_pickles(urls, samples)
    return [
        _Part(url, footer.types, (PlannedFile(url=url, bytes=footer.bytes, row_groups=footer.row_groups),))
        for url, footer in zip(urls, _footers(urls, columns), strict=True)
    ]


def _parquet_files(fs: fsspec.AbstractFileSystem, path: str) -> list[str]:
    """What a file, directory or glob names; in directories, names with _ or . in front are not data."""
    found: list[str] = []
    for root in fs.glob(path) if any(letter in path for letter in "*?[") else [path]:
        if not fs.isdir(root):
            found += [root] if fs.exists(root) else []
            continue
        for file in fs.find(root):
            below = PurePosixPath(file).relative_to(root).parts
            if file.endswith(".parquet") and not any(name.startswith(("_", ".")) for name in below):
                found.append(file)
    return sorted(set(found))


def _refuse_pickles(files: Iterable[str], *roots: str) -> None:
    """Petastorm's readers unpickle _common_metadata, so that a hostile one runs code: none is let near."""
    directories = {*roots, *itertools.chain.from_iterable(map(_directories, files))}
    pickles = [f"{directory.rstrip('/')}/_common_metadata" for directory in sorted(directories)]
    with ThreadPoolExecutor(_REQUESTS_AT_A_TIME) as pool:
        for pickle, is_there in zip(pickles, pool.map(_exists, pickles), strict=True):
            if is_there:
                raise DataError(pickle, expected="no such file, since opening it can run code", found="one")


def _directories(file: str) -> list[str]:
    """A file's directory and, where that is a partition (ds=2026-03-25), those above it, to what is partitioned."""
    directory = file.rpartition("/")[0]
    is_partition = "=" in directory.rpartition("/")[2]
    return [directory, *(_directories(directory) if is_partition else [])]


def _exists(url: str) -> bool:
    fs, path = storage.at(url)
    return bool(fs.exists(path))
