"""A vector a sample to a logit a sample."""

import math

import tensorflow as tf

from esmm.layers.variables import new_variable, number_of, scoped


class Hidden(tf.Module):
    """Dense layers with ReLU, before it normalised (`layer_norm`), and after it dropped out."""

    def __init__(
        self,
        name: str,
        inputs: int,
        widths: tuple[int, ...],
        seed: int,
        dtype: tf.DType,
        *,
        dropout: float = 0.0,
        layer_norm: bool = False,
        precision: str = "float32",
    ) -> None:
        super().__init__(name="hidden")
        self._dropout, self._drawn_by = dropout, scoped(name)
        self._trained_in = tf.as_dtype(precision) if precision != "float32" else dtype
        self.width = widths[-1] if widths else inputs
        self.kernels, self.biases = [], []
        self.gains: list[tf.Variable] = []
        for layer, (fan_in, fan_out) in enumerate(zip((inputs, *widths[:-1]), widths, strict=True)):
            # He et al. (arXiv 1502.01852), for what a ReLU follows.
            deviation = math.sqrt(2 / fan_in)
            self.kernels.append(
                new_variable(f"{name}/kernel_{layer}", (fan_in, fan_out), deviation, seed, dtype)
            )
            self.biases.append(tf.Variable(tf.zeros(fan_out, dtype), name=f"{name}/bias_{layer}"))
            if layer_norm:
                self.gains.append(tf.Variable(tf.ones(fan_out, dtype), name=f"{name}/gain_{layer}"))

    def __call__(self, x_bi: tf.Tensor, training_seed: tf.Tensor | None = None) -> tf.Tensor:
        """[b, width]; in whatever it is computed, of the type that comes in.

        `training_seed`, int64 [2], is given in training alone: without it nothing is dropped, and all is computed in
        the type of the variables.
        """
        given = x_bi.dtype
        dtype = given if training_seed is None else self._trained_in
        x_bi = x_bi if dtype == given else tf.cast(x_bi, dtype)  # which would make grouped vectors whole
        for layer, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            x_bi = x_bi @ tf.cast(kernel, dtype)
            if self.gains:
                x_bi = tf.cast(normalised(tf.cast(x_bi, given)) * self.gains[layer], dtype)
            x_bi = tf.nn.relu(x_bi + tf.cast(bias, dtype))
            if training_seed is not None and self._dropout:
                seed = tf.random.experimental.stateless_fold_in(
                    training_seed, number_of(f"{self._drawn_by}/{layer}")
                )
                x_bi = tf.nn.experimental.stateless_dropout(x_bi, self._dropout, seed)
        return tf.cast(x_bi, given)


class Tower(tf.Module):
    """Hidden layers and, on top of them, one logit."""

    def __init__(
        self,
        name: str,
        inputs: int,
        widths: tuple[int, ...],
        seed: int,
        dtype: tf.DType,
        *,
        dropout: float = 0.0,
        layer_norm: bool = False,
        precision: str = "float32",
    ) -> None:
        super().__init__(name="tower")
        self.hidden = Hidden(
            name, inputs, widths, seed, dtype, dropout=dropout, layer_norm=layer_norm, precision=precision
        )
        # Glorot and Bengio 2010, for what nothing follows.
        deviation, last = math.sqrt(2 / (self.hidden.width + 1)), len(widths)
        self.kernel = new_variable(f"{name}/kernel_{last}", (self.hidden.width, 1), deviation, seed, dtype)
        self.bias = tf.Variable(tf.zeros(1, dtype), name=f"{name}/bias_{last}")

    def __call__(self, x_bi: tf.Tensor, training_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Logits [b]; `training_seed` as for the hidden layers."""
        return tf.squeeze(self.hidden(x_bi, training_seed) @ self.kernel + self.bias, axis=1)


def normalised(x_bi: tf.Tensor) -> tf.Tensor:
    """Each row less its mean and over its deviation (Ba et al. 2016, arXiv 1607.06450): (x - μ) / √(σ² + 1e-5).

    A sample's own row alone counts, so that it is the same in whichever batch, and on whichever rank.
    """
    mean_b1, variance_b1 = tf.nn.moments(x_bi, axes=[1], keepdims=True)
    return (x_bi - mean_b1) * tf.math.rsqrt(variance_b1 + 1e-5)
