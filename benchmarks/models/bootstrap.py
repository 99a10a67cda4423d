"""How far apart the AUCs of two models are on the same rows, and how far that may be the luck of who was there.

    difference(label, user, ours, theirs)      # {"value": 0.0031, "low": -0.0012, "high": 0.0075}

A paired bootstrap over users: each time as many users are drawn as there are, with replacement, each with all of its
rows, and both models are measured on them. Rows of one user are alike, so that drawing rows would make the interval too
narrow. Of a model that was trained with several seeds the mean of the seeds' AUCs is compared: the interval is of the
users' luck, not of the seeds'.
"""

from collections.abc import Sequence

import numpy as np

REPETITIONS = 1_000
LEVEL = 0.95


class RankedRows:
    """Labels and one model's predictions, sorted once, so that an AUC by any weights is one pass."""

    def __init__(self, label: np.ndarray, prediction: np.ndarray) -> None:
        """[rows] each."""
        _, self._rank = np.unique(prediction, return_inverse=True)
        self._is_positive = label != 0

    def auc(self, weight: np.ndarray) -> float:
        """The chance that a positive row's prediction is above a negative's, a tie counting half; NaN for no pair."""
        ranks = self._rank.max() + 1
        positive = np.bincount(self._rank, weight * self._is_positive, ranks)
        negative = np.bincount(self._rank, weight * ~self._is_positive, ranks)
        pairs = positive.sum() * negative.sum()
        below = np.cumsum(negative) - negative / 2
        return float(positive @ below / pairs) if pairs else float("nan")


def difference(
    label: np.ndarray,
    user: np.ndarray,
    ours: Sequence[np.ndarray],
    theirs: Sequence[np.ndarray],
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> dict[str, float]:
    """Our AUC minus theirs, and the interval that holds 95 % of the bootstrap's.

    Args:
        label: 0 or 1, [rows].
        user: whose rows they are, [rows].
        ours: predictions, one array [rows] a seed.
        theirs: likewise.
        repetitions: times that users are drawn.
        seed: of the draws; equal ones draw equal users, whatever the models.
    """
    users, user_of_row = np.unique(user, return_inverse=True)
    sides = [[RankedRows(label, prediction) for prediction in side] for side in (ours, theirs)]

    def measured(times_of_user: np.ndarray) -> float:
        weight = times_of_user[user_of_row].astype(np.float64)
        our_auc, their_auc = (np.mean([rows.auc(weight) for rows in side]) for side in sides)
        return float(our_auc - their_auc)

    rng = np.random.default_rng(seed)
    drawn = [
        measured(np.bincount(rng.integers(len(users), size=len(users)), minlength=len(users)))
        for _ in range(repetitions)
    ]
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": measured(np.ones(len(users))), "low": float(low), "high": float(high)}
