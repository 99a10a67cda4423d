"""Each variant's losses, worked by hand, and against mpmath with 170 digits, which needs no care about cancellation."""

from collections.abc import Callable
from functools import cache
from itertools import product
from math import log
from typing import Any

import mpmath
import numpy as np
import pytest
import tensorflow as tf
from mpmath import mpf

from esmm import models
from esmm.config import Config
from esmm.config.model import TASKS
from esmm.models import Model

FLOOR = 0.05

Formula = Callable[[Any, Any, int, int, Any], Any]
"""Of a row's logits, by tower: those that the gradient is taken by, and the same, held; click, purchase, ε."""


def sigma(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def bce(label: Any, p: Any, epsilon: Any = 0) -> Any:
    label = (1 - epsilon) * label + epsilon / 2
    return -label * mpmath.log(p) - (1 - label) * mpmath.log(1 - p)


def weight(logit: Any) -> Any:
    return 1 / max(sigma(logit), mpf(FLOOR))


def ctr(x: Any, held: Any, o: int, r: int, epsilon: Any) -> Any:
    return bce(o, sigma(x["ctr"]), epsilon)


def ctcvr(x: Any, held: Any, o: int, r: int, epsilon: Any) -> Any:
    return bce(r, sigma(x["ctr"]) * sigma(x["cvr"]), epsilon)


def ctcvr_alone(x: Any, held: Any, o: int, r: int, epsilon: Any) -> Any:
    return bce(r, sigma(x["ctcvr"]), epsilon)


def clicked(x: Any, held: Any, o: int, r: int, epsilon: Any) -> Any:
    return o * bce(r, sigma(x["cvr"]), epsilon)


def ips(x: Any, held: Any, o: int, r: int, epsilon: Any) -> Any:
    return weight(held["ctr"]) * clicked(x, held, o, r, epsilon)


def doubly_robust(x: Any, held: Any, o: int, r: int, epsilon: Any) -> Any:
    imputed = bce(sigma(held["imputation"]), sigma(x["cvr"]))
    return imputed + o * weight(held["ctr"]) * (bce(r, sigma(x["cvr"]), epsilon) - imputed)


def imputation(x: Any, held: Any, o: int, r: int, epsilon: Any) -> Any:
    imputed = bce(sigma(x["imputation"]), sigma(held["cvr"]))
    return o * weight(held["ctr"]) * (bce(r, sigma(held["cvr"]), epsilon) - imputed) ** 2


def counterfactual(x: Any, held: Any, o: int, r: int, epsilon: Any) -> Any:
    return (1 - o) * weight(-held["ctr"]) * bce(1 - r, sigma(x["counterfactual"]), epsilon)


def prior(x: Any, held: Any, o: int, r: int, epsilon: Any) -> Any:
    return abs(1 - sigma(x["cvr"]) - sigma(x["counterfactual"]))


FORMULAS: dict[str, dict[str, Formula]] = {
    "base": {"ctr": ctr, "cvr": clicked},
    "esmm_ns": {"ctr": ctr, "ctcvr": ctcvr},
    "esmm": {"ctr": ctr, "ctcvr": ctcvr},
    "escm2_ips": {"ctr": ctr, "ctcvr": ctcvr, "cvr": ips},
    "escm2_dr": {"ctr": ctr, "ctcvr": ctcvr, "cvr": doubly_robust, "imputation": imputation},
    "dcmt": {
        "ctr": ctr, "ctcvr": ctcvr, "cvr": ips, "counterfactual": counterfactual, "prior": prior,
    },
    "division": {"ctr": ctr, "ctcvr": ctcvr_alone},
}  # fmt: skip

CASES = [(variant, task) for variant, tasks in FORMULAS.items() for task in tasks]


def test_every_variant_is_here() -> None:
    assert {variant: list(tasks) for variant, tasks in FORMULAS.items()} == {
        variant: list(tasks) for variant, tasks in TASKS.items()
    }


def made(config: Config, variant: str, dtype: tf.DType = tf.float64, **settings: Any) -> Model:
    update = {"variant": variant, "propensity_floor": FLOOR, **settings}
    return models.make(config.model_copy(update={"model": config.model.model_copy(update=update)}), dtype)


def towers_of(model: Model) -> list[str]:
    return [tower for group in model.towers for tower in group]


Rows = dict[str, np.ndarray]


@cache
def rows(towers: tuple[str, ...]) -> Rows:
    """Logits to ±80, as float32 holds them: all pairs of some, beside any third, and others drawn between them."""
    some = [-80.0, -30.0, -3.0, -0.1, 0.0, 2.0, 17.0, 80.0]
    pairs = np.array([pair for pair in product(some, some) for _ in range(3)])
    third = np.roll(pairs[:, 0], 7)
    drawn = np.random.default_rng(0).uniform(-80, 80, (30, 3))
    every = np.concatenate([np.column_stack([pairs, third]), drawn]).astype(np.float32)
    labels = np.resize([[0, 0], [1, 0], [1, 1]], (len(every), 2))
    return {
        **{tower: every[:, number].astype(np.float64) for number, tower in enumerate(towers)},
        "click": labels[:, 0], "purchase": labels[:, 1],
    }  # fmt: skip


@cache
def exactly(variant: str, task: str, towers: tuple[str, ...], epsilon: float) -> Rows:
    """The loss of each row, and its gradient by each of the row's logits."""
    given, formula = rows(towers), FORMULAS[variant][task]
    found: dict[str, list[float]] = {name: [] for name in ("loss", *towers)}
    with mpmath.workdps(170):
        for number in range(len(given["click"])):
            held = {tower: mpf(float(given[tower][number])) for tower in towers}
            labels = int(given["click"][number]), int(given["purchase"][number])

            def loss(changed: Any, tower: str, held: Any = held, labels: Any = labels) -> Any:
                return formula({**held, tower: changed}, held, *labels, mpf(epsilon))

            found["loss"].append(float(loss(held[towers[0]], towers[0])))
            for tower in towers:
                found[tower].append(
                    float(mpmath.diff(lambda changed, t=tower: loss(changed, t), held[tower]))
                )
    return {name: np.array(values) for name, values in found.items()}


def ours(model: Model, task: str, given: Rows, dtype: tf.DType) -> Rows:
    """The same of a variant; a row's loss is the gradient of the sum by the row's weight."""
    towers = towers_of(model)
    logits = {tower: tf.constant(given[tower], dtype) for tower in towers}
    weights = tf.ones(len(given["click"]), dtype)
    with tf.GradientTape() as tape:
        tape.watch((logits, weights))
        batch = {"click": tf.constant(given["click"]), "purchase": tf.constant(given["purchase"])}
        total = model.losses(batch | {"weight": weights}, logits)[task]
    zero = tf.UnconnectedGradients.ZERO
    by_logit, by_weight = tape.gradient(total, (logits, weights), unconnected_gradients=zero)
    return {"loss": by_weight.numpy(), **{tower: by_logit[tower].numpy() for tower in towers}}


@pytest.mark.parametrize("epsilon", [0.0, 0.125])
@pytest.mark.parametrize(("dtype", "tolerance"), [(tf.float32, 2e-5), (tf.float64, 1e-12)])
@pytest.mark.parametrize(("variant", "task"), CASES)
def test_losses_and_gradients_are_exact_to_80(
    config: Config, variant: str, task: str, dtype: tf.DType, tolerance: float, epsilon: float
) -> None:
    model = made(config, variant, dtype, label_smoothing=epsilon)
    towers = tuple(towers_of(model))
    expected, given = exactly(variant, task, towers, epsilon), rows(towers)
    # What float32 cannot hold may be 0, and what mpmath's digits cannot tell from 0.
    small = np.full(len(given["click"]), max(np.finfo(dtype.name).tiny * 9, 1e-150))
    if epsilon:
        small += tolerance / 10  # σ(x) may be what the smoothed label is
    if (variant, task) == ("escm2_dr", "cvr"):
        small += tolerance / 10 * (1 + abs(given["cvr"])) / FLOOR  # a sum of both signs
    for name, values in ours(model, task, given, dtype).items():
        assert values.dtype == dtype.as_numpy_dtype
        wrong = abs(values - expected[name]) > tolerance * abs(expected[name]) + small
        assert not wrong.any(), (name, {key: each[wrong] for key, each in given.items()}, values[wrong])


@pytest.mark.parametrize("x", [-1e4, 1e4])
@pytest.mark.parametrize(("variant", "task"), CASES)
def test_far_beyond_they_stay_finite(config: Config, variant: str, task: str, x: float) -> None:
    model = made(config, variant, tf.float32)
    given = {tower: np.full(3, x) for tower in towers_of(model)}
    labels = {"click": np.array([0, 1, 1]), "purchase": np.array([0, 0, 1])}
    for values in ours(model, task, given | labels, tf.float32).values():
        assert np.isfinite(values).all()


BY_HAND = {
    "ctr": 6 * log(2),
    "base cvr": 2 * log(4) + 3 * log(4 / 3),
    "ctcvr": 2 * log(8) + 4 * log(8 / 7),
    "division ctcvr": 2 * log(4) + 4 * log(4 / 3),
    "cvr": 4 * log(4) + 6 * log(4 / 3),
    # δ̂ = (ln 4 + ln 4/3) / 2 in each row; the clicked ones have 2 δ - δ̂, and δ - δ̂ = ± ln 3 / 2.
    "escm2_dr cvr": 4 * log(4) + 6 * log(4 / 3) - 4 * (log(4) + log(4 / 3)) / 2,
    "imputation": 5 * 2 * (log(3) / 2) ** 2,
    "counterfactual": 2 * log(2),
    "prior": 6 / 4,
}


@pytest.mark.parametrize(("variant", "task"), CASES)
def test_losses_are_sums_by_weight_worked_by_hand(config: Config, variant: str, task: str) -> None:
    """pCTR = 1/2, pCVR = 1/4 and all else 1/2, of rows bought, clicked, shown, and one that does not count."""
    third = -log(3)
    logits = {"ctr": 0.0, "cvr": third, "ctcvr": third, "imputation": 0.0, "counterfactual": 0.0}
    batch = {
        "click": tf.constant([1, 1, 0, 1], tf.int8),
        "purchase": tf.constant([1, 0, 0, 1], tf.int8),
        "weight": tf.constant([2.0, 3.0, 1.0, 0.0]),
    }
    model = made(config, variant)
    found = model.losses(
        batch, {name: tf.fill([4], tf.constant(x, tf.float64)) for name, x in logits.items()}
    )
    expected = BY_HAND.get(f"{variant} {task}", BY_HAND[task])
    assert float(found[task]) == pytest.approx(expected, rel=1e-6)  # weights are float32


@pytest.mark.parametrize("variant", ["escm2_ips", "escm2_dr", "dcmt"])
def test_a_propensity_is_at_least_its_floor(config: Config, variant: str) -> None:
    """pCTR is 0.01 and divides as 0.05; of what is not clicked 1 - pCTR = 0.99 divides as it is."""
    batch = {"click": tf.constant([1, 0]), "purchase": tf.constant([1, 0]), "weight": tf.ones(2)}
    a = tf.constant([-log(99), -log(99)], tf.float64)
    half = tf.zeros(2, tf.float64)
    model = made(config, variant)
    found = model.losses(batch, {"ctr": a, "cvr": half, "imputation": half, "counterfactual": half})
    # All errors are ln 2. Doubly robust, the clicked row has δ̂ + (δ - δ̂) / 0.05, the other one δ̂.
    expected = 2 * log(2) if variant == "escm2_dr" else log(2) / FLOOR
    assert float(found["cvr"]) == pytest.approx(expected, rel=1e-6)
    if variant == "dcmt":
        assert float(found["counterfactual"]) == pytest.approx(log(2) / 0.99, rel=1e-6)


def test_a_purchase_without_a_click_is_none(config: Config) -> None:
    one, zero = tf.ones(1, tf.float64), tf.zeros(1, tf.float64)
    for variant in TASKS:
        model = made(config, variant)
        logits = dict.fromkeys(towers_of(model), one)
        with_purchase, without = (
            model.losses({"click": zero, "purchase": purchase, "weight": one}, logits)
            for purchase in (one, zero)
        )
        assert with_purchase == without
