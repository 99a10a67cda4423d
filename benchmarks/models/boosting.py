"""The baseline for real logs: gradient boosting on the rows that the models see.

    found, chosen = predictions(rows)        # chosen["ctr"]: Choice(depth=4, rate=0.03, trees=210, auc=0.7312)

One scikit-learn HistGradientBoostingClassifier a task: click and click-and-purchase of all rows, purchase of the
clicked ones. It gets the columns of the samples that trees can use: statistics, which are counts and rates of the days
before, numbers, and ids of few values as categories. Lists and ids of many values are left to the models, as is usual.
Depth, rate and number of trees are those whose AUC is the highest on the last day to train on, after training on the
days before it; then all days are trained on.
"""

import dataclasses
import datetime as dt
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from benchmarks.models.rows import Rows
from benchmarks.models.training import Predictions
from esmm import schema
from esmm.config import IdFeature

DEPTHS, RATES, TREES = (2, 4, 6), (0.03, 0.1), 300
MOST_CATEGORIES = 254
"""What scikit-learn takes, one value being kept for those that it has not seen."""


@dataclass(frozen=True)
class Choice:
    """What was chosen for a task, and the AUC on the day that it was chosen by."""

    depth: int
    rate: float
    trees: int
    auc: float


def predictions(rows: Rows) -> tuple[Predictions, dict[str, Choice]]:
    """What it predicts for the held-out rows, and what was chosen for each task."""
    start = time.monotonic()
    table = _Table(rows)
    chosen = {task: _choose(table, rows.days, task) for task in ("ctr", "cvr", "ctcvr")}
    found = {
        f"p{task}": _fit(table, rows.days, task, choice).predict_proba(table.features((rows.held_out,)))[:, 1]
        for task, choice in chosen.items()
    }
    return Predictions(**found, seconds=time.monotonic() - start), chosen


class _Table:
    """The columns that trees can use, by day."""

    def __init__(self, rows: Rows) -> None:
        config, days = rows.config, (*rows.days, rows.held_out)
        ids = [name for name, feature in config.features.items() if isinstance(feature, IdFeature)]
        numbers = list(schema.number_features(config))
        self._rows = {day: rows.frame((day,), ["click", "purchase", *ids, *numbers]) for day in days}
        # Each id by its number among all values. A value that only the held-out day has tells nothing there.
        together = pd.concat([self._rows[day][ids] for day in days]).astype("category")
        few = [name for name in ids if len(together[name].cat.categories) <= MOST_CATEGORIES]
        self._categories = {name: together[name].cat.categories for name in few}
        self._numbers = numbers
        self.is_categorical = [True] * len(few) + [False] * len(numbers)

    def features(self, days: Sequence[dt.date]) -> np.ndarray:
        """float64 [rows, columns]."""
        frame = pd.concat([self._rows[day] for day in days])
        coded = [known.get_indexer(frame[name]) for name, known in self._categories.items()]
        return np.column_stack([*coded, *[frame[name] for name in self._numbers]])

    def labels(self, days: Sequence[dt.date], task: str) -> tuple[np.ndarray, np.ndarray]:
        """Which rows a task has, bool [rows], and their labels."""
        frame = pd.concat([self._rows[day] for day in days])
        click, purchase = frame["click"].to_numpy() == 1, frame["purchase"].to_numpy()
        used = click if task == "cvr" else np.ones_like(click)
        return used, (click if task == "ctr" else purchase)[used]


def _choose(table: _Table, days: Sequence[dt.date], task: str) -> Choice:
    used, label = table.labels(days[-1:], task)
    features = table.features(days[-1:])[used]
    choices = []
    for depth, rate in itertools.product(DEPTHS, RATES):
        fitted = _fit(table, days[:-1], task, Choice(depth, rate, TREES, 0.0))
        aucs = [roc_auc_score(label, found[:, 1]) for found in fitted.staged_predict_proba(features)]
        choices.append(Choice(depth, rate, int(np.argmax(aucs)) + 1, float(max(aucs))))
    return max(choices, key=lambda choice: choice.auc)


def _fit(table: _Table, days: Sequence[dt.date], task: str, choice: Choice) -> HistGradientBoostingClassifier:
    used, label = table.labels(days, task)
    model = HistGradientBoostingClassifier(
        max_depth=choice.depth, learning_rate=choice.rate, max_iter=choice.trees, early_stopping=False,
        categorical_features=table.is_categorical, random_state=0,
    )  # fmt: skip
    return model.fit(table.features(days)[used], label)


def stated(chosen: dict[str, Choice]) -> dict[str, dict[str, float]]:
    """The choices as JSON has them."""
    return {task: dataclasses.asdict(choice) for task, choice in chosen.items()}
