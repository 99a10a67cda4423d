"""The reading plan: which row groups there are, and which of them each rank reads in an epoch.

Made once, before the first step, from manifests or Parquet footers; handed to the ranks as JSON. Of three
files of one row group each, of 100, 60 and 50 rows:

    plan.share(0, ranks=2)               # the row group of 100 rows
    plan.share(1, ranks=2)               # those of 60 and 50
    plan.steps(ranks=2, batch_size=40)   # 3 = ⌈110 / 40⌉, on both ranks

Whole row groups are dealt out in an order shuffled by (seed, epoch), each to the rank that has the fewest
rows so far: every row is one rank's, and the ranks' rows differ by at most the largest row group.
"""

import datetime as dt
import heapq
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import NamedTuple, Self

import fsspec
import numpy as np
import pydantic
import structlog

from esmm.errors import ConfigError, DataError
from esmm.publish import Table, write_atomically
from esmm.rowgroups import RowGroup, check_columns, plain_type, read_footer
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

    def share(self, rank: int, ranks: int, epoch: int = 0, seed: int | None = None) -> tuple[RowGroup, ...]:
        """The row groups that a rank reads in an epoch, in the order in which it reads them.

        Where there are more ranks than row groups, some get none. Without a seed nothing is shuffled.
        """
        return self._shares(ranks, epoch, seed)[rank]

    def steps(self, ranks: int, batch_size: int, epoch: int = 0, seed: int | None = None) -> int:
        """The batches that every rank takes in an epoch: as many as the one with the most rows needs."""
        most = max(sum(group.rows for group in share) for share in self._shares(ranks, epoch, seed))
        return -(-most // batch_size)

    def _shares(self, ranks: int, epoch: int, seed: int | None) -> list[tuple[RowGroup, ...]]:
        groups = self.row_groups
        order = range(len(groups)) if seed is None else generator(seed, epoch).permutation(len(groups))
        shares: list[list[RowGroup]] = [[] for _ in range(ranks)]
        fewest = [(0, rank) for rank in range(ranks)]
        for index in order:
            rows, rank = fewest[0]
            shares[rank].append(groups[index])
            heapq.heapreplace(fewest, (rows + groups[index].rows, rank))
        return [tuple(share) for share in shares]

    def dump(self, url: str) -> None:
        """Write the plan to a file, in JSON."""
        fs, path = fsspec.core.url_to_fs(url)
        write_atomically(fs, path, self.model_dump_json(indent=1).encode())

    @classmethod
    def load(cls, url: str) -> Self:
        """The plan that `dump` wrote; raises DataError where the file holds none."""
        fs, path = fsspec.core.url_to_fs(url)
        try:
            return cls.model_validate_json(fs.cat_file(path))
        except FileNotFoundError:
            raise DataError(url, expected="a reading plan", found="no file") from None
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise DataError(url, expected="a reading plan", found=f"{first['msg']} ({where})") from None


def generator(seed: int, *numbers: int) -> np.random.Generator:
    """A random generator that depends on all of these numbers; the seed alone may be negative."""
    return np.random.default_rng([abs(seed), int(seed < 0), *numbers])


class _Part(NamedTuple):
    """Files whose columns are told in one place: a manifest, a footer, a plan."""

    where: str
    types: dict[str, str]
    files: tuple[PlannedFile, ...]


def make_plan(samples: str, days: Iterable[dt.date] | None, columns: Sequence[Column]) -> ReadingPlan:
    """Plan the reading of some columns of samples.

    Args:
        samples: a table (its manifests say what to read; no Parquet file is opened), a file, directory or
            glob of Parquet files (their footers are read), or the file of a plan, *.json.
        days: the days of the table to read, None for all that are published; nothing else has days.
        columns: what will be read.

    Raises:
        DataError: nothing is there, a day is not published, there are no rows, a column is missing or of
            another type, or a directory holds _common_metadata.
        ConfigError: days are asked of what has none.
    """
    fs, path = fsspec.core.url_to_fs(samples)
    is_table = fs.exists(f"{path}/_manifests") or bool(fs.glob(f"{path}/run=*"))
    if days is not None and not is_table:
        raise ConfigError(samples, expected="a table, since days are asked for", found="none")
    if is_table:
        parts = _parts_of_table(Table(samples), days)
    elif samples.endswith(".json"):
        given = ReadingPlan.load(samples)
        parts = [_Part(samples, given.columns, given.files)]
    else:
        parts = _parts_of_files(fs, path)
    files = tuple(file for part in parts for file in part.files)
    if not any(any(file.row_groups) for file in files):
        raise DataError(samples, expected="Parquet files with rows", found=f"no row in {len(files)} files")
    for part in parts:
        check_columns(part.where, part.types, columns)
    shared = set.intersection(*(set(part.types.items()) for part in parts))
    plan = ReadingPlan(columns=dict(sorted(shared)), files=files)
    log.info("reading plan", files=len(files), row_groups=len(plan.row_groups), rows=plan.rows)
    return plan


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
    _refuse_pickles(table.fs, table.path, (file.url for part in parts for file in part.files))
    return parts


def _parts_of_files(fs: fsspec.AbstractFileSystem, path: str) -> list[_Part]:
    """One part a file, from its footer."""
    paths = _parquet_files(fs, path)
    _refuse_pickles(fs, path, paths)
    urls = [str(fs.unstrip_protocol(found)) for found in paths]
    with ThreadPoolExecutor(_REQUESTS_AT_A_TIME) as pool:
        footers = list(pool.map(read_footer, urls))
    return [
        _Part(url, types, (PlannedFile(url=url, bytes=length, row_groups=row_groups),))
        for url, (length, row_groups, types) in zip(urls, footers, strict=True)
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


def _refuse_pickles(fs: fsspec.AbstractFileSystem, root: str, files: Iterable[str]) -> None:
    """Petastorm's readers unpickle _common_metadata, so that a hostile one runs code: none is let near."""
    directories = sorted({root, *(file.rpartition("/")[0] for file in files)})
    pickles = [f"{directory}/_common_metadata" for directory in directories]
    with ThreadPoolExecutor(_REQUESTS_AT_A_TIME) as pool:
        for pickle, is_there in zip(pickles, pool.map(fs.exists, pickles), strict=True):
            if is_there:
                raise DataError(pickle, expected="no such file, since opening it can run code", found="one")
