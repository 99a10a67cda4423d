"""Tables of Parquet files, one partition a day, each of which appears whole or not at all.

    table, run = Table("build/demo/samples"), new_run()
    with table.claimed([day], run):              # another run for the day ends here, with a ConflictError
        frame.write.partitionBy("ds").parquet(table.stage(run))      # run=20260325T010400-9f3a0c12/ds=2026-03-24
        table.publish(day, run, config=config.digest())              # the day is pointed at that directory

A run writes into a directory of its own, and a manifest beside the files; the day's pointer, which changes in
one step, says which run's directory counts (`esmm.pointers`: a file; `esmm.catalog`: a metastore's partition).
Readers see the old rows or the new ones, and nothing of a run that died. What is replaced stays, so that those
who read it can finish, until `esmm.vacuum` removes it.
"""

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import PurePosixPath
from typing import Any

import pyarrow.parquet as pq
import pydantic

from esmm import storage
from esmm.claims import Claims, FileClaims, Held, claimed
from esmm.claims import new_run as new_run
from esmm.claims import part_of as part_of
from esmm.errors import DataError
from esmm.pointers import MANIFEST, FilePointers, Pointers, day_of, directory
from esmm.schema import DAY

REPLACED = "_replaced"
"""In a run's directory of a day, once the day is pointed elsewhere: a file that says by whom, and when by its age."""


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
    catalog: str | None = None
    """The catalog's table whose partition points at it; None where a file does."""


class Table:
    """A table's directory, on any storage that fsspec opens, and what says which of its files count."""

    def __init__(self, root: str, pointers: Pointers | None = None, claims: Claims | None = None) -> None:
        self.fs, self.path = storage.at(root)
        self.root = root
        self.pointers = FilePointers(self.fs, self.path) if pointers is None else pointers
        self.claims = FileClaims(self.fs, f"{self.path}/_claims") if claims is None else claims
        self._held: dict[dt.date, Held] = {}

    def url(self, path: str = "") -> str:
        """The address of something in the table as Spark and other readers take it."""
        return storage.address("/".join(part for part in (self.path, path) if part), like=self.root)

    def stage(self, run: str) -> str:
        """The address of the directory that a run is to write into, one directory `ds=DAY` a day."""
        return self.url(directory(run))

    @contextmanager
    def claimed(self, days: Iterable[dt.date], run: str) -> Iterator[None]:
        """Hold days for a run while the block runs; raises ConflictError where another run holds one.

        Raises DataError where it is plain already that the days cannot be published.
        """
        self.pointers.check()
        with ExitStack() as stack:
            for day in days:
                self._held[day] = stack.enter_context(claimed(self.claims, str(day), run))
                stack.callback(self._held.pop, day)
            yield

    def confirm(self, day: dt.date) -> None:
        """Raise ConflictError where a claim on the day, if this table holds one, is not the only one alive any more."""
        if day in self._held:
            self._held[day].confirm()

    def days(self) -> list[dt.date]:
        """The days that are published, in order."""
        return self.pointers.days()

    def manifest(self, day: dt.date) -> Manifest:
        """What the day's partition holds; raises DataError where none is published."""
        run = self.pointers.run(day)
        if run is None:
            published = ", ".join(map(str, self.days())) or "none"
            raise DataError(f"{self.root}/{DAY}={day}", expected="a published day",
                            found=f"no manifest (published: {published})")  # fmt: skip
        path = f"{self.path}/{directory(run, day)}/{MANIFEST}"
        try:
            return Manifest.model_validate_json(self.fs.cat_file(path))
        except FileNotFoundError:
            raise DataError(path, expected="a manifest", found="no file") from None
        except pydantic.ValidationError as error:
            raise DataError(
                path, expected="a manifest", found=f"{error.error_count()} errors in it"
            ) from None

    def files(self, days: Iterable[dt.date]) -> list[str]:
        """The addresses of the files of the days' partitions; raises DataError where a day is not published."""
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
        beside: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Make what the run staged the day's partition, in one step, the last one.

        Args:
            day: the day.
            run: the run that staged it.
            config: the digest of the config it was made with.
            immature: whether labels may still change.
            counts: what went in and what was dropped.
            facts: whatever else the manifest is to state.
            beside: name to JSON document, each kept beside the manifest.

        The manifest's rows, row groups and types are read from the files themselves. Raises DataError where
        the run staged no file, or where the catalog's table does not take its columns; ConflictError where
        another run has taken the day over since it was claimed.
        """
        files, columns = self._describe(day, run)
        manifest = Manifest(
            day=day, run=run, config=config, immature=immature, counts=counts or {}, facts=facts or {},
            columns=columns, rows=sum(file.rows for file in files), files=files,
            catalog=self.pointers.catalog,
        )  # fmt: skip
        place = f"{self.path}/{directory(run, day)}"
        for name, document in (beside or {}).items():
            self.fs.pipe_file(f"{place}/_{name}.json", json.dumps(document, indent=1).encode())
        self.fs.pipe_file(f"{place}/{MANIFEST}", manifest.model_dump_json(indent=1).encode())
        self.confirm(day)
        self._mark_replaced(day, by=run)
        self.pointers.point(day, run)
        return manifest

    def staged(self, day: dt.date, run: str) -> list[str]:
        """The files that a run has written for a day, as the storage knows them."""
        return sorted(self.fs.glob(f"{self.path}/{directory(run, day)}/*.parquet"))

    def withdraw(self, day: dt.date) -> None:
        """Make a day one that is not published; its files stay for those who read them."""
        if self.pointers.run(day) is not None:
            self._mark_replaced(day, by="nothing")
            self.pointers.remove(day)

    def discard(self, run: str) -> None:
        """Remove what a run staged and did not publish."""
        place = f"{self.path}/{directory(run)}"
        kept = False
        for path in self.fs.glob(f"{place}/*"):
            name = path.rpartition("/")[2]
            day = day_of(name)
            if day is not None and self.pointers.run(day) == run:
                kept = True
            else:
                self.fs.rm(path, recursive=True)
        if not kept and self.fs.exists(place):
            self.fs.rm(place, recursive=True)

    def _describe(self, day: dt.date, run: str) -> tuple[tuple[DataFile, ...], dict[str, str]]:
        """The files that a run staged for a day, and their columns, read from their footers."""
        files, columns = [], {}
        for path in self.staged(day, run):
            with self.fs.open(path, "rb") as handle:
                metadata = pq.read_metadata(handle)
            groups = tuple(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
            relative = str(PurePosixPath(path).relative_to(self.path))
            files.append(DataFile(path=relative, bytes=self.fs.size(path), row_groups=groups))
            columns = {field.name: str(field.type) for field in metadata.schema.to_arrow_schema()}
        if not files:
            raise DataError(self.url(directory(run, day)), expected="Parquet files to publish", found="none")
        return tuple(files), columns

    def _mark_replaced(self, day: dt.date, *, by: str) -> None:
        """Before a day is pointed elsewhere: leave the time in the directory that it is pointed at.

        Where a run dies right after this, nothing is lost: the next one does it again, and the later time counts.
        """
        replaced = self.pointers.run(day)
        if replaced not in (None, by):
            self.fs.pipe_file(f"{self.path}/{directory(str(replaced), day)}/{REPLACED}", by.encode())
