"""09_counts and 10_rejects: on which day, and under which fate, each row of a log is counted.

Days of Paris: 28 and 29 March 2026, the second of 23 hours; minute 0 is the midnight between them.
"""

from typing import Any

import pytest
from pyspark.sql import SparkSession

from esmm import statements
from tests.brute_force import start_of
from tests.random_logs import SPRING, ZONE
from tests.sql.timeline import CLICK, EXPOSURE, MINUTE, PURCHASE

MICROSECOND = 1 / MINUTE
ORIGIN = start_of(SPRING[1], ZONE)
DAYS = {"time_zone": "Europe/Paris", "first_day": "2026-03-28", "last_day": "2026-03-29"}
FIRST, SECOND = "2026-03-28", "2026-03-29"
LOGS = ("exposures", "clicks", "purchases", "items", "users")
RAW = "event_at bigint, reject_reason string, filed_on string, original string"


def at(minute: float | None) -> int | None:
    return None if minute is None else ORIGIN + round(minute * MINUTE)


def register_raw(spark: SparkSession, **logs: list[tuple[float | None, str | None, str | None]]) -> None:
    """The raw views of (minute, reason, day it is filed under); what a row was is its place in its log."""
    for name in LOGS:
        rows = [
            (at(minute), reason, filed, f"{name} {place}")
            for place, (minute, reason, filed) in enumerate(logs.get(name, []))
        ]
        raw = spark.createDataFrame(rows, RAW)
        if name in ("items", "users"):
            # An id a minute: rows of one minute are of one id and time.
            raw = raw.selectExpr("*", "event_at div 60000000 as entity_id", "event_at as valid_from")
        raw.createOrReplaceTempView(f"raw_{name}")


REJECTS: dict[str, tuple[tuple[float | None, str | None, str | None], str | None]] = {
    "a row that can be used is no reject": ((-10, None, None), None),
    "a reject is of its time's day": ((-MICROSECOND, "no user", None), FIRST),
    "midnight is the next day's": ((0, "no user", None), SECOND),
    "the day of 23 hours ends after 23 hours": ((23 * 60, "no user", None), None),
    "a reject of a time before the days is not theirs": ((-24 * 60 - MICROSECOND, "no user", None), None),
    "where logs are filed by day, it is of that day": ((-10, "time outside its day", SECOND), SECOND),
    "a day that it is filed under beside these is not theirs": ((-10, "time outside its day", "2026-03-30"), None),
    "without a time, of the day that it is filed under": ((None, "no time", SECOND), SECOND),
    "without either, of the first day": ((None, "unreadable time", None), FIRST),
}  # fmt: skip


@pytest.fixture(scope="module")
def rejects(spark: SparkSession) -> dict[str, Any]:
    """What a row was to the reject, all cases being rows of the clicks."""
    register_raw(spark, clicks=[row for row, _ in REJECTS.values()])
    return {row["original"]: row for row in statements.run(spark, "10_rejects", DAYS).collect()}


@pytest.mark.parametrize(("case", "name"), list(enumerate(REJECTS)), ids=list(REJECTS))
def test_reject(rejects: dict[str, Any], case: int, name: str) -> None:
    (_, reason, _), day = REJECTS[name]
    found = rejects.get(f"clicks {case}")
    if day is None:
        assert found is None
    else:
        assert found is not None
        assert (found["log"], found["reason"], found["ds"]) == ("clicks", reason, day)


def test_rows_of_items_and_users_are_rejects_of_the_first_day(spark: SparkSession) -> None:
    """Whatever time they are valid from: that is of no day's events."""
    register_raw(
        spark, items=[(10, "no item", None), (10, None, None)], users=[(None, "unreadable time", None)]
    )
    assert count(spark, unique=[], credited=[]) == {
        (FIRST, "items", "no item"): 1, (FIRST, "users", "unreadable time"): 1,
    }  # fmt: skip
    found = statements.run(spark, "10_rejects", DAYS).collect()
    assert {row["original"] for row in found} == {"items 0", "users 0"}


def test_copies_of_items_and_users_are_duplicates_of_the_first_day(spark: SparkSession) -> None:
    """Of one id and time; a row that is rejected is none, nor one of another time."""
    register_raw(
        spark,
        items=[(10, None, None)] * 3 + [(20, None, None)] * 2 + [(10 + MICROSECOND, None, None)],
        users=[(10, None, None), (10, "no user", None), (30, None, None)],
    )
    assert count(spark, unique=[], credited=[]) == {
        (FIRST, "items", "duplicate"): 3, (FIRST, "users", "no user"): 1,
    }  # fmt: skip


def count(
    spark: SparkSession, unique: list[tuple[int, float]], credited: list[tuple[int, float, int | None]]
) -> dict[tuple[str, str, str], int]:
    """(day, log, fate) to rows, beside the raw views that are there."""
    statements.run(spark, "10_rejects", DAYS).createOrReplaceTempView("rejects")
    spark.createDataFrame(
        [(kind, at(minute)) for kind, minute in unique], "kind int, event_at bigint"
    ).createOrReplaceTempView("unique_events")
    spark.createDataFrame(
        [(kind, at(minute), exposure) for kind, minute, exposure in credited],
        "kind int, event_at bigint, credited_exposure_id bigint",
    ).createOrReplaceTempView("credited_events")
    rows = statements.run(spark, "09_counts", DAYS).collect()
    return {(row["ds"], row["log"], row["fate"]): row["events"] for row in rows}


def test_every_stage_of_every_log_is_counted_on_the_events_own_day(spark: SparkSession) -> None:
    """Of the clicks three can be used, one is a duplicate, one over the cap, one an orphan."""
    register_raw(
        spark,
        exposures=[(-10, None, None), (10, None, None)],
        clicks=[(-5, None, None), (-5, None, None), (5, None, None), (6, None, None), (7, "no item", None)],
        purchases=[(20, None, None), (None, "no time", None)],
    )
    found = count(
        spark,
        unique=[(EXPOSURE, -10), (EXPOSURE, 10), (CLICK, -5), (CLICK, 5), (CLICK, 6), (PURCHASE, 20)],
        credited=[
            (EXPOSURE, -10, 1),
            (EXPOSURE, 10, 2),
            (CLICK, -5, 1),
            (CLICK, 5, None),
            (PURCHASE, 20, None),
        ],
    )
    assert found == {
        (FIRST, "exposures", "usable"): 1, (FIRST, "exposures", "unique"): 1,
        (FIRST, "exposures", "kept"): 1, (FIRST, "exposures", "credited"): 1,
        (SECOND, "exposures", "usable"): 1, (SECOND, "exposures", "unique"): 1,
        (SECOND, "exposures", "kept"): 1, (SECOND, "exposures", "credited"): 1,
        (FIRST, "clicks", "usable"): 2, (FIRST, "clicks", "unique"): 1,
        (FIRST, "clicks", "kept"): 1, (FIRST, "clicks", "credited"): 1,
        (SECOND, "clicks", "usable"): 2, (SECOND, "clicks", "unique"): 2, (SECOND, "clicks", "kept"): 1,
        (SECOND, "clicks", "no item"): 1,
        (SECOND, "purchases", "usable"): 1, (SECOND, "purchases", "unique"): 1, (SECOND, "purchases", "kept"): 1,
        (FIRST, "purchases", "no time"): 1,
    }  # fmt: skip


def test_what_is_outside_the_days_is_not_counted(spark: SparkSession) -> None:
    """Events of both windows around the days are read too; they are other days'."""
    register_raw(
        spark, exposures=[(-24 * 60 - MICROSECOND, None, None), (-24 * 60, None, None), (23 * 60, None, None)]
    )
    found = count(spark, unique=[(EXPOSURE, 23 * 60 - MICROSECOND), (EXPOSURE, 23 * 60)], credited=[])
    assert found == {(FIRST, "exposures", "usable"): 1, (SECOND, "exposures", "unique"): 1}
