"""When training has stopped improving: the score of an epoch's validation metrics, and what it means for the run.

score("ctcvr.auc", metrics)                         # 0.8152
judged(settings, 0.8152, best=0.8160, stale=0)      # Verdict(is_best=False, stale=1, is_over=True)
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from esmm.config import EarlyStopping
from esmm.metrics import Result


class Verdict(NamedTuple):
    """What an epoch's metrics mean for the run."""

    is_best: bool
    stale: int
    """Epochs since the best one."""
    is_over: bool


def score(metric: str, results: Mapping[str, Result]) -> float:
    """TASK.METRIC of some metrics as a number that is better the higher; -inf where it is not defined.

    auc and accuracy are that already; of log_loss it is -log_loss, of pcoc -|log pcoc|: 0.8 is as bad as 1.25.
    """
    task, _, name = metric.partition(".")
    value = results[task][name]
    if value is None:
        return -math.inf
    if name == "log_loss":
        return -value
    if name == "pcoc":
        return -abs(math.log(value)) if value > 0 else -math.inf
    return float(value)


def judged(settings: EarlyStopping, found: float, best: float | None, stale: int) -> Verdict:
    """What to make of an epoch's score, given the best one before it, and how many epochs that one is ago."""
    if found > (-math.inf if best is None else best + settings.min_change):
        return Verdict(is_best=True, stale=0, is_over=False)
    return Verdict(is_best=False, stale=stale + 1, is_over=stale + 1 >= settings.patience)
