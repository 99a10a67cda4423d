"""gauc: the mean of the users' AUCs by the weight of their rows, worked by hand and against scikit-learn.

A row of a case is (user, label, prediction) or (user, label, prediction, weight), of the CTR.
"""

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from sklearn.metrics import roc_auc_score

from esmm import statements

Row = tuple[int, int, float] | tuple[int, int, float, float]
Gauc = tuple[float | None, int, float]
"""GAUC, users, share of the weight."""

NAMES = "user_id long, click tinyint, purchase tinyint, weight float, pctr double, pcvr double, pctcvr double"


def gauc(spark: SparkSession, predictions: list[tuple[float, ...]] | pd.DataFrame) -> dict[str, Gauc]:
    """By task."""
    spark.createDataFrame(predictions, NAMES).createOrReplaceTempView("predictions")
    rows = statements.run(spark, "gauc").collect()
    return {row["task"]: (row["gauc"], row["users"], row["share_of_weight"]) for row in rows}


CASES: dict[str, tuple[list[Row], Gauc]] = {
    "one user: its AUC, three of four pairs in order": (
        [(1, 1, 0.8), (1, 0, 0.6), (1, 1, 0.4), (1, 0, 0.2)], (0.75, 1, 1.0),
    ),
    "two users, each with the weight of its rows": (
        [(1, 1, 0.8), (1, 0, 0.6), (1, 1, 0.4), (1, 0, 0.2), (2, 1, 0.1), (2, 0, 0.9)],
        ((4 * 0.75 + 2 * 0.0) / 6, 2, 1.0),
    ),
    "how high a user's predictions are does not matter": (
        [(1, 1, 0.9), (1, 0, 0.8), (2, 1, 0.2), (2, 0, 0.1)], (1.0, 2, 1.0),
    ),
    "a user of one label is left out": (
        [(1, 1, 0.9), (1, 0, 0.8), (2, 0, 0.2), (2, 0, 0.1), (2, 0, 0.3), (3, 1, 0.5)], (1.0, 1, 2 / 6),
    ),
    "nobody has both labels": ([(1, 1, 0.9), (2, 0, 0.8)], (None, 0, 0.0)),
    "equal predictions count half": (
        [(1, 1, 0.5), (1, 0, 0.5), (1, 0, 0.5), (1, 0, 0.1)], ((0.5 + 0.5 + 1) / 3, 1, 1.0),
    ),
    "equal predictions of two users are no tie": (
        [(1, 1, 0.5), (1, 0, 0.4), (2, 1, 0.4), (2, 0, 0.5)], (0.5, 2, 1.0),
    ),
    "a row of weight 3 is three rows": (
        [(1, 1, 0.8, 1.0), (1, 0, 0.9, 3.0), (1, 0, 0.1, 1.0), (2, 1, 0.8, 2.0), (2, 0, 0.3, 0.5)],
        ((5 * (1 / 4) + 2.5 * 1.0) / 7.5, 2, 1.0),
    ),
    "a row of weight 0 does not count": (
        [(1, 1, 0.8), (1, 0, 0.6), (1, 0, 0.9, 0.0), (2, 1, 0.8), (2, 0, 0.9, 0.0)], (1.0, 1, 2 / 3),
    ),
    "zero and minus zero are equal": ([(1, 1, 0.0), (1, 0, -0.0)], (0.5, 1, 1.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_gauc(spark: SparkSession, name: str) -> None:
    given, expected = CASES[name]
    rows = [(*row, 1.0)[:4] for row in given]
    found = gauc(spark, [(user, label, 0, weight, p, 0.5, 0.1) for user, label, p, weight in rows])
    assert found["ctr"][0] == (None if expected[0] is None else pytest.approx(expected[0], rel=1e-6))
    assert found["ctr"][1:] == pytest.approx(expected[1:], rel=1e-6)


def test_cvr_is_of_clicked_rows_and_ctcvr_of_all(spark: SparkSession) -> None:
    """User 1's unclicked row has the highest pCVR, which is no error; nobody knows whether it would be bought."""
    found = gauc(
        spark,
        [
            (1, 1, 1, 1.0, 0.9, 0.6, 0.2),
            (1, 1, 0, 1.0, 0.9, 0.5, 0.1),
            (1, 0, 0, 1.0, 0.1, 0.9, 0.3),
            (2, 0, 0, 1.0, 0.1, 0.1, 0.1),
            (3, 1, 0, 1.0, 0.1, 0.1, 0.1),
        ],
    )
    assert found == {"ctr": (1.0, 1, 3 / 5), "cvr": (1.0, 1, 2 / 3), "ctcvr": (0.5, 1, 3 / 5)}


def test_a_task_without_rows_has_none(spark: SparkSession) -> None:
    assert set(gauc(spark, [(1, 0, 0, 1.0, 0.1, 0.1, 0.1)])) == {"ctr", "ctcvr"}


def test_agrees_with_scikit_learn_user_by_user(spark: SparkSession) -> None:
    """4 000 rows of 600 users, many with a handful of rows and one with a third of all; ties and weights."""
    rng = np.random.default_rng(8)
    user = rng.integers(0, 600, 4_000) * (rng.random(4_000) > 0.3)
    pctr, pcvr = np.round(rng.random((2, 4_000)), 1)
    click = rng.random(4_000) < pctr
    rows = pd.DataFrame(
        {
            "user_id": user,
            "click": click.astype("i1"),
            "purchase": (click & (rng.random(4_000) < pcvr)).astype("i1"),
            "weight": rng.choice([0.0, 0.5, 1.0, 3.0], 4_000).astype("f4"),
            "pctr": pctr,
            "pcvr": pcvr,
            "pctcvr": np.round(pctr * pcvr, 1),
        }
    )
    used = rows[rows["weight"] > 0]
    tasks = {
        "ctr": (used, "click", "pctr"),
        "cvr": (used[used["click"] == 1], "purchase", "pcvr"),
        "ctcvr": (used, "purchase", "pctcvr"),
    }
    found = gauc(spark, rows)
    for task, (of_task, label, prediction) in tasks.items():
        users = [part for _, part in of_task.groupby("user_id") if part[label].nunique() == 2]
        assert 50 < len(users) < 550
        aucs = [roc_auc_score(part[label], part[prediction], sample_weight=part["weight"]) for part in users]
        weights = [part["weight"].sum() for part in users]
        share = sum(weights) / of_task["weight"].sum()
        expected = (np.average(aucs, weights=weights), len(users), share)
        assert found[task] == pytest.approx(expected, rel=1e-9), task
