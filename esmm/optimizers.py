"""Adagrad, whose steps touch only the rows in use of a table.

    optimizer = Adagrad(model.variables, learning_rate=0.05, initial_accumulator=0.1)
    optimizer.apply(kernel, gradient)                 # dense
    optimizer.apply_rows(table, Rows(indices_u, gradients_ud))

Duchi et al. 2011, elementwise, for the gradient g of a step:

    s ← s + g²        w ← w - rate · g / √s
"""

from collections.abc import Iterable

import tensorflow as tf

from esmm.layers import Rows


class Adagrad(tf.Module):
    """The sums s of squared gradients of some variables, and the step that they scale."""

    def __init__(
        self, variables: Iterable[tf.Variable], learning_rate: float, initial_accumulator: float
    ) -> None:
        super().__init__(name="adagrad")
        self.learning_rate = learning_rate
        self.accumulators = {
            variable.name: tf.Variable(
                tf.fill(variable.shape, tf.constant(initial_accumulator, variable.dtype)),
                trainable=False,
                name=f"adagrad/{variable.name.partition(':')[0]}",
            )
            for variable in variables
        }

    def apply(self, variable: tf.Variable, gradient: tf.Tensor) -> None:
        """Take a step with a gradient of the variable's shape."""
        tf.raw_ops.ResourceApplyAdagradV2(
            var=variable.handle,
            accum=self.accumulators[variable.name].handle,
            lr=tf.constant(self.learning_rate, variable.dtype),
            # The sums begin above 0, so nothing needs to keep their roots away from it.
            epsilon=tf.zeros((), variable.dtype),
            grad=gradient,
        )

    def apply_rows(self, variable: tf.Variable, gradient: Rows) -> None:
        """Take a step with a gradient of some rows, each of them there once; the others stay as they are."""
        tf.raw_ops.ResourceSparseApplyAdagradV2(
            var=variable.handle,
            accum=self.accumulators[variable.name].handle,
            lr=tf.constant(self.learning_rate, variable.dtype),
            epsilon=tf.zeros((), variable.dtype),
            grad=gradient.values_ud,
            indices=gradient.indices_u,
        )
