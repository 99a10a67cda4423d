"""04_credited_events where logs say which exposure an event belongs to: row by row, not log by log.

Click window 30 minutes, purchase window 100 minutes. Exposures have their own ids as names. Expected: event id
to the exposure it is credited to.
"""

import pytest
from pyspark.sql import DataFrame, SparkSession

from esmm import statements
from tests.sql.timeline import MINUTE, bought, clicked, register_events, shown

CASES = {
    "a click goes to the exposure that it names, not to the last": (
        [shown(1, 0), shown(2, 3), clicked(10, 5, exposure=1)],
        {10: 1},
    ),
    "a click without a name goes to the last, beside one with a name": (
        [shown(1, 0), shown(2, 3), clicked(10, 5, exposure=1), clicked(11, 6)],
        {10: 1, 11: 2},
    ),
    "a name counts more than the item": ([shown(1, 0, item=1), clicked(10, 5, item=2, exposure=1)], {10: 1}),
    "a name that does not exist makes an orphan, without falling back on the item": (
        [shown(1, 0), clicked(10, 5, exposure=77)],
        {10: None},
    ),
    "a name of a later exposure makes an orphan": (
        [shown(1, 0), clicked(10, 5, exposure=2), shown(2, 6)],
        {10: None},
    ),
    "a name outside the window makes an orphan": (
        [shown(1, 0), shown(2, 29), clicked(10, 31, exposure=1)],
        {10: None},
    ),
    "a name at the window's edge counts": ([shown(1, 0), clicked(10, 30, exposure=1)], {10: 1}),
    "a name of the click's own time counts": ([clicked(10, 0, exposure=1), shown(1, 0)], {10: 1}),
    "a purchase goes to the exposure that it names, not to that of the last click": (
        [
            shown(1, 0),
            clicked(10, 5),
            shown(2, 10),
            clicked(11, 12),
            bought(20, 50, exposure=1),
            bought(21, 51),
        ],
        {10: 1, 11: 2, 20: 1, 21: 2},
    ),
    "a purchase's window runs from the last click on the exposure that it names": (
        [
            shown(1, 0),
            clicked(10, 5),
            clicked(11, 20),
            bought(20, 120, exposure=1),
            bought(21, 120.5, exposure=1),
        ],
        {20: 1, 21: None},
    ),
    "a purchase that names an exposure that was not clicked is an orphan": (
        [shown(1, 0), clicked(10, 1), shown(2, 3), bought(20, 50, exposure=2)],
        {20: None},
    ),
    "a purchase of another item counts where it names the exposure": (
        [
            shown(1, 0, item=1),
            clicked(10, 5, item=1),
            bought(20, 50, item=2, exposure=1),
            bought(21, 50, item=2),
        ],
        {20: 1, 21: None},
    ),
    "a purchase without a name follows a click with one": (
        [shown(1, 0), shown(2, 3), clicked(10, 5, exposure=1), bought(20, 50)],
        {20: 1},
    ),
    "an orphan by its name leaves the credit to an older click": (
        [shown(1, 0), clicked(10, 5), clicked(11, 6, exposure=77), bought(20, 50)],
        {10: 1, 11: None, 20: 1},
    ),
}


@pytest.fixture(scope="module")
def credited(spark: SparkSession) -> dict[tuple[int, int], int | None]:
    """(case, event id) to the exposure credited; one more user's exposure 77 is nobody else's."""
    register_events(spark, [*(events for events, _ in CASES.values()), [shown(77, 0)]])
    rows = credit(spark, clicks_say=True, purchases_say=True).collect()
    return {(row["user_id"], row["event_id"]): row["credited_exposure_id"] for row in rows}


def credit(spark: SparkSession, **say: bool) -> DataFrame:
    windows = {"click_window": 30 * MINUTE, "purchase_window": 100 * MINUTE}
    return statements.run(spark, "04_credited_events", windows | say)


@pytest.mark.parametrize(("case", "name"), list(enumerate(CASES, start=1)), ids=list(CASES))
def test_credit(credited: dict[tuple[int, int], int | None], case: int, name: str) -> None:
    _, expected = CASES[name]
    assert {event: credited[case, event] for event in expected} == expected


@pytest.mark.parametrize(
    ("clicks_say", "purchases_say", "sorts"), [(0, 0, 1), (1, 0, 2), (0, 1, 2), (1, 1, 3)]
)
def test_one_partitioning_by_user_serves_all(
    spark: SparkSession, clicks_say: int, purchases_say: int, sorts: int
) -> None:
    """No shuffle of its own, and no sort for names that a log cannot hold."""
    register_events(spark, [[shown(1, 0)]])
    spark.table("events").repartition(2, "user_id").createOrReplaceTempView("events")
    frame = credit(spark, clicks_say=bool(clicks_say), purchases_say=bool(purchases_say))
    plan = frame._jdf.queryExecution().sparkPlan().toString()
    prepared = frame._jdf.queryExecution().executedPlan().toString()
    assert prepared.count("Exchange hashpartitioning") == 1, prepared
    assert prepared.count(" Sort [") == sorts, plan
