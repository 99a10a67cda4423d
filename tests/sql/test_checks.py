"""sql/checks: a row that breaks a check is found, a clean table is not."""

from typing import Any

import pytest
from pyspark.sql import SparkSession

from esmm import statements

SAMPLES = (
    "ds string, exposure_id bigint, user_id bigint, item_id bigint, exposed_at bigint, click tinyint, "
    "purchase tinyint, weight float, lowest_id bigint"
)
NAMES = ("ds", "exposure_id", "user_id", "item_id", "exposed_at", "click", "purchase", "weight", "lowest_id")
DAY = "2026-03-28"


def sample(exposure_id: int | None = 1, **changes: Any) -> tuple[Any, ...]:
    row = {"ds": DAY, "exposure_id": exposure_id, "user_id": 7, "item_id": 5, "exposed_at": 0,
           "click": 0, "purchase": 0, "weight": 1.0, "lowest_id": -1} | changes  # fmt: skip
    return tuple(row[name] for name in NAMES)


# Samples beside a clean one of exposure 1, and the exposures that are found.
BROKEN: dict[str, dict[str, tuple[list[tuple[Any, ...]], list[int | None]]]] = {
    "checks/unique_exposure": {
        "an exposure with two samples": ([sample(2), sample(2)], [2]),
        "one id of two users": ([sample(2, user_id=8), sample(2, user_id=9)], [2]),
        "on two days": ([sample(2, ds="2026-03-29"), sample(2)], [2]),
        "of a thousand": ([sample(2)] * 1_000, [2]),
    },
    "checks/purchase_implies_click": {
        "bought without a click": ([sample(2, purchase=1)], [2]),
        "only the one that breaks it": (
            [sample(2, purchase=1), sample(3, click=1, purchase=1), sample(4, click=1)], [2],
        ),
    },
    "checks/labels": {
        "a click of 2": ([sample(2, click=2)], [2]),
        "a click below 0": ([sample(2, click=-1)], [2]),
        "no click": ([sample(2, click=None)], [2]),
        "a purchase of 2": ([sample(2, click=1, purchase=2)], [2]),
        "no purchase": ([sample(2, purchase=None)], [2]),
        "a weight below 1": ([sample(2, weight=0.5)], [2]),
        "a weight that is no number": ([sample(2, weight=float("nan"))], [2]),
        "an infinite weight": ([sample(2, weight=float("inf"))], [2]),
        "no weight": ([sample(2, weight=None)], [2]),
    },
    "checks/keys": {
        "an absent exposure": ([sample(-1)], [-1]),
        "no exposure": ([sample(None)], [None]),
        "an absent user": ([sample(2, user_id=-1)], [2]),
        "a negative item": ([sample(2, item_id=-5)], [2]),
        "no time": ([sample(2, exposed_at=None)], [2]),
        "a feature's id below -1": ([sample(2, lowest_id=-2)], [2]),
    },
}  # fmt: skip
CASES = [(check, case) for check, cases in BROKEN.items() for case in cases]
CLEAN = [
    sample(1), sample(2, click=1), sample(3, click=1, purchase=1), sample(4, weight=4.0), sample(5, exposed_at=-1),
    sample(2**63 - 1, ds="2026-03-29", user_id=0, item_id=0),
]  # fmt: skip


def found(spark: SparkSession, check: str, samples: list[tuple[Any, ...]]) -> list[Any]:
    spark.createDataFrame(samples, SAMPLES).createOrReplaceTempView("samples")
    return statements.run(spark, check).collect()


@pytest.mark.parametrize(("check", "case"), CASES, ids=[f"{check}: {case}" for check, case in CASES])
def test_broken(spark: SparkSession, check: str, case: str) -> None:
    samples, exposures = BROKEN[check][case]
    rows = found(spark, check, [sample(1), *samples])
    assert [row["exposure_id"] for row in rows] == exposures
    assert {row["ds"] for row in rows} == {DAY}


@pytest.mark.parametrize("check", BROKEN)
def test_clean(spark: SparkSession, check: str) -> None:
    assert found(spark, check, CLEAN) == []
    assert found(spark, check, []) == []


def test_one_id_of_two_users_names_both(spark: SparkSession) -> None:
    [row] = found(spark, "checks/unique_exposure", [sample(2, user_id=8), sample(2, user_id=9)])
    assert (row["samples"], row["user_id"], row["other_user_id"]) == (2, 8, 9)


def test_every_check_has_cases() -> None:
    assert set(statements.checks()) == {*BROKEN, "checks/lists"}


NONE = [-1, -1, -1]
LISTS = "ds string, exposure_id bigint, ids array<array<bigint>>, weights array<float>"
# Of length 3, two entities: ids and weights.
GOOD_LISTS: dict[str, tuple[list[list[int] | None], list[float] | None]] = {
    "three entries": ([[5, 6, 7], [8, 9, 8]], [0.9, 0.5, 0.1]),
    "no entry": ([NONE, NONE], [0.0, 0.0, 0.0]),
    "one entry": ([[5, -1, -1], [8, -1, -1]], [0.9, 0.0, 0.0]),
    "an entry of an unknown seller": ([[5, 6, -1], [-1, 9, -1]], [0.9, 0.5, 0.0]),
    "entries of one time weigh the same": ([[5, 6, -1], [8, 9, -1]], [0.5, 0.5, 0.0]),
    "the smallest and the largest weight": ([[5, 6, -1], [8, 9, -1]], [1 - 2**-24, 2.0**-126, 0.0]),
}
BAD_LISTS: dict[str, tuple[list[list[int] | None], list[float] | None]] = {
    "an event of the exposure's time weighs 1": ([[5, -1, -1], [8, -1, -1]], [1.0, 0.0, 0.0]),
    "an event of the future weighs more": ([[5, 6, -1], [8, 8, -1]], [1.5, 0.5, 0.0]),
    "an id where there is no weight": ([[5, 6, -1], [8, 9, -1]], [0.5, 0.0, 0.0]),
    "an id of one entity alone where there is no weight": ([[5, -1, -1], [8, 9, -1]], [0.5, 0.0, 0.0]),
    "an entry behind padding": ([[5, -1, 6], [8, -1, 9]], [0.5, 0.0, 0.25]),
    "a weight below 0": ([[5, -1, -1], [8, -1, -1]], [-0.5, 0.0, 0.0]),
    "a weight that is no number": ([[5, -1, -1], [8, -1, -1]], [float("nan"), 0.0, 0.0]),
    "an infinite weight": ([[5, -1, -1], [8, -1, -1]], [float("inf"), 0.0, 0.0]),
    "the oldest entry first": ([[5, 6, -1], [8, 9, -1]], [0.25, 0.5, 0.0]),
    "an id below -1": ([[5, -1, -1], [-8, -1, -1]], [0.5, 0.0, 0.0]),
    "too few weights": ([[5, 6, 7], [8, 9, 8]], [0.5, 0.25]),
    "too many weights": ([[5, 6, 7], [8, 9, 8]], [0.5, 0.25, 0.2, 0.1]),
    "no weights": ([NONE, NONE], None),
    "too few ids of one entity": ([[5, -1, -1], [8, -1]], [0.5, 0.0, 0.0]),
    "too many ids of one entity": ([[5, -1, -1], [8, -1, -1, -1]], [0.5, 0.0, 0.0]),
    "no ids of one entity": ([NONE, None], [0.0, 0.0, 0.0]),
}


@pytest.fixture(scope="module")
def broken_lists(spark: SparkSession) -> set[str]:
    """The cases of lists that the check finds, of all of them in one table."""
    cases = GOOD_LISTS | BAD_LISTS
    rows = [(DAY, number, *lists) for number, lists in enumerate(cases.values())]
    spark.createDataFrame(rows, LISTS).createOrReplaceTempView("sample_lists")
    names = list(cases)
    found = statements.run(spark, "checks/lists", {"length": 3, "weights_below": 1.0}).collect()
    return {names[row["exposure_id"]] for row in found}


@pytest.mark.parametrize("case", BAD_LISTS)
def test_broken_list(broken_lists: set[str], case: str) -> None:
    assert case in broken_lists


@pytest.mark.parametrize("case", GOOD_LISTS)
def test_clean_list(broken_lists: set[str], case: str) -> None:
    assert case not in broken_lists


def test_a_bags_weights_may_be_of_any_size_but_finite(spark: SparkSession) -> None:
    rows = [(DAY, 1, [[5, 6, -1]], [4.5, 0.5, 0.0]), (DAY, 2, [[5, -1, -1]], [float("inf"), 0.0, 0.0])]
    spark.createDataFrame(rows, LISTS).createOrReplaceTempView("sample_lists")
    found = statements.run(spark, "checks/lists", {"length": 3, "weights_below": float("inf")}).collect()
    assert [row["exposure_id"] for row in found] == [2]
