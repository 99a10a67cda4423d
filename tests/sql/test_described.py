"""08_samples, by the samples that are written: what the logs say of an exposure, its item and its user.

Paris, around the two changes of the clocks in 2026: on 29 March from 02:00 to 03:00, on 25 October from 03:00
back to 02:00. An item or a user is what it was at the exposure's time.
"""

import datetime as dt
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.brute_force import start_of
from tests.random_logs import AUTUMN, SPRING, ZONE
from tests.sql.timeline import MINUTE, shown
from tests.sql.written import Case, check, item, minutes, samples_of, user
from tests.xxhash import xxhash64

MICROSECOND = 1 / MINUTE
ORIGIN = start_of(SPRING[1], ZONE)
"""Midnight of the day of 23 hours, a Sunday."""
AUTUMN_ORIGIN = start_of(AUTUMN[1], ZONE)
"""Midnight of the day of 25 hours, a Sunday too."""
SATURDAY, SUNDAY, MONDAY = 5, 6, 0
NEW, OLD = (xxhash64(segment) & (2**63 - 1) for segment in (b"new", b"old"))

CASES: dict[str, Case] = {
    "an exposure has its item's and its user's features": (
        [shown(1, 60, item=3)],
        {1: {"item": 3, "seller": 103, "brand": 203, "price": 3.0, "user": 1, "user_id": 1, "item_id": 3}},
    ),
    "its time is in microseconds, its day and hour are those of Paris": (
        [shown(1, minutes(ORIGIN, 2026, 3, 28, 23, 0))],
        {1: {"exposed_at": ORIGIN, "ds": dt.date(2026, 3, 29), "hour": 0, "weekday": SUNDAY}},
    ),
    "a microsecond before midnight is the day before": (
        [shown(1, -MICROSECOND), shown(2, 0)],
        {
            1: {"ds": dt.date(2026, 3, 28), "hour": 23, "weekday": SATURDAY},
            2: {"ds": dt.date(2026, 3, 29), "hour": 0, "weekday": SUNDAY},
        },
    ),
    "after 01:59 comes 03:00, when the clocks go forward": (
        [shown(1, 119), shown(2, 120)], {1: {"hour": 1}, 2: {"hour": 3}},
    ),
    "the day of 23 hours ends at midnight": (
        [shown(1, 23 * 60 - MICROSECOND), shown(2, 23 * 60)],
        {
            1: {"ds": dt.date(2026, 3, 29), "hour": 23, "weekday": SUNDAY},
            2: {"ds": dt.date(2026, 3, 30), "hour": 0, "weekday": MONDAY},
        },
    ),
    "a version of the item that begins at the exposure's very time holds": (
        [shown(1, 100, item=50), shown(2, 100 - MICROSECOND, item=50), shown(3, 101, item=50)],
        {1: {"seller": 151, "price": 8.0}, 2: {"seller": 150, "price": 7.0}, 3: {"seller": 151, "price": 8.0}},
    ),
    "before its first version an item is absent": (
        [shown(1, 199, item=60), shown(2, 200, item=60)],
        {1: {"item": 60, "seller": -1, "price": 0.0}, 2: {"item": 60, "seller": 161, "price": 60.0}},
    ),
    "an item that no log knows is absent, but for its id": (
        [shown(1, 60, item=77)], {1: {"item": 77, "seller": -1, "brand": -1, "category": -1, "price": 0.0}},
    ),
    "a null or an empty string is absent, a null number 0": (
        [shown(1, 60, item=70), shown(2, 60, item=71)],
        {1: {"brand": -1, "category": -1, "price": 0.0}, 2: {"category": -1}},
    ),
    "a user that no log knows is absent, but for its id": ([shown(1, 60)], {1: {"segment": -1}}),
    "a user that changes": (
        [shown(1, 299), shown(2, 300), shown(3, 301)],
        {1: {"segment": NEW}, 2: {"segment": OLD}, 3: {"segment": OLD}},
    ),
}  # fmt: skip

AUTUMN_CASES: dict[str, Case] = {
    "the hour from 02:00 to 03:00 comes twice": (
        [shown(1, 119), shown(2, 120), shown(3, 180), shown(4, 239), shown(5, 240)],
        {exposure: {"hour": hour} for exposure, hour in ((1, 1), (2, 2), (3, 2), (4, 2), (5, 3))},
    ),
    "the day of 25 hours ends at midnight": (
        [shown(1, 25 * 60 - MICROSECOND), shown(2, 25 * 60)],
        {1: {"ds": dt.date(2026, 10, 25), "hour": 23}, 2: {"ds": dt.date(2026, 10, 26), "hour": 0}},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def samples(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, int], dict[str, Any]]:
    items = [item(number) for number in (1, 2, 3)]
    items += [item(50, seller_id=150, price=7.0), item(50, ORIGIN + 100 * MINUTE, seller_id=151, price=8.0)]
    items += [item(60, ORIGIN + 200 * MINUTE, seller_id=161)]
    items += [item(70, brand_id=None, category=None, price=None), item(71, category="")]
    changing = list(CASES).index("a user that changes") + 1
    users = [user(1, "new"), user(changing, "new"), user(changing, "old", ORIGIN + 300 * MINUTE)]
    return samples_of(
        spark, tmp_path_factory.mktemp("described"), [events for events, _ in CASES.values()],
        SPRING, origin=ORIGIN, items=items, users=users,
    )  # fmt: skip


@pytest.fixture(scope="module")
def in_autumn(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, int], dict[str, Any]]:
    return samples_of(
        spark, tmp_path_factory.mktemp("autumn"), [events for events, _ in AUTUMN_CASES.values()],
        AUTUMN[1:], origin=AUTUMN_ORIGIN, items=[item(1)],
    )  # fmt: skip


@pytest.mark.parametrize(("case", "name"), list(enumerate(CASES, start=1)), ids=list(CASES))
def test_sample(samples: dict[tuple[int, int], dict[str, Any]], case: int, name: str) -> None:
    check(samples, case, CASES[name][1])


@pytest.mark.parametrize(("case", "name"), list(enumerate(AUTUMN_CASES, start=1)), ids=list(AUTUMN_CASES))
def test_sample_in_autumn(in_autumn: dict[tuple[int, int], dict[str, Any]], case: int, name: str) -> None:
    check(in_autumn, case, AUTUMN_CASES[name][1])
