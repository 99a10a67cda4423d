"""Ids to the rows of a table, in the graph: what serves a model hashes as what trained it did."""

from collections.abc import Sequence

import tensorflow as tf

from esmm.schema import ABSENT


def bucket(ids: tf.Tensor, rows: int) -> tf.Tensor:
    """The row of a table of `rows` that each id is hashed to: int64 to int64, any shape; -1 for ids below 0.

    Equal on every machine, and quick, where hashing the ids as strings would take longer than the towers.
    """
    bits = _mixed(tf.bitcast(ids, tf.uint64))
    rows_hashed_to = tf.cast(tf.math.floormod(bits, tf.constant(rows, tf.uint64)), tf.int64)
    return tf.where(ids < 0, tf.constant(ABSENT, tf.int64), rows_hashed_to)


def cross(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """One id for each combination of ids, int64 of one shape; -1 where one of them is below 0.

    The order of the parts counts. What is there is mixed before the next id is added to it, so that neither small
    ids nor equal ones meet.
    """
    first, *others = parts
    bits, is_absent = tf.bitcast(first, tf.uint64), first < 0
    for ids in others:
        bits = _mixed(bits) + tf.bitcast(ids, tf.uint64)
        is_absent |= ids < 0
    without_sign = tf.bitwise.bitwise_and(bits, tf.constant(2**63 - 1, tf.uint64))
    return tf.where(is_absent, tf.constant(ABSENT, tf.int64), tf.bitcast(without_sign, tf.int64))


def _mixed(bits: tf.Tensor) -> tf.Tensor:
    """The first half of MurmurHash3's finaliser, of 64 bits."""
    bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(33, tf.uint64)))
    bits *= tf.constant(0xFF51AFD7ED558CCD, tf.uint64)
    return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(33, tf.uint64)))
