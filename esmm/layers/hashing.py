"""Ids to the rows of a table, in the graph: what serves a model hashes as what trained it did."""

import tensorflow as tf

from esmm.schema import ABSENT


def bucket(ids: tf.Tensor, rows: int) -> tf.Tensor:
    """The row of a table of `rows` that each id is hashed to: int64 to int64, any shape; -1 for ids below 0.

    A 64-bit mixer (MurmurHash3's finaliser, its first half): equal on every machine, and quick, where hashing
    the ids as strings would take longer than the towers.
    """
    bits = tf.bitcast(ids, tf.uint64)
    bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(33, tf.uint64)))
    bits *= tf.constant(0xFF51AFD7ED558CCD, tf.uint64)
    bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(33, tf.uint64)))
    rows_hashed_to = tf.cast(tf.math.floormod(bits, tf.constant(rows, tf.uint64)), tf.int64)
    return tf.where(ids < 0, tf.constant(ABSENT, tf.int64), rows_hashed_to)
