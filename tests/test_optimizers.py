"""Optimizers against what is on paper, and rows against dense steps."""

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from esmm import optimizers
from esmm.config import Optimizer
from esmm.layers.tables import Rows
from esmm.optimizers import Optimizer as Steps


def one(start: list[float], **settings: Any) -> tuple[tf.Variable, Steps]:
    variable = tf.Variable(start, name="w", dtype=tf.float64)
    return variable, optimizers.make([variable], Optimizer.model_validate(settings))


def test_adagrad_is_as_on_paper() -> None:
    """s = 0.1 + 2² = 4.1, w = 1 - 0.5 · 2 / √4.1; then s = 4.1 + 1² = 5.1."""
    variable, adagrad = one([1.0, 1.0], learning_rate=0.5, initial_accumulator=0.1)
    adagrad.step([(variable, tf.constant([2.0, 0.0], tf.float64))], [])
    np.testing.assert_allclose(variable, [1 - 1 / math.sqrt(4.1), 1], rtol=1e-12)
    adagrad.step([(variable, tf.constant([1.0, 0.0], tf.float64))], [])
    np.testing.assert_allclose(variable, [1 - 1 / math.sqrt(4.1) - 0.5 / math.sqrt(5.1), 1], rtol=1e-12)


def test_adam_is_as_on_paper() -> None:
    """The first step is the rate in the gradient's direction; of the second, m̂ = 0.19 · 3 / 0.19 were g the same."""
    variable, adam = one([1.0, 1.0], name="adam", learning_rate=0.5, betas=[0.9, 0.99], epsilon=1e-12)
    adam.step([(variable, tf.constant([2.0, -3.0], tf.float64))], [])
    np.testing.assert_allclose(variable, [0.5, 1.5], rtol=1e-10)
    adam.step([(variable, tf.constant([1.0, -3.0], tf.float64))], [])
    m, v = (0.9 * 0.2 + 0.1 * 1) / 0.19, (0.99 * 0.04 + 0.01 * 1) / 0.0199
    np.testing.assert_allclose(variable, [0.5 - 0.5 * m / math.sqrt(v), 2.0], rtol=1e-10)


def test_decay_shrinks_kernels_and_leaves_biases() -> None:
    """1 - 0.5 · 0.2 = 0.9 of what was there, whatever the gradient; here it is 0."""
    kernel, bias = tf.Variable([[2.0], [4.0]], name="k"), tf.Variable([2.0], name="b")
    adagrad = optimizers.make([kernel, bias], Optimizer(learning_rate=0.5, weight_decay=0.2))
    adagrad.step([(each, tf.zeros_like(each)) for each in (kernel, bias)], [])
    np.testing.assert_allclose(kernel, [[1.8], [3.6]], rtol=1e-6)
    np.testing.assert_allclose(bias, [2.0])


@pytest.mark.parametrize(("limit", "scale"), [(2.5, 0.5), (5.0, 1.0), (100.0, 1.0)])
def test_clipping_scales_all_gradients_by_their_common_norm(limit: float, scale: float) -> None:
    """√(3² + 4²) = 5, one of a variable, the other of a table's row; Adam's first moment is a tenth of the gradient."""
    dense, table = tf.Variable([0.0], name="d"), tf.Variable([[0.0], [0.0]], name="t")
    settings = Optimizer(name="adam", clip_norm=limit)
    adam = optimizers.make([dense, table], settings)
    assert isinstance(adam, optimizers.Adam)
    adam.step(
        [(dense, tf.constant([3.0]))], [(table, Rows(tf.constant([1], tf.int64), tf.constant([[4.0]])))]
    )
    np.testing.assert_allclose(adam.slots["first"]["d:0"], [0.3 * scale], rtol=1e-6)
    np.testing.assert_allclose(adam.slots["first"]["t:0"], [[0.0], [0.4 * scale]], rtol=1e-6)


@pytest.mark.parametrize("name", ["adagrad", "adam"])
@pytest.mark.parametrize("indices", [[], [2], [3, 0]])
def test_a_step_by_rows_is_a_dense_step_and_leaves_the_others(name: str, indices: list[int]) -> None:
    random = np.random.default_rng(0)
    start, values = random.normal(size=(4, 3)), random.normal(size=(len(indices), 3))
    by_rows, dense = (tf.Variable(start, name=each) for each in ("by_rows", "dense"))
    settings = Optimizer.model_validate({"name": name, "learning_rate": 0.5, "weight_decay": 0.1})
    optimizer = optimizers.make([by_rows, dense], settings)
    gradient = np.zeros((4, 3))
    gradient[indices] = values
    for _ in range(2):
        optimizer.step(
            [(dense, tf.constant(gradient))],
            [(by_rows, Rows(tf.constant(indices, tf.int64), tf.constant(values)))],
        )
    np.testing.assert_allclose(by_rows.numpy()[indices], dense.numpy()[indices], rtol=1e-12)
    untouched = [row for row in range(4) if row not in indices]
    np.testing.assert_array_equal(by_rows.numpy()[untouched], start[untouched])


def test_rows_that_are_not_in_use_keep_their_moments() -> None:
    table = tf.Variable(np.zeros((2, 1)), name="t")
    adam = optimizers.make([table], Optimizer(name="adam"))
    assert isinstance(adam, optimizers.Adam)
    for row in (0, 1):
        adam.step([], [(table, Rows(tf.constant([row], tf.int64), tf.constant([[1.0]], tf.float64)))])
    np.testing.assert_allclose(adam.slots["first"]["t:0"], [[0.1], [0.1]], rtol=1e-12)
