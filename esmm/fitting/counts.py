"""How often ids are there, exactly, and which of them all ranks together see often enough.

    counts = Counts()
    counts.add([np.array([7, 9, -1]), np.array([[9, 9], [4, -1]])])      # 7 once, 9 three times, 4 once
    counts.frequent(exchange, min_count=2, most=1000)                    # [9]

An id that one rank sees too seldom the others may see besides, so counts can be dropped only once they are whole.
Ranks therefore exchange them by slices of the ids, of a size that is bounded: after each slice only what may become
the vocabulary stays.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from esmm.distributed.exchange import Exchange

_MERGED_AT = 1_000_000
"""So many counts wait, or as many as there are, before they are added up: each is sorted a few times, not each time
that a row group comes."""
_EXCHANGED = 4_000_000
"""Counts that ranks exchange at a time, all of them together."""


class Counts:
    """One rank's, of one table."""

    def __init__(self) -> None:
        self._ids, self._counts = _NONE, _NONE
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, arrays: Sequence[np.ndarray]) -> None:
        """Count ids, int64 of any shape; those below 0 are absent."""
        flat = np.concatenate([array.ravel() for array in arrays])
        self._waiting.append(np.unique(flat[flat >= 0], return_counts=True))
        if sum(len(ids) for ids, _ in self._waiting) > max(_MERGED_AT, len(self._ids)):
            self._merge()

    def frequent(self, exchange: "Exchange", *, min_count: int, most: int) -> np.ndarray:
        """The ids that ranks together have counted at least `min_count` times: int64, ascending, equal on all ranks.

        Of more than `most` the most frequent, of equals the smaller ids.
        """
        self._merge()
        slices = max(1, -(-sum(exchange.gather_objects(len(self._ids))) // _EXCHANGED))
        ids, counts = _NONE, _NONE
        for number in range(slices):
            own = self._ids % slices == number
            parts = exchange.gather_objects((self._ids[own], self._counts[own]))
            in_slice, of_slice = _added(parts)
            enough = of_slice >= min_count
            ids, counts = np.append(ids, in_slice[enough]), np.append(counts, of_slice[enough])
            best = np.lexsort((ids, -counts))[:most]
            ids, counts = ids[best], counts[best]
        return np.sort(ids)

    def _merge(self) -> None:
        self._ids, self._counts = _added([(self._ids, self._counts), *self._waiting])
        self._waiting = []


_NONE = np.empty(0, np.int64)


def _added(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Ids, each once and ascending, and the sums of their counts."""
    ids = np.concatenate([ids for ids, _ in parts])
    order = np.argsort(ids, kind="stable")
    ids, counts = ids[order], np.concatenate([counts for _, counts in parts])[order]
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    return ids[starts], np.add.reduceat(counts, starts) if starts.size else _NONE
