"""Tables that are spread over ranks, to files and back: each rank writes its part, and reads its rows of all parts.

    spread = Spread({"item": {"rows": shard, "sum": slot}}, rank=1, ranks=2)
    spread.write(directory)                  # directory/item/rows-1-of-2.npy, sum-1-of-2.npy
    spread.read(directory)                   # from the parts of 2 ranks, or of any other number of them

Row r of a table is row r // N of the part of rank r mod N, of N ranks. Files are NumPy's, and neither written nor read
as a whole: a rank's rows pass through memory some at a time, and others' files are mapped.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from esmm.errors import DataError

if TYPE_CHECKING:
    from esmm.distributed.exchange import Exchange
    from esmm.models import Model
    from esmm.optimizers import Optimizer

_BLOCK = 2**18
"""Rows that are in memory beside the variable."""

Parts = Mapping[str, Mapping[str, tf.Variable]]
"""By table, and what of it (`rows`, or a slot of the optimizer): this rank's part, [rows here, d]."""


class Spread:
    """What one rank has of tables that are spread over several."""

    def __init__(self, parts: Parts, rank: int, ranks: int) -> None:
        self._parts, self._rank, self._ranks = parts, rank, ranks

    def __bool__(self) -> bool:
        """Whether there is any such table."""
        return bool(self._parts)

    def write(self, directory: Path) -> None:
        """Write this rank's part of everything."""
        for table, whats in self._parts.items():
            (directory / table).mkdir(parents=True, exist_ok=True)
            for what, part in whats.items():
                _write(directory / table / f"{what}-{self._rank}-of-{self._ranks}.npy", part)

    def read(self, directory: Path, only: str | None = None) -> None:
        """Set this rank's part of everything, or of one thing, to what all ranks of some run have written.

        Raises DataError, naming the file, where a part is missing or is not one of this table.
        """
        for table, whats in self._parts.items():
            for what, part in whats.items():
                if only is None or what == only:
                    self._read(directory / table, what, part)

    def _read(self, directory: Path, what: str, part: tf.Variable) -> None:
        written = [_mapped(file, part) for file in _parts_in(directory, what)]
        own, rows = part.shape[0], sum(len(each) for each in written)
        expected = own * self._ranks
        if not expected - self._ranks < rows <= expected + self._ranks:
            raise DataError(f"{directory}/{what}", expected=f"about {expected:,} rows", found=f"{rows:,}")
        for start in range(0, own, _BLOCK):
            numbers = (np.arange(start, min(start + _BLOCK, own)) * self._ranks) + self._rank
            found = np.empty((len(numbers), part.shape[1]), part.dtype.as_numpy_dtype)
            for rank, values in enumerate(written):
                of_rank = numbers % len(written) == rank
                found[of_rank] = values[numbers[of_rank] // len(written)]
            part[start : start + len(numbers)].assign(found)


NOTHING = Spread({}, 0, 1)
"""No tables at all."""


def of(model: "Model", optimizer: "Optimizer", exchange: "Exchange") -> Spread:
    """This rank's part of a model's tables that are spread over ranks, and of what the optimizer keeps of them."""
    parts = {
        name.replace("/", "."): {"rows": shard}
        | {slot: optimizer.slot(slot, shard) for slot in optimizer.SLOTS}
        for name, shard in model.shards.items()
    }
    return Spread(parts, exchange.rank, exchange.size)


def _write(file: Path, part: tf.Variable) -> None:
    """As np.save does."""
    kind, rows = np.dtype(part.dtype.as_numpy_dtype), part.shape[0]
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": tuple(part.shape)}
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, rows, _BLOCK):
            # A slice would read the variable whole: TensorFlow copies those that are written to row by row.
            block = tf.gather(part, tf.range(start, min(start + _BLOCK, rows), dtype=tf.int64))
            stream.write(block.numpy())


def _parts_in(directory: Path, what: str) -> list[Path]:
    """The files of all ranks, in their order."""
    found = sorted(directory.glob(f"{what}-*-of-*.npy"))
    ranks = int(found[0].stem.rpartition("-")[2]) if found else 0
    files = [directory / f"{what}-{rank}-of-{ranks}.npy" for rank in range(ranks)]
    if not files or sorted(files) != found:
        expected = f"a part of each of {ranks} ranks" if ranks else "the parts of a table"
        raise DataError(f"{directory}/{what}", expected=expected, found=f"{len(found)} files")
    return files


def _mapped(file: Path, part: tf.Variable) -> np.ndarray:
    try:
        values: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(str(file), expected="an array", found=str(error)) from None
    if values.ndim != 2 or values.shape[1] != part.shape[1] or values.dtype != part.dtype.as_numpy_dtype:
        expected = f"rows of {part.shape[1]} {part.dtype.name}"
        raise DataError(str(file), expected=expected, found=f"{values.dtype} {values.shape}")
    return values
