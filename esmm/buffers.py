"""Memory for batches: aligned as TensorFlow wants it, and used again once nobody holds the batch in it.

    buffers = Buffers(columns, 1024)
    batch = buffers.take()              # {"seller": int64 [1024], "clicked_seller": int64 [1024, 20], …}, to be filled
    del batch                           # and whatever was made of it: the next one may take its place

TensorFlow copies an array that does not start at a multiple of 64 bytes, and takes over any other as it is. All
columns of a batch are in one stretch of memory, so that it is no allocator's matter how it is used again: pieces of
all sizes, freed by other threads than took them, would leave gaps that grow with the epochs.
"""

import sys
from collections.abc import Sequence

import numpy as np

from esmm.schema import Column

Arrays = dict[str, np.ndarray]
"""Column to values, [rows] or [rows, length], of the column's type; all of as many rows."""

_ALIGNED = 64


class Buffers:
    """Batches of some columns, of `rows` rows each. For one thread; others may drop what it took."""

    def __init__(self, columns: Sequence[Column], rows: int) -> None:
        self._places: list[tuple[str, tuple[int, ...], np.dtype, int, int]] = []
        self._bytes = 0
        for column in columns:
            shape = (rows,) if column.length is None else (rows, column.length)
            kind = np.dtype(column.type)
            size = kind.itemsize * int(np.prod(shape))
            self._places.append((column.name, shape, kind, self._bytes, size))
            self._bytes += -(-size // _ALIGNED) * _ALIGNED
        self._stretches: list[np.ndarray] = []

    def take(self) -> Arrays:
        """A batch of its own, whose values are whatever was there."""
        stretch = self._unused()
        start = -stretch.ctypes.data % _ALIGNED
        return {
            name: stretch[start + at : start + at + size].view(kind).reshape(shape)
            for name, shape, kind, at, size in self._places
        }

    def _unused(self) -> np.ndarray:
        for stretch in self._stretches:
            # Arrays that show a part of it refer to it, so do TensorFlow's tensors to them. What is left are this
            # list, this loop's variable and getrefcount's own argument.
            if sys.getrefcount(stretch) == 3:
                return stretch
        self._stretches.append(np.empty(self._bytes + _ALIGNED, np.uint8))
        return self._stretches[-1]
