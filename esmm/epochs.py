"""Epochs: which rows each rank reads, in which order and in how many steps; where a run stopped, and what is left.

Of three row groups of 100, 60 and 50 rows, on two ranks in batches of 40:

    epoch = Epoch(plan, ranks=2, batch_size=40)
    epoch.rows(0), epoch.rows(1)         # 100 and 60 + 50
    epoch.steps                          # 3 = ⌈110 / 40⌉, on both ranks
    epoch.after(2)                       # Position(epoch=0, legs=[two steps of two ranks in batches of 40], …)
    Epoch(plan, ranks=3, batch_size=40, position=epoch.after(2))     # the other 34 + 37 rows, on three ranks

Whole row groups are dealt out by seed, each to the rank that has the fewest rows so far: every row is one rank's, and
the ranks' rows differ by at most the largest row group. A rank keeps its row groups from epoch to epoch, so that it
can have them on its own disk; their order is shuffled by (seed, epoch), and rows by (seed, epoch) within blocks of
several of them.

All ranks take every step together, and the rows of a rank are spread evenly over the steps. So after s of S steps a
rank of n rows has read the first ⌊s · n / S⌋ rows of its own sequence: the ranks, the batch size and a count of steps
are the position of all of them. As many ranks with as large batches go on with the very batches that were to come.
For others, what is left of each row group, down to single rows, is dealt out anew; the position then is a list of legs.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pydantic

from esmm.errors import DataError
from esmm.plan import ReadingPlan
from esmm.rowgroups import RowGroup

BLOCK_ROWS = 60_000
"""A block has as many row groups as make this many rows (four of 16,384), and at least two."""

_ORDER = 1
"""To be raised with whatever changes which rows come when: a position of before would repeat rows and lose others."""

_DEALT, _ORDERED, _MIXED = range(3)
"""What is random, each of its own seed."""


class Leg(pydantic.BaseModel):
    """A part of an epoch that was read by the same ranks in the same way."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    ranks: pydantic.PositiveInt
    batch_size: pydantic.PositiveInt
    steps: pydantic.NonNegativeInt
    """Steps that every rank has taken."""


class Position(pydantic.BaseModel):
    """Where a run is: in an epoch, after some legs of it. Its JSON is all that a checkpoint has to keep."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    epoch: pydantic.NonNegativeInt = 0
    legs: tuple[Leg, ...] = ()
    of: str = ""
    """What it is a position in: the digest of row groups, seed and order, where there are legs."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A row group, or what is left of it."""

    group: RowGroup
    left: np.ndarray | None = None
    """int64: the numbers of the rows that are left, ascending; None for all."""

    @property
    def rows(self) -> int:
        """How many are left."""
        return self.group.rows if self.left is None else len(self.left)

    def only(self, rows: np.ndarray) -> "Piece":
        """Some of these rows, numbered from 0 and ascending."""
        return replace(self, left=rows if self.left is None else self.left[rows])


@dataclass(frozen=True, eq=False)
class Block:
    """Pieces whose rows change places with each other."""

    pieces: tuple[Piece, ...]
    mixed_by: tuple[int, ...] | None
    """What the order of rows depends on; None leaves them in place."""
    skipped: int = 0
    """Rows at the order's start that were read before."""

    @property
    def rows(self) -> int:
        """Rows, the skipped ones included."""
        return sum(piece.rows for piece in self.pieces)

    def order(self) -> np.ndarray:
        """int64: the rows to read, numbered from 0 through all pieces, in the order in which to read them."""
        if self.mixed_by is None:
            return np.arange(self.skipped, self.rows)
        return generator(*self.mixed_by).permutation(self.rows)[self.skipped :]

    def left(self) -> list[Piece]:
        """The pieces without the rows that are skipped."""
        if not self.skipped:
            return list(self.pieces)
        rows = np.sort(self.order())
        ends = np.cumsum([0, *(piece.rows for piece in self.pieces)])
        left = []
        for piece, (start, end) in zip(self.pieces, pairwise(ends), strict=True):
            inside = rows[slice(*np.searchsorted(rows, (start, end)))] - start
            if inside.size:
                left.append(piece.only(inside))
        return left


class Epoch:
    """What all ranks read in an epoch, or in what a position leaves of it. It is the same wherever it is made."""

    def __init__(
        self,
        plan: ReadingPlan,
        *,
        ranks: int = 1,
        batch_size: int,
        seed: int | None = None,
        position: Position | None = None,
    ) -> None:
        """Raises DataError where the position is one in other samples, under another seed or in another order."""
        position = position or Position()
        self.number, self.ranks, self.batch_size = position.epoch, ranks, batch_size
        self._of = _digest(plan, seed)
        if position.legs and position.of != self._of:
            raise DataError("position", expected=f"one in these samples, of this seed and order, {self._of}",
                            found=f"one in {position.of or 'nothing'}")  # fmt: skip
        pieces = [Piece(group) for group in plan.row_groups]
        self._legs, self._taken = list(position.legs), 0
        if self._legs and (self._legs[-1].ranks, self._legs[-1].batch_size) == (ranks, batch_size):
            self._taken = self._legs.pop().steps
        for number, leg in enumerate(self._legs):
            course = _Course(pieces, leg.ranks, leg.batch_size, seed, position.epoch, number)
            pieces = course.left(leg.steps)
        self._course = _Course(pieces, ranks, batch_size, seed, position.epoch, len(self._legs))
        self.steps = max(self._course.steps - self._taken, 0)
        """The batches that every rank takes: as many as the one with the most rows needs."""

    def rows(self, rank: int) -> int:
        """The rows that a rank reads."""
        return self._course.rows[rank] - self._course.read(rank, self._taken)

    def sizes(self, rank: int) -> list[int]:
        """How many rows each of a rank's batches has."""
        return spread(self._course.rows[rank], self._course.steps)[self._taken :]

    def blocks(self, rank: int) -> list[Block]:
        """What a rank reads, in order; where there are more ranks than row groups, some read nothing."""
        return self._course.blocks(rank, self._taken)

    def after(self, steps: int) -> Position:
        """The position once every rank has taken so many of this epoch's steps; after all, the next epoch's start."""
        if steps >= self.steps:
            return Position(epoch=self.number + 1)
        leg = Leg(ranks=self.ranks, batch_size=self.batch_size, steps=self._taken + steps)
        return Position(epoch=self.number, legs=(*self._legs, leg), of=self._of)


class _Course:
    """One leg, from its start to the epoch's end."""

    def __init__(
        self, pieces: Sequence[Piece], ranks: int, batch_size: int, seed: int | None, epoch: int, number: int
    ) -> None:
        self._seed, self._of = seed, (epoch, number)
        self._shares = _dealt(pieces, ranks, None if seed is None else generator(seed, _DEALT, number))
        self.rows = [sum(piece.rows for piece in share) for share in self._shares]
        self.steps = -(-max(self.rows) // batch_size)

    def read(self, rank: int, steps: int) -> int:
        """The rows that a rank has read after some steps."""
        return min(steps, self.steps) * self.rows[rank] // max(self.steps, 1)

    def blocks(self, rank: int, steps: int) -> list[Block]:
        """The rank's blocks from there on."""
        blocks, read = [], self.read(rank, steps)
        for block in self._all_blocks(rank):
            if read < block.rows:
                blocks.append(replace(block, skipped=read))
            read = max(read - block.rows, 0)
        return blocks

    def left(self, steps: int) -> list[Piece]:
        """What all ranks have not read after some steps, by file and row group."""
        ranks = range(len(self._shares))
        left = [piece for rank in ranks for block in self.blocks(rank, steps) for piece in block.left()]
        return sorted(left, key=lambda piece: (piece.group.url, piece.group.index))

    def _all_blocks(self, rank: int) -> Iterator[Block]:
        share = self._shares[rank]
        if self._seed is None:
            yield from (Block((piece,), None) for piece in share)
            return
        order = generator(self._seed, _ORDERED, *self._of, rank).permutation(len(share))
        for number, pieces in enumerate(_in_blocks([share[index] for index in order])):
            yield Block(pieces, (self._seed, _MIXED, *self._of, rank, number))


def generator(seed: int, *numbers: int) -> np.random.Generator:
    """A random generator that depends on all of these numbers; the seed alone may be negative."""
    # NumPy takes missing numbers for zeros: their count is one of them.
    return np.random.default_rng([abs(seed), int(seed < 0), len(numbers), *numbers])


def spread(rows: int, batches: int) -> list[int]:
    """How many rows each of some batches gets, so that no two differ by more than one."""
    ends = [number * rows // max(batches, 1) for number in range(batches + 1)]
    return [end - start for start, end in pairwise(ends)]


def _dealt(pieces: Sequence[Piece], ranks: int, random: np.random.Generator | None) -> list[list[Piece]]:
    shares: list[list[Piece]] = [[] for _ in range(ranks)]
    fewest = [(0, rank) for rank in range(ranks)]
    order = range(len(pieces)) if random is None else random.permutation(len(pieces))
    for index in order:
        rows, rank = fewest[0]
        shares[rank].append(pieces[index])
        heapq.heapreplace(fewest, (rows + pieces[index].rows, rank))
    return shares


def _in_blocks(pieces: Iterable[Piece]) -> Iterator[tuple[Piece, ...]]:
    block: list[Piece] = []
    rows = 0
    for piece in pieces:
        block.append(piece)
        rows += piece.rows
        if len(block) > 1 and rows >= BLOCK_ROWS:
            yield tuple(block)
            block, rows = [], 0
    if block:
        yield tuple(block)


def _digest(plan: ReadingPlan, seed: int | None) -> str:
    groups = [(group.url, group.bytes, group.index, group.rows) for group in plan.row_groups]
    # NumPy may change what follows from a seed; what it says now stands for that.
    text = f"{groups} {seed} {_ORDER} {BLOCK_ROWS} {generator(0).permutation(16).tolist()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
