"""Losses in log space: exact, with exact gradients, for logits to ±80 in float32.

    losses.esmm(ctr_logit, cvr_logit, click, purchase, weight)      # {"ctr": Σ …, "ctcvr": Σ …}

They are sums by weight, not means: what is divided by is the weight of the whole step, which only the
exchange between ranks knows.
"""

import tensorflow as tf


def product_logit(a: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
    """The logit of σ(a) σ(c), elementwise.

    With p = σ(a) σ(c) and 1 / σ(x) = 1 + exp(-x), the odds against are

        (1 - p) / p = (1 + exp(-a)) (1 + exp(-c)) - 1 = exp(-a) + exp(-c) + exp(-a - c),

    a sum of positive terms, so its logarithm, -logit(p), is found without the cancellation of 1 - p. Its
    gradients are softmax weights, between 0 and 1.
    """
    return -tf.reduce_logsumexp(tf.stack([-a, -c, -a - c]), axis=0)


def esmm(
    ctr_logit: tf.Tensor,
    cvr_logit: tf.Tensor,
    click: tf.Tensor,
    purchase: tf.Tensor,
    weight: tf.Tensor,
    *,
    stop_gradient: bool = False,
) -> dict[str, tf.Tensor]:
    """ESMM's two losses (arXiv 1804.07931, equation 3), each summed by weight over the batch.

        ctr     Σ w · BCE(click, σ(a))
        ctcvr   Σ w · BCE(click · purchase, σ(a) σ(c)),    a the CTR tower's logit and c the CVR tower's

    All arguments are [b]; labels, 0 or 1, and weights, at least 0, may be of any type. With `stop_gradient`, a
    counts as given in the second: its gradient reaches c alone.
    """
    click, purchase, weight = (tf.cast(values, ctr_logit.dtype) for values in (click, purchase, weight))
    ctr = tf.nn.sigmoid_cross_entropy_with_logits(click, ctr_logit)
    a = tf.stop_gradient(ctr_logit) if stop_gradient else ctr_logit
    ctcvr = tf.nn.sigmoid_cross_entropy_with_logits(click * purchase, product_logit(a, cvr_logit))
    return {"ctr": tf.reduce_sum(weight * ctr), "ctcvr": tf.reduce_sum(weight * ctcvr)}
