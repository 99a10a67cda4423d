"""Versions: directories of files, on any storage that fsspec opens, that count once their manifest is there.

    put("build/demo/models", version := new_version(), Path("/tmp/saved_model"), {"rows": 350_000})
    complete("build/demo/models")                   # ["20260325T010400.813274-9f3a11c2"], the oldest first
    fetch("build/demo/models", version)             # a local directory whose files are the manifest's

The files come first and manifest.json, with the length and SHA-256 of each and of itself, last: a run that dies
leaves no version. Checkpoints and models are kept like this; nothing of a version changes once it is complete.
"""

import contextlib
import datetime as dt
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pydantic

from esmm import storage
from esmm.errors import DataError
from esmm.files import locked, write_atomically

_MANIFEST = "manifest.json"

_KEPT = dt.timedelta(days=1)
"""How long a copy stays that nobody asks for: whoever has asked for it has long read it by then."""
_COPY = re.compile(r".+-[0-9a-f]{16}(\.unfinished)?")


class StoredFile(pydantic.BaseModel):
    """One file of a version."""

    model_config = pydantic.ConfigDict(frozen=True)

    bytes: int
    sha256: str


class Manifest(pydantic.BaseModel):
    """What a version holds."""

    model_config = pydantic.ConfigDict(frozen=True)

    files: dict[str, StoredFile]
    """By their paths in the version's directory."""
    facts: dict[str, Any]
    """Whatever the writer states."""
    sha256: str
    """Of files and facts, by `_digest`."""


_TIME = "%Y%m%dT%H%M%S.%f"


def new_version(after: str = "") -> str:
    """A name for a version: the time, by which versions sort, and a random part, so that no two are equal.

    With the name of another version, one that sorts after it, whatever the hosts' clocks say.
    """
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    if after:
        now = max(now, dt.datetime.strptime(after.partition("-")[0], _TIME) + dt.timedelta(microseconds=1))
    return f"{now:{_TIME}}-{secrets.token_hex(4)}"


def put(root: str, version: str, directory: Path, facts: dict[str, Any]) -> None:
    """Copy all files of a local directory to `root`/`version`, and complete the version."""
    close(root, version, upload(root, version, directory), facts)


@contextmanager
def staged(root: str, version: str) -> Iterator[Path]:
    """A local directory for files to `upload`; on a file system it is beside their place, and they need no other disk.

    What a process that was killed leaves there is a part of a version that is not complete.
    """
    fs, path = storage.at(root)
    place = Path(path, version) if storage.is_local(fs) else None
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".esmm-", dir=place) as directory:
        yield Path(directory)


def upload(root: str, version: str, directory: Path) -> dict[str, StoredFile]:
    """Copy all files of a local directory to `root`/`version`, or move them from a `staged` one; what they are.

    The version is not complete with that.
    """
    fs, path = storage.at(root)
    is_beside = storage.is_local(fs) and directory.parent == Path(path, version)
    stored = {}
    for file in sorted(found for found in directory.rglob("*") if found.is_file()):
        name = file.relative_to(directory).as_posix()
        target = f"{path}/{version}/{name}"
        fs.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
        stored[name] = StoredFile(bytes=file.stat().st_size, sha256=_sha256(file))
        if is_beside:
            file.replace(target)
        else:
            fs.put_file(str(file), target)
    return stored


def close(root: str, version: str, files: dict[str, StoredFile], facts: dict[str, Any]) -> None:
    """Complete a version of files that are there, whoever has copied them."""
    fs, path = storage.at(root)
    made = Manifest(files=files, facts=facts, sha256="")
    digest = _digest(made.model_dump_json())
    text = made.model_copy(update={"sha256": digest}).model_dump_json(indent=1)
    write_atomically(fs, f"{path}/{version}/{_MANIFEST}", text.encode())


def complete(root: str) -> list[str]:
    """The versions that are complete, in the order of their names, and so of their times."""
    fs, path = storage.at(root)
    return sorted(PurePosixPath(found).parent.name for found in fs.glob(f"{path}/*/{_MANIFEST}"))


def begun(root: str) -> list[str]:
    """All versions, also those whose writing broke off, in the order of their names."""
    fs, path = storage.at(root)
    return sorted(PurePosixPath(found).name for found in fs.glob(f"{path}/*-*") if fs.isdir(found))


def remove(root: str, version: str) -> None:
    """Remove a version: its manifest first, so that what is half removed does not count."""
    fs, path = storage.at(root)
    directory = f"{path}/{version}"
    if fs.exists(f"{directory}/{_MANIFEST}"):
        fs.rm_file(f"{directory}/{_MANIFEST}")
    fs.rm(directory, recursive=True)


def manifest(root: str, version: str) -> Manifest:
    """The manifest of a version; raises DataError where there is none, or one that cannot be read or was changed."""
    fs, path = storage.at(root)
    where = f"{root}/{version}/{_MANIFEST}"
    try:
        text = fs.cat_file(f"{path}/{version}/{_MANIFEST}")
        found = Manifest.model_validate_json(text)
    except FileNotFoundError:
        raise DataError(where, expected="a manifest", found="no file") from None
    except pydantic.ValidationError as error:
        raise DataError(where, expected="a manifest", found=f"{error.error_count()} errors in it") from None
    if (digest := _digest(text)) != found.sha256:
        raise DataError(where, expected=f"a manifest with SHA-256 {found.sha256[:12]}…",
                        found=f"another one, {digest[:12]}…")  # fmt: skip
    return found


def fetch(root: str, version: str, cache: Path | None = None, share: tuple[int, int] = (0, 1)) -> Path:
    """A local directory with the files of a version, each compared with the manifest.

    Of N processes that look at the same files, `share` (k, N) has the k-th compare its part of them alone: what one
    finds counts for all, and they have to tell each other before any of them reads.

    What is on local disk is used where it lies. Anything else is fetched once, whichever processes of the host ask for
    it, to a directory of the user's own in `cache`, by default the system's directory of temporary files; and anew
    where that copy has changed. Before another one comes, copies go that nobody has asked for in a day.

    Raises DataError, naming the file, where one is missing or is not what was put there, and where the disk is full.
    """
    fs, path = storage.at(root)
    expected, where = manifest(root, version), f"{root}/{version}"
    if storage.is_local(fs):
        directory = Path(path) / version
        _check(directory, expected, where, share)
        return directory
    directory = (cache or _own_cache()) / f"{version}-{expected.sha256[:16]}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locked(directory.parent):
        if not directory.is_dir():
            _clear(directory.parent)
            _download(fs, f"{path}/{version}", expected, directory)
        with contextlib.suppress(FileNotFoundError):  # `forget` does not wait for the lock
            os.utime(directory)  # by which `_clear` sees when it was asked for
    if _is_whole(directory, expected, share):
        return directory
    # It may have changed where it lies, which nobody would find to remove it; or another process is at this, too.
    with locked(directory.parent):
        if not _is_whole(directory, expected):
            _download(fs, f"{path}/{version}", expected, directory)
            _check(directory, expected, where)
    return directory


def forget(version: str) -> None:
    """Remove the copy of a version that `fetch` has made in this user's cache, if it made one."""
    for copy in _own_cache().glob(f"{version}-*"):
        shutil.rmtree(copy, ignore_errors=True)


def _check(directory: Path, expected: Manifest, where: str, share: tuple[int, int] = (0, 1)) -> None:
    """Raise DataError, naming a file of a version that is not in the directory as it was put."""
    number, of = share
    # By size, so that shares are about equal.
    for name, stored in sorted(expected.files.items(), key=lambda item: -item[1].bytes)[number::of]:
        file = directory / name
        if not file.is_file():
            raise DataError(f"{where}/{name}", expected=f"a file of {stored.bytes} bytes", found="none")
        if file.stat().st_size != stored.bytes or _sha256(file) != stored.sha256:
            raise DataError(f"{where}/{name}", expected=f"the file with SHA-256 {stored.sha256[:12]}…",
                            found=f"another one, {_sha256(file)[:12]}…")  # fmt: skip


def _is_whole(directory: Path, expected: Manifest, share: tuple[int, int] = (0, 1)) -> bool:
    try:
        _check(directory, expected, str(directory), share)
    except DataError:
        return False
    return True


def _download(fs: fsspec.AbstractFileSystem, source: str, expected: Manifest, target: Path) -> None:
    """Fetch a version's files to a directory that is there once it is complete, in place of what there was."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    for left in (unfinished, target):
        shutil.rmtree(left, ignore_errors=True)
    try:
        unfinished.mkdir()
        for name in expected.files:
            (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(f"{source}/{name}", str(unfinished / name))
        unfinished.rename(target)
    except FileNotFoundError:
        wanted = "the file that the manifest names"
        raise DataError(f"{source}/{name}", expected=wanted, found="none") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        size = sum(file.bytes for file in expected.files.values())
        raise DataError(str(target.parent), expected=f"room for the {size:,} bytes of {source}",
                        found=os.strerror(error.errno)) from None  # fmt: skip
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _clear(cache: Path) -> None:
    """Remove old copies, and what a process that was killed has left; the caller has locked the cache."""
    oldest = time.time() - _KEPT.total_seconds()
    for copy in cache.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if _COPY.fullmatch(copy.name) and (copy.suffix == ".unfinished" or copy.stat().st_mtime < oldest):
                shutil.rmtree(copy, ignore_errors=True)


def _own_cache() -> Path:
    directory = Path(tempfile.gettempdir()) / f"esmm-versions-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        raise DataError(str(directory), expected="a directory of one's own", found="another user's")
    return directory


def _digest(manifest: str | bytes) -> str:
    """SHA-256, in hexadecimal, of what a manifest's JSON says of files and facts, however that is laid out."""
    values = json.loads(manifest)
    text = json.dumps({name: values[name] for name in ("files", "facts")}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
