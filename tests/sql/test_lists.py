"""07_lists, by the samples that are written: which events a behaviour list holds, and what each weighs.

Lists of 3: clicks of up to 60 minutes back and a half-life of 30 minutes, exposures and purchases of up to two
days back. Paris; the clocks go forward on 29 March 2026 and back on 25 October. Item n is of seller 100 + n.
"""

import datetime as dt
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.brute_force import start_of
from tests.random_logs import AUTUMN, SPRING, ZONE
from tests.sql.timeline import MINUTE, Event, bought, clicked, shown
from tests.sql.written import Case, check, item, samples_of

MICROSECOND = 1 / MINUTE
ORIGIN = start_of(SPRING[0], ZONE) + 12 * 60 * MINUTE  # noon
MIDNIGHT = 12 * 60.0
NONE = [-1, -1, -1]
LISTS = {
    "clicked": {"event": "click", "length": 3, "half_life": "30m", "look_back": "60m", "entities": ["item", "seller"]},
    "seen": {"event": "exposure", "length": 3, "half_life": "1s", "look_back": "2d", "entities": ["item"]},
    "owned": {"event": "purchase", "length": 3, "half_life": "1d", "look_back": "2d", "entities": ["item"]},
}  # fmt: skip


def clicks_before(minute: float, *events: Event, expected: dict[str, Any]) -> Case:
    """What the exposure 99 of item 9 at a minute knows."""
    return [*events, shown(99, minute, item=9)], {99: expected}


CASES: dict[str, Case] = {
    "nothing before, lists of padding": clicks_before(
        100, expected={"clicked_item": NONE, "clicked_seller": NONE, "clicked_weight": [0.0, 0.0, 0.0]}
    ),
    "clicks before are listed, most recent first, with their items' sellers": clicks_before(
        30, clicked(2, 20, item=8), clicked(1, 10, item=7),
        expected={
            "clicked_item": [8, 7, -1], "clicked_seller": [108, 107, -1],
            "clicked_weight": [2 ** (-10 / 30), 2 ** (-20 / 30), 0.0],
        },
    ),
    "only the last three": clicks_before(
        30, *[clicked(n, n, item=n) for n in range(1, 6)], expected={"clicked_item": [5, 4, 3]}
    ),
    "a click of the exposure's own time is not before it": clicks_before(
        30, clicked(1, 10), clicked(2, 30, item=2), expected={"clicked_item": [1, -1, -1]}
    ),
    "a click one microsecond before is, and weighs less than 1": clicks_before(
        30, clicked(1, 30 - MICROSECOND, item=5),
        expected={"clicked_item": [5, -1, -1], "clicked_weight": [1 - 2**-24, 0.0, 0.0]},
    ),
    "a later click is not listed": clicks_before(30, clicked(1, 31), expected={"clicked_item": NONE}),
    "a click at the look-back's edge counts, at two half-lives": clicks_before(
        100, clicked(1, 40, item=5), expected={"clicked_item": [5, -1, -1], "clicked_weight": [0.25, 0.0, 0.0]}
    ),
    "a click past the look-back's edge does not": clicks_before(
        100, clicked(1, 40 - MICROSECOND), expected={"clicked_item": NONE}
    ),
    "what is past the look-back's edge makes no room for what is older": clicks_before(
        100, clicked(1, 39, item=1), clicked(2, 41, item=2), expected={"clicked_item": [2, -1, -1]}
    ),
    "clicks of one time are in the order of their ids": clicks_before(
        30, *[clicked(n, 10, item=n) for n in (4, 3, 1, 2)], expected={"clicked_item": [4, 3, 2]}
    ),
    "one item clicked twice is listed twice": clicks_before(
        30, clicked(1, 10), clicked(2, 20), expected={"clicked_item": [1, 1, -1]}
    ),
    "a click that comes twice is listed once": clicks_before(
        30, clicked(1, 10), clicked(1, 10), clicked(1, 11), expected={"clicked_item": [1, -1, -1]}
    ),
    "a click that is an orphan is listed too": clicks_before(
        30, clicked(1, 10, item=6), expected={"clicked_item": [6, -1, -1]}
    ),
    "each kind has its own list": clicks_before(
        30, shown(1, 10, item=1), clicked(2, 11, item=2), bought(3, 12, item=3),
        expected={"seen_item": [1, -1, -1], "clicked_item": [2, -1, -1], "owned_item": [3, -1, -1]},
    ),
    "an exposure is not in its own list, nor one of its time": (
        [shown(1, 10, item=1), shown(2, 10, item=2), shown(3, 11, item=3)],
        {1: {"seen_item": NONE}, 2: {"seen_item": NONE}, 3: {"seen_item": [2, 1, -1]}},
    ),
    "exposures between clicks see what came before each": (
        [shown(1, 5), clicked(1, 10, item=1), shown(2, 15), clicked(2, 20, item=2), shown(3, 25)],
        {1: {"clicked_item": NONE}, 2: {"clicked_item": [1, -1, -1]}, 3: {"clicked_item": [2, 1, -1]}},
    ),
    "an unknown item is an entry, of no seller and a weight": clicks_before(
        30, clicked(1, 10, item=77),
        expected={
            "clicked_item": [77, -1, -1], "clicked_seller": NONE, "clicked_weight": [2 ** (-20 / 30), 0.0, 0.0]
        },
    ),
    "an item that changed is listed as it was when it was clicked": clicks_before(
        30, clicked(1, 10, item=5), clicked(2, 15 - MICROSECOND, item=50), clicked(3, 15, item=50),
        expected={"clicked_seller": [151, 150, 105]},
    ),
    "an entry of thousands of half-lives still weighs more than padding": clicks_before(
        300, shown(1, 10, item=1), expected={"seen_item": [1, -1, -1], "seen_weight": [2.0**-126, 0.0, 0.0]}
    ),
    "lists go on over midnight": clicks_before(
        MIDNIGHT + 10, clicked(1, MIDNIGHT - 10, item=5),
        expected={"clicked_item": [5, -1, -1], "clicked_weight": [2 ** (-20 / 30), 0.0, 0.0]},
    ),
    "an age is time that passed: from 01:50 to 03:10, when the clocks go forward, it is 20 minutes": clicks_before(
        MIDNIGHT + 130, clicked(1, MIDNIGHT + 110, item=5),
        expected={"hour": 3, "clicked_item": [5, -1, -1], "clicked_weight": [2 ** (-20 / 30), 0.0, 0.0]},
    ),
}  # fmt: skip

AUTUMN_ORIGIN = start_of(AUTUMN[1], ZONE)
"""Midnight, in the day of 25 hours; at minute 180 the clocks go back, from 03:00 to 02:00."""

NIGHTLY: dict[str, Case] = {
    "what was known at midnight, all day long": (
        [clicked(1, -1, item=1), clicked(2, 60, item=2), shown(1, 0), shown(2, 61), shown(3, 25 * 60 - 1)],
        {exposure: {"clicked_item": [1, -1, -1]} for exposure in (1, 2, 3)},
    ),
    "an event of midnight is of the day": (
        [clicked(1, 0, item=1), shown(1, 60)], {1: {"clicked_item": NONE}},
    ),
    "an age runs to midnight": (
        [clicked(1, -30, item=1), shown(1, 600)], {1: {"clicked_weight": [0.5, 0.0, 0.0]}},
    ),
    "look-back runs from midnight": (
        [clicked(1, -60, item=1), shown(1, 600), clicked(2, -60 - MICROSECOND, item=2)],
        {1: {"clicked_item": [1, -1, -1]}},
    ),
    "the next day knows the 25 hours before": (
        [clicked(1, 25 * 60 - 1, item=1), shown(1, 25 * 60)], {1: {"clicked_item": [1, -1, -1]}},
    ),
    "the item's features are those of midnight": (
        [shown(1, 600, item=60), shown(2, 25 * 60 + 1, item=60)], {1: {"seller": 160}, 2: {"seller": 161}},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def samples(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, int], dict[str, Any]]:
    items = [item(number) for number in range(1, 10)]
    items += [item(50, seller_id=150), item(50, since=ORIGIN + 15 * MINUTE, seller_id=151)]
    timelines = [events for events, _ in CASES.values()]
    return samples_of(
        spark,
        tmp_path_factory.mktemp("lists"),
        timelines,
        SPRING[:2],
        origin=ORIGIN,
        items=items,
        lists=LISTS,
    )


@pytest.fixture(scope="module")
def nightly(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, int], dict[str, Any]]:
    items = [item(60, seller_id=160), item(60, since=AUTUMN_ORIGIN + MINUTE, seller_id=161)]
    return samples_of(
        spark, tmp_path_factory.mktemp("nightly"), [events for events, _ in NIGHTLY.values()],
        [AUTUMN[1], AUTUMN[1] + dt.timedelta(days=1)], origin=AUTUMN_ORIGIN, items=items,
        lists={"clicked": LISTS["clicked"]}, samples={"history_cutoff": "day_start"},
    )  # fmt: skip


@pytest.mark.parametrize(("case", "name"), list(enumerate(CASES, start=1)), ids=list(CASES))
def test_list(samples: dict[tuple[int, int], dict[str, Any]], case: int, name: str) -> None:
    check(samples, case, CASES[name][1])


@pytest.mark.parametrize(("case", "name"), list(enumerate(NIGHTLY, start=1)), ids=list(NIGHTLY))
def test_list_of_the_night_before(
    nightly: dict[tuple[int, int], dict[str, Any]], case: int, name: str
) -> None:
    check(nightly, case, NIGHTLY[name][1])
