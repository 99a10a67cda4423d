"""Many rows to one vector a sample.

pool(rows, places of clicked_seller, [[1.0, 0.5, 0.0], [0.8, 0.0, 0.0]])
# [1.0 · row of 9 + 0.5 · row of 9, 0.8 · row of 4]           for [[9, 9, -1], [4, -1, -1]]
"""

import tensorflow as tf


def pool(values_ud: tf.Tensor, places_bn: tf.Tensor, weights_bn: tf.Tensor) -> tf.Tensor:
    """Each sample's weighted sum of rows, [b, d]: Σₙ weight · row; absent ids and weights of 0 add nothing.

    One product with a sparse [b, u] matrix: the rows are never copied out to [b, n, d], nor is their gradient.
    """
    entries = tf.where((places_bn >= 0) & (weights_bn != 0))
    columns = tf.cast(tf.gather_nd(places_bn, entries), tf.int64)
    matrix_bu = tf.SparseTensor(
        indices=tf.stack([entries[:, 0], columns], axis=1),
        values=tf.gather_nd(weights_bn, entries),
        dense_shape=tf.stack([tf.shape(places_bn, tf.int64)[0], tf.shape(values_ud, tf.int64)[0]]),
    )
    return tf.sparse.sparse_dense_matmul(matrix_bu, values_ud)
