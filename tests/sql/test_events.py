"""02_events, 03_capped_events: what counts of a log with repetitions and bots.

Each case has a user of its own. Of 02: rows as (log, event id, item, exposure named, minute, reason of rejection)
to the (kind, event id, item, minute) that are left.
"""

import datetime as dt

import pytest
from pyspark.sql import SparkSession

from esmm import statements
from tests.sql.timeline import CLICK, EXPOSURE, PURCHASE, Event, bought, clicked, register_events, shown

LOGS = ("exposures", "clicks", "purchases")
RAW = (
    "event_id bigint, user_id bigint, item_id bigint, exposure_id bigint, event_at bigint, "
    "features struct<device: bigint>, reject_reason string"
)

UNIQUE = {
    "an event is kept as it is": ([("clicks", 1, 5, 9, 30, None)], {(CLICK, 1, 5, 30)}),
    "a row that comes twice counts once": (
        [("clicks", 1, 5, -1, 30, None), ("clicks", 1, 5, -1, 30, None)], {(CLICK, 1, 5, 30)},
    ),
    "of rows with one id the earliest counts": (
        [("exposures", 1, 5, 1, 30, None), ("exposures", 1, 6, 1, 20, None)], {(EXPOSURE, 1, 6, 20)},
    ),
    "of rows with one id and time the smaller item counts": (
        [("clicks", 1, 7, -1, 20, None), ("clicks", 1, 6, -1, 20, None)], {(CLICK, 1, 6, 20)},
    ),
    "of rows with one id and time that which names its exposure counts": (
        [("clicks", 1, 6, -1, 20, None), ("clicks", 1, 7, 9, 20, None), ("clicks", 1, 8, 9, 20, None)],
        {(CLICK, 1, 7, 20)},
    ),
    "of rows with one id an earlier one that names no exposure counts": (
        [("clicks", 1, 6, -1, 20, None), ("clicks", 1, 6, 9, 21, None)], {(CLICK, 1, 6, 20)},
    ),
    "one id in two logs is two events": (
        [("exposures", 1, 5, 1, 10, None), ("clicks", 1, 5, 1, 11, None), ("purchases", 1, 5, 1, 12, None)],
        {(EXPOSURE, 1, 5, 10), (CLICK, 1, 5, 11), (PURCHASE, 1, 5, 12)},
    ),
    "a rejected row is not there": (
        [("exposures", 1, 5, 1, 10, "no time"), ("exposures", 2, 5, 2, 11, None)], {(EXPOSURE, 2, 5, 11)},
    ),
    "a rejected row does not stand for its copy": (
        [("exposures", 1, 5, 1, 10, "negative item"), ("exposures", 1, 5, 1, 11, None)], {(EXPOSURE, 1, 5, 11)},
    ),
    "events of one time and two ids are two": (
        [("clicks", 1, 5, -1, 10, None), ("clicks", 2, 5, -1, 10, None)], {(CLICK, 1, 5, 10), (CLICK, 2, 5, 10)},
    ),
}  # fmt: skip


def register_raw(spark: SparkSession, **logs: list[tuple[object, ...]]) -> None:
    for name in LOGS:
        spark.createDataFrame(logs.get(name, []), RAW).createOrReplaceTempView(f"raw_{name}")


@pytest.fixture(scope="module")
def unique(spark: SparkSession) -> dict[int, list[tuple[int, int, int, int]]]:
    """Case to what is left."""
    rows: dict[str, list[tuple[object, ...]]] = {name: [] for name in LOGS}
    for case, (given, _) in enumerate(UNIQUE.values(), start=1):
        for log, event, item, exposure, at, reason in given:
            rows[log].append((event, case, item, exposure, at, (1,), reason))
    register_raw(spark, **rows)
    found: dict[int, list[tuple[int, int, int, int]]] = {case: [] for case in range(1, len(UNIQUE) + 1)}
    for row in statements.run(spark, "02_events").collect():
        found[row["user_id"]].append((row["kind"], row["event_id"], row["item_id"], row["event_at"]))
    return found


@pytest.mark.parametrize(("case", "name"), list(enumerate(UNIQUE, start=1)), ids=list(UNIQUE))
def test_unique(unique: dict[int, list[tuple[int, int, int, int]]], case: int, name: str) -> None:
    assert sorted(unique[case]) == sorted(UNIQUE[name][1])


def test_one_id_of_two_users_is_two_events(spark: SparkSession) -> None:
    """A defect of the log where it is an exposure's: sql/checks/unique_exposure.sql finds it."""
    register_raw(spark, exposures=[(1, 7, 5, 1, 20, (1,), None), (1, 8, 5, 1, 10, (1,), None)])
    found = {(row["user_id"], row["event_id"]) for row in statements.run(spark, "02_events").collect()}
    assert found == {(7, 1), (8, 1)}


def test_which_copy_counts_does_not_depend_on_the_order_of_the_rows(spark: SparkSession) -> None:
    copies = [(1, 7, 5, 1, 20, (device,), None) for device in range(6)]
    found = set()
    for rows in (copies, copies[::-1], copies[3:] + copies[:3]):
        register_raw(spark, exposures=rows)
        found.add(statements.run(spark, "02_events").collect()[0]["features"]["device"])
    assert len(found) == 1


def minute_of(month: int, day: int, hour: int, minute: int = 0) -> int:
    """Of UTC, in 2026."""
    return int(dt.datetime(2026, month, day, hour, minute, tzinfo=dt.UTC).timestamp() / 60)


MIDNIGHT, AUTUMN_MIDNIGHT = minute_of(3, 28, 23), minute_of(10, 24, 22)
# Most of 2 for a kind of a user's day, in Paris.
CAPPED: dict[str, tuple[list[Event], set[int]]] = {
    "as many as the cap are all kept": ([shown(1, 0), shown(2, 1)], {1, 2}),
    "of more the earliest": ([shown(3, 2), shown(1, 0), shown(2, 1)], {1, 2}),
    "of one time those of the smaller ids": ([shown(21, 1), shown(20, 1), shown(22, 1)], {20, 21}),
    "each kind has a cap of its own": (
        [shown(1, 0), shown(2, 1), shown(3, 2), clicked(4, 3), bought(5, 4), clicked(6, 5), clicked(7, 6)],
        {1, 2, 4, 5, 6},
    ),
    "it begins anew at local midnight": (
        [shown(n, MIDNIGHT + minute) for n, minute in enumerate((-3, -2, -1, 0, 1), start=1)],
        {1, 2, 4, 5},
    ),
    "the day of 23 hours has one cap": (
        [shown(1, MIDNIGHT), shown(2, MIDNIGHT + 1), shown(3, MIDNIGHT + 23 * 60 - 1), shown(4, MIDNIGHT + 23 * 60)],
        {1, 2, 4},
    ),
    "the day of 25 hours has one cap": (
        [shown(n, AUTUMN_MIDNIGHT + minute) for n, minute in enumerate((0, 120, 180, 24 * 60, 25 * 60), start=1)],
        {1, 2, 5},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def capped(spark: SparkSession) -> dict[int, set[int]]:
    """Case to the ids of the events that are left."""
    register_events(spark, [events for events, _ in CAPPED.values()])
    found: dict[int, set[int]] = {case: set() for case in range(1, len(CAPPED) + 1)}
    for row in statements.run(spark, "03_capped_events", {"most": 2, "time_zone": "Europe/Paris"}).collect():
        found[row["user_id"]].add(row["event_id"])
    return found


@pytest.mark.parametrize(("case", "name"), list(enumerate(CAPPED, start=1)), ids=list(CAPPED))
def test_capped(capped: dict[int, set[int]], case: int, name: str) -> None:
    assert capped[case] == CAPPED[name][1]
