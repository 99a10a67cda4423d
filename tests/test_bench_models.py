"""What bench-models says of a model's probabilities, on rows whose figures are worked by hand or by scikit-learn."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import bench_models
from benchmarks.models import boosting, bootstrap, figures, report
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


def test_weighted_auc_with_ties_is_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    label, weight = rng.integers(0, 2, 400), rng.integers(0, 4, 400).astype(np.float64)
    prediction = np.round(rng.normal(label), 1)
    expected = roc_auc_score(label, prediction, sample_weight=weight)
    assert bootstrap.RankedRows(label, prediction).auc(weight) == pytest.approx(expected, abs=1e-12)


def test_an_interval_is_of_whole_users_and_of_equal_models_nothing() -> None:
    rng = np.random.default_rng(4)
    label, user = rng.integers(0, 2, 300), np.repeat(np.arange(30), 10)
    good, bad = rng.normal(label), rng.normal(size=300)
    assert set(bootstrap.difference(label, user, [good], [good], repetitions=50).values()) == {0.0}
    found = bootstrap.difference(label, user, [good, good], [bad], repetitions=200)
    assert found["value"] == pytest.approx(roc_auc_score(label, good) - roc_auc_score(label, bad))
    assert 0 < found["low"] < found["value"] < found["high"] < 1
    # Of a single user there is nobody else to draw.
    alone = bootstrap.difference(label, np.zeros(300), [good], [bad], repetitions=20)
    assert alone["low"] == alone["value"] == alone["high"]


def test_the_report_of_real_logs_has_each_difference_and_its_interval(tmp_path: Path) -> None:
    labels = {name: TRUTH[name] for name in ("click", "purchase")} | {"user_id": np.arange(4)}
    ours, theirs = predictions([0.4, 0.3, 0.2, 0.1], [0.6, 0.4, 0.3, 0.2]), predictions([0.1] * 4, [0.5] * 4)
    chosen = boosting.stated({"ctr": boosting.Choice(depth=2, rate=0.1, trees=17, auc=0.6)})
    found = {
        "boosting": figures.over_seeds([figures.of(labels, theirs)]) | {"chosen": chosen},
        "esmm": figures.over_seeds([figures.of(labels, ours)])
        | bench_models.minus_boosting(labels, [ours], theirs),
    }
    text = report.write({"kuairand": found}, tmp_path, {"seeds": [1]})
    written = json.loads((tmp_path / "models.json").read_text())["kuairand"]
    assert written["esmm"]["ctr_auc_minus_boosting"]["value"] == 0.5
    assert {"low", "high"} < written["esmm"]["ctcvr_auc_minus_boosting"].keys()
    assert written["boosting"]["chosen"]["ctr"]["trees"] == 17
    assert "+50.00 (" in text
    assert (tmp_path / "models.png").stat().st_size > 1000
