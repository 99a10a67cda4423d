"""Numbers to buckets, whose numbers are the rows of a table."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from esmm.schema import ABSENT


def bucketised(values_b: tf.Tensor, boundaries: Sequence[float] | np.ndarray) -> tf.Tensor:
    """How many boundaries are not above each value: float32 [b] to int64 [b]; -1 for 0, which is absent."""
    beginnings = tf.constant(np.asarray(boundaries, np.float32))
    numbers_b = tf.searchsorted(beginnings, values_b, side="right", out_type=tf.int64)
    return tf.where(values_b == 0, tf.constant(ABSENT, tf.int64), numbers_b)
