"""Files that are there whole or not at all, on any storage that fsspec opens.

    write_atomically(fs, "build/demo/plan.json", data)    # readers see the old file or the new one
    create(fs, "build/demo/claim.json", data)             # FileExistsError for all but one
    with locked(Path("/scratch/cache")): ...              # one process of this machine at a time

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


def write_atomically(fs: fsspec.AbstractFileSystem, path: str, data: bytes) -> None:
    """Write a file that readers see whole: the old one or the new one.

    Object stores show an object when its upload is complete; on file systems, a rename does it.
    """
    if not is_local(fs):
        fs.pipe_file(path, data)
        return
    fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
    temporary = f"{path}.{secrets.token_hex(4)}"
    fs.pipe_file(temporary, data)
    Path(temporary).replace(path)


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
    with contextlib.suppress(FileNotFoundError):
        fs.rm_file(path)
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
