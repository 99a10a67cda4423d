"""05_labelled_exposures, by the samples that are written: the period's bounds, and what later events still label.

Click window 30 minutes, purchase window 3 hours. Paris, the day of 23 hours: 29 March 2026, midnight to midnight
at minutes 0 and 23 × 60. Only that day is built.
"""

from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.brute_force import start_of
from tests.random_logs import SPRING, ZONE
from tests.sql.timeline import MINUTE, bought, clicked, shown
from tests.sql.written import Case, check, item, samples_of

MICROSECOND = 1 / MINUTE
END = 23 * 60

CASES: dict[str, Case] = {
    "an exposure of midnight is of the day": ([shown(1, 0)], {1: {"click": 0, "purchase": 0, "weight": 1.0}}),
    "an exposure a microsecond before midnight is of the day before": ([shown(1, -MICROSECOND)], {}),
    "an exposure of the next midnight is of the next day": ([shown(1, END)], {}),
    "the day's last microsecond is its own": ([shown(1, END - MICROSECOND)], {1: {"click": 0}}),
    "a click and a purchase of the next day label the day's exposure": (
        [shown(1, END - 1), clicked(10, END + 29), bought(20, END + 29 + 180)], {1: {"click": 1, "purchase": 1}},
    ),
    "a click of the day on an exposure of the day before labels nothing of the day": (
        [shown(1, -10), clicked(10, 10), shown(2, 15)], {2: {"click": 0}},
    ),
    "the day before's exposure does not take a click from the day's": (
        [shown(1, -10), shown(2, 5), clicked(10, 10)], {2: {"click": 1}},
    ),
    "two clicks and two purchases make one row": (
        [shown(1, 10), clicked(10, 11), clicked(11, 12), bought(20, 13), bought(21, 14)],
        {1: {"click": 1, "purchase": 1}},
    ),
    "a purchase without a click labels nothing": ([shown(1, 10), bought(20, 11)], {1: {"click": 0, "purchase": 0}}),
    "windows run over the change of the clocks as time that passes": (
        [shown(1, 115), clicked(10, 145), shown(2, 116, item=2), clicked(11, 146 + MICROSECOND, item=2)],
        {1: {"click": 1}, 2: {"click": 0}},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def samples(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, int], dict[str, Any]]:
    return samples_of(
        spark, tmp_path_factory.mktemp("labelled"), [events for events, _ in CASES.values()],
        SPRING[1:2], origin=start_of(SPRING[1], ZONE), items=[item(1)],
    )  # fmt: skip


@pytest.mark.parametrize(("case", "name"), list(enumerate(CASES, start=1)), ids=list(CASES))
def test_labels(samples: dict[tuple[int, int], dict[str, Any]], case: int, name: str) -> None:
    _, expected = CASES[name]
    assert {exposure for user, exposure in samples if user == case} == set(expected)
    check(samples, case, expected)


def test_what_is_kept_of_the_unclicked_weighs_as_much_as_all_did(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of 1 600 exposures 400 are clicked; of the others a quarter is kept, and 300 ± 15 weigh 1 200 ± 60."""
    timeline = [shown(n, n / 2, item=n) for n in range(1_600)]
    timeline += [clicked(2_000 + n, n / 2, item=n) for n in range(0, 1_600, 4)]
    rows = samples_of(
        spark, tmp_path_factory.mktemp("sampled"), [timeline], SPRING[1:2],
        origin=start_of(SPRING[1], ZONE), items=[item(1)], samples={"keep_unclicked": 0.25},
    )  # fmt: skip
    assert sum(row["click"] for row in rows.values()) == 400
    assert {(row["click"], row["weight"]) for row in rows.values()} == {(1, 1.0), (0, 4.0)}
    assert sum(row["weight"] for row in rows.values()) == pytest.approx(1_600, abs=4 * 60)
