"""07_lists: the user's last 3 clicks strictly before the request, at most 60 minutes back, most recent first.

A case: what was clicked, the request's minute, and the expected items with the minutes of their clicks.
"""

import pytest
from pyspark.sql import SparkSession

from esmm import statements
from tests.sql.timeline import CLICK, MINUTE, Event, bought, clicked, register_events, shown

CASES: dict[str, tuple[list[Event], float, list[tuple[int, float]]]] = {
    "nothing before, an empty list": ([], 100, []),
    "clicks before are listed, most recent first": (
        [clicked(2, 20, item=8), clicked(1, 10, item=7)],
        30,
        [(8, 20), (7, 10)],
    ),
    "only the last three": (
        [clicked(n, n, item=n) for n in range(1, 6)],
        30,
        [(5, 5), (4, 4), (3, 3)],
    ),
    "a click of the request's own time is not before it": ([clicked(1, 10), clicked(2, 30)], 30, [(1, 10)]),
    "a click one microsecond before is": ([clicked(1, 30 - 1 / MINUTE, item=9)], 30, [(9, 30 - 1 / MINUTE)]),
    "a later click is not listed": ([clicked(1, 31)], 30, []),
    "a click at the look-back's edge counts": ([clicked(1, 40, item=5)], 100, [(5, 40)]),
    "a click past the look-back's edge does not": ([clicked(1, 39.999)], 100, []),
    "clicks of one time are in the order of their ids": (
        [clicked(4, 10, item=4), clicked(3, 10, item=3), clicked(2, 10, item=2), clicked(1, 10, item=1)],
        30,
        [(4, 10), (3, 10), (2, 10)],
    ),
    "one item clicked twice is listed twice": ([clicked(1, 10), clicked(2, 20)], 30, [(1, 20), (1, 10)]),
    "exposures and purchases are not clicks": ([shown(1, 10), bought(2, 11)], 30, []),
}

REQUEST_TYPE = (
    "exposure_id bigint, user_id bigint, item_id bigint, exposed_at bigint, known_until bigint, click tinyint, "
    "purchase tinyint, weight float, features struct<none: tinyint>"
)


def _requests(spark: SparkSession, rows: list[tuple[int, int, float]]) -> None:
    """The view `requests` from (exposure id, user, minute)."""
    made = [
        (exposure, user, 1, int(minute * MINUTE), int(minute * MINUTE), 0, 0, 1.0, None)
        for exposure, user, minute in rows
    ]
    frame = spark.createDataFrame(made, REQUEST_TYPE).selectExpr(
        "*", "array() as statistics", "array() as lists", "null as passthrough"
    )
    frame.createOrReplaceTempView("requests")


def _lists(spark: SparkSession) -> dict[tuple[int, int], list[tuple[int, int]]]:
    arguments = {"kind": CLICK, "length": 3, "look_back": 60 * MINUTE}
    rows = statements.run(spark, "07_lists", arguments).collect()
    found = {
        (row["user_id"], row["exposure_id"]): [(e["item_id"], e["at"]) for e in row["lists"][-1]]
        for row in rows
    }
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module", autouse=True)
def items(spark: SparkSession) -> None:
    spark.sql(
        "select cast(id as bigint) as entity_id, struct(cast(id * 10 as bigint) as seller) as features, "
        "-9223372036854775807 as valid_from, 9223372036854775807 as valid_until from range(1, 5)"
    ).createOrReplaceTempView("items")


@pytest.fixture(scope="module")
def found(spark: SparkSession) -> dict[tuple[int, int], list[tuple[int, int]]]:
    register_events(spark, [events for events, _, _ in CASES.values()])
    _requests(spark, [(99, user, minute) for user, (_, minute, _) in enumerate(CASES.values(), start=1)])
    return _lists(spark)


@pytest.mark.parametrize(("case", "name"), list(enumerate(CASES, start=1)), ids=list(CASES))
def test_list(found: dict[tuple[int, int], list[tuple[int, int]]], case: int, name: str) -> None:
    assert found[case, 99] == [(item, round(minute * MINUTE)) for item, minute in CASES[name][2]]


def test_requests_between_clicks_see_what_came_before_each(spark: SparkSession) -> None:
    register_events(spark, [[clicked(1, 10, item=1), clicked(2, 20, item=2)]])
    _requests(spark, [(1, 1, 5), (2, 1, 15), (3, 1, 15), (4, 1, 25)])
    lists = {exposure: [item for item, _ in entries] for (_, exposure), entries in _lists(spark).items()}
    assert lists == {1: [], 2: [1], 3: [1], 4: [2, 1]}


def test_an_entry_carries_its_items_features_and_an_unknown_item_none(spark: SparkSession) -> None:
    register_events(spark, [[clicked(1, 10, item=3), clicked(2, 11, item=77)]])
    _requests(spark, [(1, 1, 20)])
    row = statements.run(spark, "07_lists", {"kind": CLICK, "length": 3, "look_back": 60 * MINUTE}).collect()[
        0
    ]
    assert [entry["item"] and entry["item"]["seller"] for entry in row["lists"][0]] == [None, 30]
