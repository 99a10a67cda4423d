"""Files that are there whole or not at all, on any storage that fsspec opens.

    write_atomically(fs, "build/demo/plan.json", data)    # readers see the old file or the new one,
    read_whole(fs, "build/demo/plan.json")                # if this is how they read it
    create(fs, "build/demo/claim.json", data)             # FileExistsError for all but one
    with locked(Path("/scratch/cache")): ...              # one process of this machine at a time

A rename replaces a local file in one step; object stores, and memory, show an object once its upload is complete.
HDFS and whatever else fsspec opens may show a file while it is written, and may not rename to a name that is taken:
Arrow's Hadoop removes that file first, WebHDFS does nothing and does not say so. There the new file is named PATH.next,
the old one is removed, and the new one gets its name; `read_whole` takes PATH.next where PATH is not there, for as long
as that is so. It takes one writer at a time, which claims see to.

What `create` promises depends on the storage. Local and network file systems, and memory, make the file in one
exclusive step. S3, Google Cloud Storage and Azure refuse the second of two uploads (s3fs, gcsfs and adlfs send
the condition with it; of the stores that speak S3's language some ignore it). On anything else, such as HDFS
through Arrow, fsspec looks first and writes then: two processes within milliseconds of each other can both
succeed.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import fsspec

from esmm.storage import is_local

_ATTEMPTS = 100
"""Times to try again at once, where others are at work in the same directory."""


SUCCESSOR = ".next"
"""What a file's name ends in that counts where the one without it is not there."""

_UPLOADS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}
"""Protocols of storages that show what is written to them once it is all there."""


def write_atomically(fs: fsspec.AbstractFileSystem, path: str, data: bytes) -> None:
    """Write a file that `read_whole` sees whole, the old one or the new one, whenever the writer dies."""
    if _uploads(fs):
        fs.pipe_file(path, data)
        return
    fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
    temporary, successor = f"{path}.{secrets.token_hex(4)}", f"{path}{SUCCESSOR}"
    fs.pipe_file(temporary, data)
    if is_local(fs):
        Path(temporary).replace(path)
    elif fs.exists(path):
        _remove_file(fs, successor)  # of a writer that died before it counted
        fs.mv(temporary, successor)
        fs.rm_file(path)  # from here on the successor counts
        fs.mv(successor, path)
    else:
        fs.mv(temporary, path)
        _remove_file(fs, successor)  # it has counted until now


def read_whole(fs: fsspec.AbstractFileSystem, path: str) -> bytes:
    """What `write_atomically` wrote last; raises FileNotFoundError where there is no such file."""
    if _has_successors(fs):
        for name in (path, f"{path}{SUCCESSOR}"):
            with contextlib.suppress(FileNotFoundError):
                return bytes(fs.cat_file(name))
    return bytes(fs.cat_file(path))  # by now a successor, too, has its own name


def erase(fs: fsspec.AbstractFileSystem, path: str) -> None:
    """Remove what `write_atomically` wrote, where it is there, in one step."""
    if _has_successors(fs):
        _remove_file(fs, f"{path}{SUCCESSOR}")  # before the other, or it would count
    _remove_file(fs, path)


def create(fs: fsspec.AbstractFileSystem, path: str, data: bytes) -> None:
    """Write a file that is not there yet; raises FileExistsError where it is. Local readers may see it empty."""
    if not is_local(fs):
        fs.pipe_file(path, data, mode="create")
        return
    # fsspec's own mode="create" looks first and writes then. The directories may go while this runs: `remove`.
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            with Path(path).open("xb") as file:
                file.write(data)
            return
    raise FileNotFoundError(path)


def listed(fs: fsspec.AbstractFileSystem, pattern: str) -> list[str]:
    """What matches a pattern now, in order, while others write and remove there.

    fsspec looks at every entry again after it has listed the directory, and fails where one has gone since.
    """
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):
            fs.invalidate_cache()  # object stores keep listings
            return sorted(fs.glob(pattern))
    raise FileNotFoundError(pattern)


def remove(fs: fsspec.AbstractFileSystem, path: str, *, up_to: str) -> None:
    """Remove a file, where it is there, and the directories above it that it leaves empty, up to one."""
    _remove_file(fs, path)
    if is_local(fs):
        with contextlib.suppress(OSError):  # not empty, or gone already
            for directory in Path(path).parents:
                if not directory.is_relative_to(up_to):
                    break
                directory.rmdir()


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Be the only process of this machine that does so with a local directory, while the block runs."""
    opened = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)  # goes with the process, however it ends
        yield
    finally:
        os.close(opened)


def _has_successors(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether a file can only be replaced by way of a successor."""
    return not (is_local(fs) or _uploads(fs))


def _uploads(fs: fsspec.AbstractFileSystem) -> bool:
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else {*fs.protocol}
    return not protocols.isdisjoint(_UPLOADS)


def _remove_file(fs: fsspec.AbstractFileSystem, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        fs.rm_file(path)
