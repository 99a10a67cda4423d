"""The losses against 100-digit decimal arithmetic, which needs no care about cancellation."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from esmm import losses

LOGITS = [-80.0, -30.0, -3.0, -0.1, 0.0, 1e-4, 2.0, 17.0, 40.0, 80.0]


def exactly(a: float, c: float, click: int, purchase: int) -> list[Decimal]:
    """Both losses, the gradient of the first by a, and those of the second by a and by c.

    From the probabilities themselves, with p = σ(a) and q = σ(c): by a, -log p has the gradient -(1 - p),
    -log(1 - p) has p, and -log(1 - pq) has pq (1 - p) / (1 - pq).
    """
    with localcontext() as context:
        context.prec = 100
        p, q = (1 / (1 + (-Decimal(x)).exp()) for x in (a, c))
        ctr, by_a = (-p.ln(), p - 1) if click else (-(1 - p).ln(), p)
        if click and purchase:
            return [ctr, -(p * q).ln(), by_a, p - 1, q - 1]
        odds = p * q / (1 - p * q)
        return [ctr, -(1 - p * q).ln(), by_a, odds * (1 - p), odds * (1 - q)]


def ours(a: float, c: float, click: int, purchase: int, dtype: tf.DType) -> np.ndarray:
    logits = [tf.constant([x], dtype) for x in (a, c)]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        found = losses.esmm(*logits, tf.constant([click]), tf.constant([purchase]), tf.ones(1))
    by_a, *by_both = tape.gradient(found["ctr"], logits[0]), *tape.gradient(found["ctcvr"], logits)
    return np.concatenate([np.ravel(x) for x in (found["ctr"], found["ctcvr"], by_a, *by_both)])


def check(a: float, c: float, click: int, purchase: int, dtype: tf.DType, tolerance: float) -> None:
    expected = exactly(a, c, click, purchase)
    found = ours(a, c, click, purchase, dtype)
    # What a type cannot hold may be 0: 1e-37 in float32, 1e-300 in float64.
    np.testing.assert_allclose(
        found, [float(x) for x in expected], rtol=tolerance, atol=np.finfo(dtype.name).tiny * 9
    )


@pytest.mark.parametrize(("click", "purchase"), [(0, 0), (1, 0), (1, 1)])
@pytest.mark.parametrize(("name", "tolerance"), [("float32", 2e-5), ("float64", 1e-13)])
def test_losses_and_gradients_are_exact_to_80(name: str, tolerance: float, click: int, purchase: int) -> None:
    for a in LOGITS:
        for c in LOGITS:
            # 80 in float32 is 80 exactly, 0.1 is not: what float32 holds is what is computed from.
            held = (float(np.dtype(name).type(x)) for x in (a, c))
            check(*held, click, purchase, tf.as_dtype(name), tolerance)


@given(
    st.floats(-80, 80, width=32),
    st.floats(-80, 80, width=32),
    st.sampled_from([(0, 0), (1, 0), (1, 1)]),
)
@settings(deadline=None, max_examples=60)
def test_losses_and_gradients_are_exact_anywhere(a: float, c: float, labels: tuple[int, int]) -> None:
    check(a, c, *labels, tf.float32, 2e-5)
    check(a, c, *labels, tf.float64, 1e-13)


@pytest.mark.parametrize("x", [-1e4, 1e4])
@pytest.mark.parametrize(("click", "purchase"), [(0, 0), (1, 0), (1, 1)])
def test_far_beyond_they_stay_finite(x: float, click: int, purchase: int) -> None:
    assert np.isfinite(ours(x, x, click, purchase, tf.float32)).all()


def test_losses_are_sums_by_weight() -> None:
    """σ(0) = 1/2 and σ(0) σ(0) = 1/4, so the rows cost ln 2 and ln 4, or ln 2 and ln 4/3."""
    zeros = tf.zeros(3, tf.float64)
    found = losses.esmm(
        zeros, zeros, tf.constant([1, 1, 0]), tf.constant([1, 0, 0]), tf.constant([2.0, 3.0, 0.0])
    )
    assert float(found["ctr"]) == pytest.approx(5 * np.log(2), rel=1e-12)
    assert float(found["ctcvr"]) == pytest.approx(2 * np.log(4) + 3 * np.log(4 / 3), rel=1e-12)


def test_a_purchase_without_a_click_is_none() -> None:
    one, zero = tf.ones(1, tf.float64), tf.zeros(1, tf.float64)
    with_purchase = losses.esmm(one, zero, tf.constant([0]), tf.constant([1]), tf.ones(1))
    without = losses.esmm(one, zero, tf.constant([0]), tf.constant([0]), tf.ones(1))
    assert with_purchase == without
