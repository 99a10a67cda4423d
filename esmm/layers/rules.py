"""Ids to the rows of a table: by hashing, by a vocabulary, or as they are.

Hashed(1000)([7, 9, -1])                  # [row of 7, row of 9, -1], rows of 0 … 999
Vocabulary([7, 4121])([7, 9, 4121, -1])   # [1, 0, 2, -1]: 9 has no row of its own
Numbered(3)([0, 2, -1])                   # [0, 2, -1]
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from esmm.layers.hashing import bucket
from esmm.schema import ABSENT


class Rule(Protocol):
    """How a table's ids find their rows."""

    size: int
    """Rows that the table has."""

    def __call__(self, ids: tf.Tensor) -> tf.Tensor:
        """The row of each id, int64 [m] to int64 [m]; -1 for ids below 0."""


class Hashed:
    """Ids share rows by chance."""

    def __init__(self, rows: int) -> None:
        self.size = rows

    def __call__(self, ids: tf.Tensor) -> tf.Tensor:
        """See `esmm.layers.hashing`."""
        return bucket(ids, self.size)


class Vocabulary(tf.Module):
    """Some ids have a row of their own, from 1 on; row 0 is for all others."""

    def __init__(self, ids: Sequence[int] | np.ndarray) -> None:
        """`ids` ascend, and none is below 0."""
        super().__init__(name="vocabulary")
        # -1 stands where row 0 is: an id's place is its row, and there is always one that is not above it. A variable,
        # since checkpoints and SavedModels hold those beside the graph, which has a limit.
        self.ids = tf.Variable(np.append(ABSENT, ids).astype(np.int64), trainable=False, name="ids")
        self.size = len(ids) + 1

    def __call__(self, ids: tf.Tensor) -> tf.Tensor:
        """By bisection of the ids, each of which is looked for once however often it is there."""
        unique_u, places_m = tf.unique(ids)
        at_or_below_u = tf.searchsorted(self.ids, unique_u, side="right", out_type=tf.int64) - 1
        at_or_below_u = tf.maximum(at_or_below_u, 0)
        is_there_u = tf.gather(self.ids, at_or_below_u) == unique_u
        rows_u = tf.where(is_there_u, at_or_below_u, 0)
        return tf.gather(tf.where(unique_u < 0, tf.constant(ABSENT, tf.int64), rows_u), places_m)


class Numbered:
    """Ids are rows."""

    def __init__(self, rows: int) -> None:
        self.size = rows

    def __call__(self, ids: tf.Tensor) -> tf.Tensor:
        """The ids."""
        return ids
