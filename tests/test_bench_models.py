"""What bench-models says of a model's probabilities, on rows whose figures are worked by hand."""

import numpy as np
import pytest

from benchmarks.models import figures
from benchmarks.models.training import Predictions

TRUTH = {
    "click": np.array([1, 1, 0, 0]),
    "purchase": np.array([1, 0, 0, 0]),
    "purchase_if_clicked": np.array([1, 0, 1, 0]),
    "true_pctr": np.array([0.4, 0.4, 0.1, 0.1]),
    "true_pcvr": np.array([0.5, 0.3, 0.1, 0.1]),
}


def predictions(pctr: list[float], pcvr: list[float]) -> Predictions:
    clicks, purchases = np.array(pctr, np.float32), np.array(pcvr, np.float32)
    return Predictions(clicks, purchases, clicks * purchases, seconds=0.0)


def test_of_all_exposures() -> None:
    found = figures.of(TRUTH, predictions([0.2] * 4, [0.6, 0.4, 0.3, 0.2]))
    # Of the four pairs of a purchase and none, 0.3 below 0.4 is the one in the wrong order.
    assert found["cvr_all_auc"] == 0.75
    assert found["cvr_auc"] == 1.0
    assert found["cvr_all_pcoc"] == pytest.approx(1.5 / 1.0)
    # Weights 2, 2, ½, ½: (1.0 + 0.6 + 0.05 + 0.05) / 5 over 0.25.
    assert found["ips_pcoc"] == pytest.approx(1.36)


def test_true_propensities_undo_the_selection() -> None:
    assert figures.of_truth(TRUTH)["ips_pcoc"] == pytest.approx(1.0)
    assert figures.of_truth(TRUTH)["cvr_all_pcoc"] == pytest.approx(1.0)
    # Twice the propensity everywhere weighs all alike.
    found = figures.of(TRUTH, predictions([0.8, 0.8, 0.2, 0.2], [0.1] * 4))
    assert found["ips_pcoc"] == pytest.approx(1.0)
