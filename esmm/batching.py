"""Row groups in, batches of equal size out: shuffled, cut across row groups, padded.

Row groups of 3 and 2 rows with ids 10 to 14, in two batches of 4, in their own order:

    blocks = in_order([{"item": [10, 11, 12]}, {"item": [13, 14]}])
    cut(blocks, columns, 4, spread(5, 2))      # {"item": [10, 11, -1, -1]}, {"item": [12, 13, 14, -1]}

Rows are spread evenly over the batches. Were all but the last one filled, that could be left with a handful of
rows, whose mean gradient is that of all the others in size, and undo what they taught: with Adagrad, a last
step of 47 rows after 513 of 2048 halved a model's pCVR.

A shuffled block is several row groups whose rows change places with each other. Which rows make a block,
and in which order they are taken, depends on the sizes of the row groups and the seed alone: a count of rows
is a position. Within a batch rows of one row group stand together, in the file's order: a step takes them
all at once, and going through memory forwards is faster.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice, pairwise

import numpy as np

from esmm.plan import generator
from esmm.schema import ABSENT, Column

Arrays = dict[str, np.ndarray]
"""Column to values, [rows] or [rows, length], of the column's type; all of as many rows."""

Block = tuple[list[Arrays], np.ndarray]
"""Some arrays, whose rows are numbered from 0 through all of them, and the order in which to take the rows."""

_PART_ROWS = 16_384
_BLOCK_PARTS = 4


def in_order(groups: Iterable[Arrays]) -> Iterator[Block]:
    """Blocks of one row group each, the rows as they come."""
    for arrays in groups:
        yield [arrays], np.arange(_rows(arrays))


def shuffled(groups: Iterable[Arrays], seed: int, epoch: int, rank: int) -> Iterator[Block]:
    """Blocks of four row groups each (or four times as many small ones as make 16,384 rows), rows permuted."""
    parts = _parts(groups)
    for number in count():
        block = list(islice(parts, _BLOCK_PARTS))
        if not block:
            return
        rows = sum(_rows(part) for part in block)
        yield block, generator(seed, epoch, rank, number).permutation(rows)
        del block  # or there would be two in memory while the next one is gathered


def spread(rows: int, batches: int) -> list[int]:
    """How many rows each of some batches gets, so that no two differ by more than one."""
    ends = [number * rows // max(batches, 1) for number in range(batches + 1)]
    return [end - start for start, end in pairwise(ends)]


def cut(
    blocks: Iterable[Block], columns: Sequence[Column], batch_size: int, sizes: Iterable[int]
) -> Iterator[Arrays]:
    """Batches of `batch_size` rows each, in memory of their own, of which the blocks give `sizes`.

    The rest of a batch is rows that weigh nothing: ids are -1, all else is 0.
    """
    source = iter(blocks)
    parts: list[Arrays] = []
    order, taken = np.empty(0, np.int64), 0
    for size in sizes:
        batch, filled = _room(columns, batch_size), 0
        while filled < size:
            if taken == len(order):
                parts.clear()  # or there would be two blocks in memory while the next one is gathered
                (parts, order), taken = next(source), 0
            rows = np.sort(order[taken : taken + size - filled])
            _copy(parts, rows, batch, filled)
            taken, filled = taken + len(rows), filled + len(rows)
        _pad(batch, filled)
        yield batch


def _parts(groups: Iterable[Arrays]) -> Iterator[Arrays]:
    """Row groups, small ones put together: a batch takes rows from all parts of a block, one by one."""
    waiting: list[Arrays] = []
    for arrays in groups:
        waiting.append(arrays)
        if sum(_rows(waits) for waits in waiting) >= _PART_ROWS:
            yield _together(waiting)
            waiting.clear()
    if waiting:
        yield _together(waiting)


def _together(groups: Sequence[Arrays]) -> Arrays:
    if len(groups) == 1:
        return groups[0]
    return {name: np.concatenate([arrays[name] for arrays in groups]) for name in groups[0]}


def _copy(parts: Sequence[Arrays], rows: np.ndarray, batch: Arrays, at: int) -> None:
    """Copy rows, given in ascending order, into the batch from its row `at` on."""
    start = first = 0
    for part in parts:
        end = start + _rows(part)
        last = int(np.searchsorted(rows, end))
        inside = rows[first:last] - start
        for name, array in part.items():
            # The mode lets NumPy write into `out` directly; no index is out of bounds, so nothing is clipped.
            np.take(array, inside, axis=0, out=batch[name][at + first : at + last], mode="clip")
        start, first = end, last


def _pad(batch: Arrays, start: int) -> None:
    for array in batch.values():
        array[start:] = ABSENT if array.dtype == np.int64 else 0


def _room(columns: Sequence[Column], rows: int) -> Arrays:
    return {
        column.name: np.empty((rows,) if column.length is None else (rows, column.length), column.type)
        for column in columns
    }


def _rows(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))
