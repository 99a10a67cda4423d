"""Many rows to one vector a sample.

    pool(rows, places of clicked_seller, [[1.0, 0.5, 0.0], [0.8, 0.0, 0.0]])
    # [1.0 · row of 9 + 0.5 · row of 9, 0.8 · row of 4]           for [[9, 9, -1], [4, -1, -1]]

With e the rows of a list's entries, w their weights and v the candidate's row of the same table, a list pools to

    sum          Σₙ wₙ eₙ
    mean         Σₙ wₙ eₙ / Σₙ wₙ
    attention    Σₙ wₙ a(eₙ, v) eₙ

over the entries that are there: padding and absent ids are left out before anything is computed, and a list without
entries pools to zero.
"""

import tensorflow as tf

from esmm.layers.towers import Tower

ATTENTION_WIDTHS = (36,)
"""Hidden layers of the attention, as in DIN's figure 2."""


def pool(values_ud: tf.Tensor, places_bn: tf.Tensor, weights_bn: tf.Tensor) -> tf.Tensor:
    """Each sample's weighted sum of rows, [b, d]: Σₙ weight · row; absent ids and weights of 0 add nothing.

    One product with a sparse [b, u] matrix: the rows are never copied out to [b, n, d], nor is their gradient.
    """
    entries_m2 = _entries(places_bn, weights_bn)
    return _sum(values_ud, places_bn, entries_m2, tf.gather_nd(weights_bn, entries_m2))


def as_shares(places_bn: tf.Tensor, weights_bn: tf.Tensor) -> tf.Tensor:
    """Weights over their sum, absent ids left out, so that `pool` gives the mean; all 0 in a list without entries."""
    weights_bn = tf.where(places_bn >= 0, weights_bn, 0)
    return tf.math.divide_no_nan(weights_bn, tf.reduce_sum(weights_bn, axis=1, keepdims=True))


class Attention(tf.Module):
    """Target attention as in the Deep Interest Network (Zhou et al. 2018, arXiv 1706.06978).

    The paper's equation 3 pools a user's entries by how relevant each is to the candidate,

        Σₙ a(eₙ, v) eₙ,        a(e, v) = MLP([e, v, e - v, e ⊙ v]),

    without a softmax over a's, so that the sum's length still tells how much of a matching interest there is. Here
    an entry counts a times its weight, recency and boost: the attention says what matters, the weight how much of it
    is left. The MLP has ReLU where the paper has its Dice. Its output's bias begins at 1, so that attention begins as
    the weighted sum.
    """

    def __init__(self, name: str, dim: int, seed: int, dtype: tf.DType) -> None:
        super().__init__(name="attention")
        self.unit = Tower(name, 4 * dim, ATTENTION_WIDTHS, seed, dtype)
        self.unit.bias.assign([1.0])

    def __call__(
        self, values_ud: tf.Tensor, places_bn: tf.Tensor, weights_bn: tf.Tensor, candidates_bd: tf.Tensor
    ) -> tf.Tensor:
        """Each sample's sum, [b, d]; a candidate that is absent is a row of zeros.

        The m entries that are there are looked at one by one: padding has no attention, not one that is then masked.
        """
        entries_m2 = _entries(places_bn, weights_bn)
        e_md = tf.gather(values_ud, tf.gather_nd(places_bn, entries_m2))
        v_md = tf.gather(candidates_bd, entries_m2[:, 0])
        scores_m = self.unit(tf.concat([e_md, v_md, e_md - v_md, e_md * v_md], axis=1))
        return _sum(values_ud, places_bn, entries_m2, scores_m * tf.gather_nd(weights_bn, entries_m2))


def _entries(places_bn: tf.Tensor, weights_bn: tf.Tensor) -> tf.Tensor:
    """Sample and position of each entry that is there, int64 [m, 2]."""
    return tf.where((places_bn >= 0) & (weights_bn != 0))


def _sum(
    values_ud: tf.Tensor, places_bn: tf.Tensor, entries_m2: tf.Tensor, weights_m: tf.Tensor
) -> tf.Tensor:
    columns_m = tf.cast(tf.gather_nd(places_bn, entries_m2), tf.int64)
    matrix_bu = tf.SparseTensor(
        indices=tf.stack([entries_m2[:, 0], columns_m], axis=1),
        values=weights_m,
        dense_shape=tf.stack([tf.shape(places_bn, tf.int64)[0], tf.shape(values_ud, tf.int64)[0]]),
    )
    return tf.sparse.sparse_dense_matmul(matrix_bu, values_ud)
