"""A rank's row groups as bytes on local disk: what a cache of decoded samples keeps, and where.

    with own_directory(Path("/scratch")) as directory:          # /scratch/esmm-rows-x7k2…, 0700
        (directory / "a").write_bytes(pack(arrays))             # each array's memory, one after another
        unpack((directory / "a").read_bytes(), columns)         # the arrays again, over those bytes: no copy

The directory is made for this process and removed at its end. So nobody else's files are ever read, and nothing in
it needs to be versioned; those of processes that were killed are removed by the next one that comes by.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from esmm.buffers import Arrays
from esmm.errors import ConfigError
from esmm.files import locked
from esmm.schema import Column

_PREFIX = "esmm-rows-"
_ALIGNED = 8


@contextmanager
def own_directory(parent: Path) -> Iterator[Path]:
    """A new directory of this process's own while the block runs; raises ConfigError where none can be made."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        # One process at a time: between its making and its locking, a directory looks like a dead process's.
        with locked(parent):
            _remove_dead(parent)
            directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            lock = (directory / "lock").open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)  # goes with the process, however it ends
    except OSError as error:
        raise ConfigError(str(parent), expected="a directory to write to", found=str(error)) from None
    with lock:
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def pack(arrays: Arrays) -> bytes:
    """The arrays' memory, each padded to a multiple of 8 bytes, and before it the number of rows."""
    rows = len(next(iter(arrays.values())))
    parts: list[bytes | memoryview] = [rows.to_bytes(_ALIGNED, "little")]
    for array in arrays.values():
        parts += [np.ascontiguousarray(array).data, bytes(-array.nbytes % _ALIGNED)]
    return b"".join(parts)


def unpack(data: bytes, columns: Sequence[Column]) -> Arrays:
    """What `pack` was given, of these columns in this order: read-only, and one with `data`."""
    rows, at = int.from_bytes(data[:_ALIGNED], "little"), _ALIGNED
    arrays = {}
    for column in columns:
        shape = (rows,) if column.length is None else (rows, column.length)
        array = np.frombuffer(data, column.type, int(np.prod(shape)), at).reshape(shape)
        arrays[column.name] = array
        at += array.nbytes + -array.nbytes % _ALIGNED
    return arrays


def _remove_dead(parent: Path) -> None:
    """Remove what processes left that ended without a chance to."""
    for directory in parent.glob(f"{_PREFIX}*"):
        # Made where it is missing: a thread that outlives its block can write into the directory after its end.
        with suppress(OSError), (directory / "lock").open("a") as lock:  # not ours, or held
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
