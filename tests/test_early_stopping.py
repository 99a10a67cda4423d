"""When a run ends early, and what counts as better."""

import math
from typing import Any

import pytest

from esmm.config import EarlyStopping
from esmm.early_stopping import Verdict, judged, score


def metrics(**values: float | None) -> dict[str, Any]:
    return {"ctr": {}, "cvr": {}, "ctcvr": values}


@pytest.mark.parametrize(
    ("metric", "better", "worse"),
    [("auc", 0.8, 0.7), ("accuracy", 0.8, 0.7), ("log_loss", 0.3, 0.4), ("pcoc", 1.1, 0.8), ("pcoc", 0.95, 1.3),
     ("auc", 0.1, None), ("pcoc", 1.2, None), ("pcoc", 0.1, 0.0)],
)  # fmt: skip
def test_a_better_value_scores_higher(metric: str, better: float, worse: float | None) -> None:
    assert score(f"ctcvr.{metric}", metrics(**{metric: better})) > score(
        f"ctcvr.{metric}", metrics(**{metric: worse})
    )


def test_being_off_by_a_factor_is_as_bad_up_as_down() -> None:
    up, down = (score("ctcvr.pcoc", metrics(pcoc=value)) for value in (1.25, 0.8))
    assert up == pytest.approx(down)


def test_the_run_ends_after_so_many_epochs_without_a_better_one() -> None:
    settings = EarlyStopping(patience=2, min_change=0.01)
    found, best, stale = [], None, 0
    for value in (0.5, 0.6, 0.605, 0.55, -math.inf):
        verdict = judged(settings, value, best, stale)
        found.append(verdict)
        best, stale = value if verdict.is_best else best, verdict.stale
    assert found == [
        Verdict(True, 0, False), Verdict(True, 0, False), Verdict(False, 1, False), Verdict(False, 2, True),
        Verdict(False, 3, True),
    ]  # fmt: skip
