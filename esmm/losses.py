"""Losses in log space: exact, with exact gradients, for logits to ±80 in float32.

    seen = Seen.of(batch, label_smoothing=0.0, dtype=tf.float32)
    seen.entropy(seen.click, a)                          # Σ w · BCE(click, σ(a))
    seen.entropy(seen.purchase, product_logit(a, c))     # Σ w · BCE(click and purchase, σ(a) σ(c))

They are sums by weight, not means: what is divided by is the weight of the whole step, which only the exchange
between ranks knows. So each is a sum over rows of what is the row's own: the sums of a batch's parts are that of the
batch, and N ranks of batch B are one rank of batch N × B.
"""

from collections.abc import Mapping
from typing import NamedTuple, Self

import tensorflow as tf


class Seen(NamedTuple):
    """What was seen of a batch's rows, [b] each, of the logits' type."""

    click: tf.Tensor
    """1 or 0."""
    purchase: tf.Tensor
    """1 or 0; without a click there is none."""
    weight: tf.Tensor
    """At least 0."""
    label_smoothing: float

    @classmethod
    def of(cls, batch: Mapping[str, tf.Tensor], label_smoothing: float, dtype: tf.DType) -> Self:
        """From a batch's columns, of any type."""
        click, purchase, weight = (tf.cast(batch[name], dtype) for name in ("click", "purchase", "weight"))
        return cls(click, click * purchase, weight, label_smoothing)

    def entropy(self, label: tf.Tensor, logit: tf.Tensor, times: tf.Tensor | float = 1.0) -> tf.Tensor:
        """Σ w · times · BCE(label, σ(logit)), with the label smoothed."""
        return self.sum(times * tf.nn.sigmoid_cross_entropy_with_logits(self.smoothed(label), logit))

    def sum(self, values: tf.Tensor) -> tf.Tensor:
        """Σ w · values."""
        return tf.reduce_sum(self.weight * values)

    def smoothed(self, label: tf.Tensor) -> tf.Tensor:
        """(1 - ε) y + ε / 2."""
        return (1 - self.label_smoothing) * label + self.label_smoothing / 2


def product_logit(a: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
    """The logit of σ(a) σ(c), elementwise.

    With p = σ(a) σ(c) and 1 / σ(x) = 1 + exp(-x), the odds against are

        (1 - p) / p = (1 + exp(-a)) (1 + exp(-c)) - 1 = exp(-a) + exp(-c) + exp(-a - c),

    a sum of positive terms, so its logarithm, -logit(p), is found without the cancellation of 1 - p. Its
    gradients are softmax weights, between 0 and 1.
    """
    return -tf.reduce_logsumexp(tf.stack([-a, -c, -a - c]), axis=0)


def propensity(logit: tf.Tensor, floor: float) -> tf.Tensor:
    """σ(logit), at least `floor`, and without a gradient, or a model could lower a risk by its propensities."""
    return tf.stop_gradient(tf.maximum(tf.sigmoid(logit), floor))


def error(label: tf.Tensor, logit: tf.Tensor) -> tf.Tensor:
    """What σ(x) lacks of a label y, elementwise: y - σ(x) as y σ(-x) - (1 - y) σ(x), which hardly cancels."""
    return label * _sigmoid(-logit) - (1 - label) * _sigmoid(logit)


def gap(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """|σ(x) - σ(y)|, elementwise.

    For x ≥ y the difference is (eˣ - eʸ) / ((1 + eˣ) (1 + eʸ)) = σ(x) σ(-y) (1 - exp(y - x)), which does not cancel.
    """
    upper, lower = tf.maximum(x, y), tf.minimum(x, y)
    return -_sigmoid(upper) * _sigmoid(-lower) * tf.math.expm1(lower - upper)


def _sigmoid(x: tf.Tensor) -> tf.Tensor:
    """σ(x), by a way whose gradient does not take 1 - σ(x), which is 0 from 17 on in float32."""
    return tf.exp(tf.math.log_sigmoid(x))
