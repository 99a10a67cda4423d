"""Losses in log space: exact, with exact gradients, for logits to ±80 in float32.

    losses.esmm(ctr_logit, cvr_logit, click, purchase, weight)      # {"ctr": Σ …, "ctcvr": Σ …}

They are sums by weight, not means: what is divided by is the weight of the whole step, which only the
exchange between ranks knows.
"""

import tensorflow as tf


def cross_entropy(label: tf.Tensor, logit: tf.Tensor) -> tf.Tensor:
    """-y log σ(x) - (1 - y) log(1 - σ(x)), elementwise, of the logit x.

    Since log σ(x) = -softplus(-x) and log(1 - σ(x)) = -softplus(x), neither a probability of 1 nor of 0 is
    ever formed; and of an exact label only one of the two gradients is there, so that nothing cancels.
    """
    return label * tf.nn.softplus(-logit) + (1 - label) * tf.nn.softplus(logit)


def product_logit(a: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
    """The logit of σ(a) σ(c), elementwise.

    With p = σ(a) σ(c) and 1 / σ(x) = 1 + exp(-x), the odds against are

        (1 - p) / p = (1 + exp(-a)) (1 + exp(-c)) - 1 = exp(-a) + exp(-c) + exp(-a - c),

    a sum of positive terms, so its logarithm, -logit(p), is found without the cancellation of 1 - p. Its
    gradients are softmax weights, between 0 and 1.
    """
    return -tf.reduce_logsumexp(tf.stack([-a, -c, -a - c]), axis=0)


def esmm(
    ctr_logit: tf.Tensor, cvr_logit: tf.Tensor, click: tf.Tensor, purchase: tf.Tensor, weight: tf.Tensor
) -> dict[str, tf.Tensor]:
    """ESMM's two losses (arXiv 1804.07931, equation 3), each summed by weight over the batch.

        ctr     Σ w · BCE(click, σ(a))
        ctcvr   Σ w · BCE(click · purchase, σ(a) σ(c)),    a the CTR tower's logit and c the CVR tower's

    All arguments are [b]; labels, 0 or 1, and weights, at least 0, may be of any type.
    """
    click, purchase, weight = (tf.cast(values, ctr_logit.dtype) for values in (click, purchase, weight))
    return {
        "ctr": tf.reduce_sum(weight * cross_entropy(click, ctr_logit)),
        "ctcvr": tf.reduce_sum(weight * cross_entropy(click * purchase, product_logit(ctr_logit, cvr_logit))),
    }
