"""A vector a sample to a logit a sample."""

import math

import tensorflow as tf

from esmm.config import Model
from esmm.layers.variables import new_variable, number_of


class Tower(tf.Module):
    """Hidden layers with ReLU, normalised before it if the config says so, and dropout after it; one logit."""

    def __init__(self, name: str, inputs: int, settings: Model, seed: int, dtype: tf.DType) -> None:
        super().__init__(name=name)
        self.dropout, widths = settings.dropout, settings.towers
        self.kernels, self.biases = [], []
        self.gains: list[tf.Variable] = []
        for layer, (fan_in, fan_out) in enumerate(zip((inputs, *widths), (*widths, 1), strict=True)):
            # He et al. (arXiv 1502.01852) for what a ReLU follows, Glorot and Bengio for the logit.
            deviation = math.sqrt(2 / (fan_in if layer < len(widths) else fan_in + fan_out))
            self.kernels.append(
                new_variable(f"{name}/kernel_{layer}", (fan_in, fan_out), deviation, seed, dtype)
            )
            self.biases.append(tf.Variable(tf.zeros(fan_out, dtype), name=f"{name}/bias_{layer}"))
            if settings.layer_norm and layer < len(widths):
                self.gains.append(tf.Variable(tf.ones(fan_out, dtype), name=f"{name}/gain_{layer}"))

    def __call__(self, x_bi: tf.Tensor, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Logits [b]. `dropout_seed`, int64 [2], is given in training alone: without it nothing is dropped."""
        *hidden, last = zip(self.kernels, self.biases, strict=True)
        for layer, (kernel, bias) in enumerate(hidden):
            x_bi = x_bi @ kernel
            if self.gains:
                x_bi = normalised(x_bi) * self.gains[layer]
            x_bi = tf.nn.relu(x_bi + bias)
            if dropout_seed is not None and self.dropout:
                seed = tf.random.experimental.stateless_fold_in(
                    dropout_seed, number_of(f"{self.name}/{layer}")
                )
                x_bi = tf.nn.experimental.stateless_dropout(x_bi, self.dropout, seed)
        kernel, bias = last
        return tf.squeeze(x_bi @ kernel + bias, axis=1)


def normalised(x_bi: tf.Tensor) -> tf.Tensor:
    """Each row less its mean and over its deviation (Ba et al. 2016, arXiv 1607.06450): (x - μ) / √(σ² + 1e-5).

    A sample's own row alone counts, so that it is the same in whichever batch, and on whichever rank.
    """
    mean_b1, variance_b1 = tf.nn.moments(x_bi, axes=[1], keepdims=True)
    return (x_bi - mean_b1) * tf.math.rsqrt(variance_b1 + 1e-5)
