"""Row groups in, batches of equal size out: cut across row groups, in any order, padded.

Row groups of 3 and 2 rows with ids 10 to 14, in two batches of 4, in their own order:

    blocks = gathered(epoch.blocks(0), [{"item": [10, 11, 12]}, {"item": [13, 14]}])
    cut(blocks, columns, 4, epoch.sizes(0))    # {"item": [10, 11, -1, -1]}, {"item": [12, 13, 14, -1]}

Rows are spread evenly over the batches. Were all but the last one filled, that could be left with a handful of
rows, whose mean gradient is that of all the others in size, and undo what they taught: with Adagrad, a last
step of 47 rows after 513 of 2048 halved a model's pCVR.

Within a batch rows of one row group stand together, in the file's order: a step takes them all at once, and
going through memory forwards is faster.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from esmm.buffers import Arrays, Buffers
from esmm.epochs import Block
from esmm.schema import ABSENT, Column

Gathered = tuple[list[Arrays], np.ndarray]
"""Some arrays, whose rows are numbered from 0 through all of them, and the order in which to take the rows."""

_PART_ROWS = 8_192


def gathered(blocks: Iterable[Block], groups: Iterable[Arrays]) -> Iterator[Gathered]:
    """Each block's arrays, of which `groups` are those of all their pieces in turn."""
    source = iter(groups)
    for block in blocks:
        yield list(_parts(islice(source, len(block.pieces)))), block.order()


def cut(
    blocks: Iterable[Gathered], columns: Sequence[Column], batch_size: int, sizes: Iterable[int]
) -> Iterator[Arrays]:
    """Batches of `batch_size` rows each, of which the blocks give `sizes`, in memory of their own (`esmm.buffers`).

    The rest of a batch is rows that weigh nothing: ids are -1, all else is 0.
    """
    source, buffers = iter(blocks), Buffers(columns, batch_size)
    parts: list[Arrays] = []
    order, taken = np.empty(0, np.int64), 0
    for size in sizes:
        batch, filled = buffers.take(), 0
        while filled < size:
            if taken == len(order):
                parts.clear()  # or there would be two blocks in memory while the next one is gathered
                (parts, order), taken = next(source), 0
            rows = np.sort(order[taken : taken + size - filled])
            _copy(parts, rows, batch, filled)
            taken, filled = taken + len(rows), filled + len(rows)
        _pad(batch, filled)
        yield batch
        del batch  # for it to be used again, should whoever took it not keep it


def _parts(groups: Iterable[Arrays]) -> Iterator[Arrays]:
    """Row groups, small ones put together: a batch takes rows from all parts of a block, one by one."""
    waiting: list[Arrays] = []
    rows = 0
    for arrays in groups:
        waiting.append(arrays)
        rows += _rows(arrays)
        if rows >= _PART_ROWS:
            yield _together(waiting)
            waiting, rows = [], 0
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


def _rows(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))
