"""Tables of Parquet files, one partition a day, each of which appears whole or not at all.

    table, run = Table("build/demo/samples"), new_run()
    with table.claimed([day], run):              # another run for the day ends here, with a ConflictError
        frame.write.partitionBy("ds").parquet(table.stage(run))      # run=20260325T010400-9f3a/ds=2026-03-24
        table.publish(day, run, config=config.digest())              # _manifests/ds=2026-03-24.json

A run writes into a directory of its own; the manifest, replaced in one step, says which run's files are
the day's. Readers go by the manifest alone: they see the old rows or the new ones, and nothing of a run
that died. Publishing removes the files that it replaces, after the manifest has changed.
"""

import datetime as dt
import secrets
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pydantic

from esmm.claims import claimed
from esmm.errors import DataError
from esmm.schema import DAY


class DataFile(pydantic.BaseModel):
    """One Parquet file of a partition."""

    model_config = pydantic.ConfigDict(frozen=True)

    path: str
    """Relative to the table's directory."""
    bytes: int
    """The file's length."""
    row_groups: tuple[int, ...]
    """Rows of each row group."""

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return sum(self.row_groups)


class Manifest(pydantic.BaseModel):
    """What a published partition holds."""

    model_config = pydantic.ConfigDict(frozen=True)

    day: dt.date
    run: str
    """The run that wrote it."""
    config: str
    """The digest of the config it was made with."""
    columns: dict[str, str]
    """Name to Arrow type."""
    rows: int
    files: tuple[DataFile, ...]
    immature: bool = False
    """Whether labels may still change: the logs ended before the attribution windows did."""
    counts: dict[str, int] = {}
    """What went in, what was dropped and why, and the positives."""
    facts: dict[str, Any] = {}
    """Whatever else the writer states, such as the model's version."""


def new_run() -> str:
    """A name for a run: the time, so that runs sort, and a random part, so that they differ."""
    return f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


class Table:
    """A table's directory, on any storage that fsspec opens."""

    def __init__(self, root: str) -> None:
        self.fs, self.path = fsspec.core.url_to_fs(root)
        self.root = root

    def url(self, path: str = "") -> str:
        """The address of something in the table as Spark and other readers take it."""
        return str(self.fs.unstrip_protocol("/".join(part for part in (self.path, path) if part)))

    def stage(self, run: str) -> str:
        """The address of the directory that a run is to write into, one directory `ds=DAY` a day."""
        return self.url(_directory(run))

    @contextmanager
    def claimed(self, days: Iterable[dt.date], run: str) -> Iterator[None]:
        """Hold days for a run while the block runs; raises ConflictError where another run holds one."""
        with ExitStack() as stack:
            for day in days:
                stack.enter_context(claimed(self.fs, f"{self.path}/_claims/{DAY}={day}", run))
            yield

    def days(self) -> list[dt.date]:
        """The days that are published, in order."""
        if not self.fs.exists(self.path):
            return []
        found = self.fs.glob(_manifest(self.path, "*"))
        return sorted(dt.date.fromisoformat(PurePosixPath(path).stem.partition("=")[2]) for path in found)

    def manifest(self, day: dt.date) -> Manifest:
        """What the day's partition holds; raises DataError where none is published."""
        path = _manifest(self.path, day)
        try:
            return Manifest.model_validate_json(self.fs.cat_file(path))
        except FileNotFoundError:
            published = ", ".join(map(str, self.days())) or "none"
            raise DataError(f"{self.root}/{DAY}={day}", expected="a published day",
                            found=f"no manifest (published: {published})") from None  # fmt: skip
        except pydantic.ValidationError as error:
            raise DataError(
                path, expected="a manifest", found=f"{error.error_count()} errors in it"
            ) from None

    def files(self, days: Iterable[dt.date]) -> list[str]:
        """The addresses of the files of the days' partitions; raises DataError where one is missing."""
        return [self.url(file.path) for day in days for file in self.manifest(day).files]

    def publish(
        self,
        day: dt.date,
        run: str,
        *,
        config: str,
        immature: bool = False,
        counts: dict[str, int] | None = None,
        facts: dict[str, Any] | None = None,
    ) -> Manifest:
        """Make what the run staged the day's partition, in one step.

        The manifest's rows, row groups and types are read from the files themselves. Raises DataError where
        the run staged no file.
        """
        paths = self.staged(day, run)
        if not paths:
            raise DataError(self.url(_directory(run, day)), expected="Parquet files to publish", found="none")
        files, schema = [], None
        for path in paths:
            with self.fs.open(path, "rb") as handle:
                metadata = pq.read_metadata(handle)
            groups = tuple(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
            relative = str(PurePosixPath(path).relative_to(self.path))
            files.append(DataFile(path=relative, bytes=self.fs.size(path), row_groups=groups))
            schema = metadata.schema.to_arrow_schema()
        assert schema is not None
        manifest = Manifest(
            day=day, run=run, config=config, immature=immature, counts=counts or {}, facts=facts or {},
            columns={field.name: str(field.type) for field in schema},
            rows=sum(file.rows for file in files), files=tuple(files),
        )  # fmt: skip
        replaced = self.manifest(day) if day in self.days() else None
        write_atomically(self.fs, _manifest(self.path, day), manifest.model_dump_json(indent=1).encode())
        if replaced is not None and replaced.run != run:
            self._remove(_directory(replaced.run, day))
        self._remove(f"{_directory(run)}/_SUCCESS")
        return manifest

    def staged(self, day: dt.date, run: str) -> list[str]:
        """The files that a run has written for a day, as the storage knows them."""
        return sorted(self.fs.glob(f"{self.path}/{_directory(run, day)}/*.parquet"))

    def withdraw(self, day: dt.date) -> None:
        """Make a day one that is not published, and remove its files."""
        if day in self.days():
            run = self.manifest(day).run
            self.fs.rm_file(_manifest(self.path, day))
            self._remove(_directory(run, day))

    def discard(self, run: str) -> None:
        """Remove what a run staged and did not publish."""
        published = {day for day in self.days() if self.manifest(day).run == run}
        staged = self.fs.glob(f"{self.path}/{_directory(run)}/*")
        for path in staged:
            if path.rpartition("/")[2] not in {f"{DAY}={day}" for day in published}:
                self.fs.rm(path, recursive=True)
        if not published:
            self._remove(_directory(run))

    def _remove(self, path: str) -> None:
        if self.fs.exists(f"{self.path}/{path}"):
            self.fs.rm(f"{self.path}/{path}", recursive=True)


def write_atomically(fs: fsspec.AbstractFileSystem, path: str, data: bytes) -> None:
    """Write a file that readers see whole: the old one or the new one.

    Object stores show an object when its upload is complete; on file systems, a rename does it.
    """
    if "file" not in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol):
        fs.pipe_file(path, data)
        return
    fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
    temporary = f"{path}.{secrets.token_hex(4)}"
    fs.pipe_file(temporary, data)
    Path(temporary).replace(path)


def _directory(run: str, day: dt.date | None = None) -> str:
    return f"run={run}" if day is None else f"run={run}/{DAY}={day}"


def _manifest(table: str, day: dt.date | str) -> str:
    return f"{table}/_manifests/{DAY}={day}.json"
