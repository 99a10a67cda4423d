"""04_credited_events and 05_labelled_exposures: which exposure an event labels.

Click window 30 minutes, purchase window 100 minutes. Expected: event id to the exposure it is credited to,
and the exposures' labels (click, purchase).
"""

import datetime as dt

import pytest
from pyspark.sql import SparkSession

from esmm import statements
from tests.sql.timeline import MINUTE, bought, clicked, register_events, shown

LABELS = {"history_cutoff": "exposure", "time_zone": "UTC", "keep_unclicked": 1.0, "seed": 1}

CASES = {
    "a click goes to its exposure": ([shown(1, 0), clicked(10, 5)], {10: 1}, {1: (1, 0)}),
    "a click at the window's edge counts": ([shown(1, 0), clicked(10, 30)], {10: 1}, {1: (1, 0)}),
    "a click past the window's edge is an orphan": (
        [shown(1, 0), clicked(10, 30.001)],
        {10: None},
        {1: (0, 0)},
    ),
    "a click at its exposure's own time counts": ([shown(1, 5), clicked(10, 5)], {10: 1}, {1: (1, 0)}),
    "a click before its exposure is an orphan": ([clicked(10, 4), shown(1, 5)], {10: None}, {1: (0, 0)}),
    "of two exposures, the last before the click is credited": (
        [shown(1, 0), shown(2, 3), clicked(10, 5), shown(3, 6)],
        {10: 2},
        {1: (0, 0), 2: (1, 0), 3: (0, 0)},
    ),
    "of two exposures of one time, the higher id is the last": (
        [shown(2, 0), shown(1, 0), clicked(10, 5)],
        {10: 2},
        {1: (0, 0), 2: (1, 0)},
    ),
    "an exposure outside the window does not fall back on an older one": (
        [shown(1, 0), shown(2, 1), clicked(10, 40)],
        {10: None},
        {1: (0, 0), 2: (0, 0)},
    ),
    "another item's exposure is not credited": (
        [shown(1, 0, item=1), clicked(10, 5, item=2)],
        {10: None},
        {1: (0, 0)},
    ),
    "two clicks on one exposure label it once": (
        [shown(1, 0), clicked(10, 5), clicked(11, 6)],
        {10: 1, 11: 1},
        {1: (1, 0)},
    ),
    "a purchase goes to the exposure of its click": (
        [shown(1, 0), clicked(10, 5), bought(20, 50)],
        {10: 1, 20: 1},
        {1: (1, 1)},
    ),
    "a purchase at the window's edge counts": (
        [shown(1, 0), clicked(10, 5), bought(20, 105)],
        {10: 1, 20: 1},
        {1: (1, 1)},
    ),
    "a purchase past the window's edge is an orphan": (
        [shown(1, 0), clicked(10, 5), bought(20, 105.001)],
        {10: 1, 20: None},
        {1: (1, 0)},
    ),
    "a purchase after two clicks goes to the last one's exposure": (
        [shown(1, 0), clicked(10, 5), shown(2, 10), clicked(11, 12), bought(20, 50)],
        {10: 1, 11: 2, 20: 2},
        {1: (1, 0), 2: (1, 1)},
    ),
    "a purchase skips a later exposure that was not clicked": (
        [shown(1, 0), clicked(10, 5), shown(2, 10), bought(20, 50)],
        {10: 1, 20: 1},
        {1: (1, 1), 2: (0, 0)},
    ),
    "a purchase skips a later click that is an orphan": (
        [shown(1, 0), clicked(10, 5), clicked(11, 45), bought(20, 50)],
        {10: 1, 11: None, 20: 1},
        {1: (1, 1)},
    ),
    "a purchase without a click is an orphan": ([shown(1, 0), bought(20, 5)], {20: None}, {1: (0, 0)}),
    "a purchase at its click's own time counts": (
        [shown(1, 0), clicked(10, 5), bought(20, 5)],
        {10: 1, 20: 1},
        {1: (1, 1)},
    ),
}


@pytest.fixture(scope="module")
def credited(spark: SparkSession) -> dict[tuple[int, int], int | None]:
    """(case, event id) to the exposure credited."""
    register_events(spark, [events for events, _, _ in CASES.values()])
    windows = {
        "click_window": 30 * MINUTE,
        "purchase_window": 100 * MINUTE,
        "clicks_say": False,
        "purchases_say": False,
    }
    frame = statements.run(spark, "04_credited_events", windows)
    frame.createOrReplaceTempView("credited_events")
    return {(row["user_id"], row["event_id"]): row["credited_exposure_id"] for row in frame.collect()}


@pytest.fixture(scope="module")
def labels(
    spark: SparkSession, credited: dict[tuple[int, int], int | None]
) -> dict[tuple[int, int], tuple[int, int]]:
    """(case, exposure id) to (click, purchase)."""
    bounds = LABELS | {"starts_at": 0, "ends_at": 1_000 * MINUTE}
    rows = statements.run(spark, "05_labelled_exposures", bounds).collect()
    found = {(row["user_id"], row["exposure_id"]): (row["click"], row["purchase"]) for row in rows}
    assert len(found) == len(rows), "an exposure has one row"
    return found


@pytest.mark.parametrize(("case", "name"), list(enumerate(CASES, start=1)), ids=list(CASES))
def test_credit(credited: dict[tuple[int, int], int | None], case: int, name: str) -> None:
    _, expected, _ = CASES[name]
    assert {event: credited[case, event] for event in expected} == expected


@pytest.mark.parametrize(("case", "name"), list(enumerate(CASES, start=1)), ids=list(CASES))
def test_labels(labels: dict[tuple[int, int], tuple[int, int]], case: int, name: str) -> None:
    _, _, expected = CASES[name]
    assert {exposure: label for (user, exposure), label in labels.items() if user == case} == expected


def test_only_exposures_of_the_period_are_labelled(spark: SparkSession) -> None:
    """The bounds are [starts_at, ends_at); events after the end still label."""
    register_events(spark, [[shown(1, 9), shown(2, 10), shown(3, 20, item=2), clicked(10, 25)]])
    windows = {
        "click_window": 30 * MINUTE,
        "purchase_window": 100 * MINUTE,
        "clicks_say": False,
        "purchases_say": False,
    }
    statements.run(spark, "04_credited_events", windows).createOrReplaceTempView("credited_events")
    bounds = LABELS | {"starts_at": 10 * MINUTE, "ends_at": 20 * MINUTE}
    rows = statements.run(spark, "05_labelled_exposures", bounds).collect()
    assert [(row["exposure_id"], row["click"]) for row in rows] == [(2, 1)]


def test_a_click_that_names_its_exposure_is_credited_to_no_other(spark: SparkSession) -> None:
    """The window still holds; without a name, a click goes by its item, a purchase by the last credited click."""
    register_events(
        spark,
        [
            [
                shown(1, 0, exposure=1),
                shown(2, 3, exposure=2),
                clicked(10, 5, exposure=1),
                clicked(11, 40, exposure=2),
                clicked(12, 6, exposure=77),
                clicked(13, 7),
                bought(20, 50),
            ]
        ],
    )
    found = credit(spark, clicks_say=True, purchases_say=False)
    assert found == {1: 1, 2: 2, 10: 1, 11: None, 12: None, 13: 2, 20: 2}


def test_where_purchases_name_their_exposure_its_click_is_credited(spark: SparkSession) -> None:
    register_events(
        spark,
        [
            [
                shown(1, 0, exposure=1),
                shown(2, 3, exposure=2),
                clicked(10, 5, exposure=1),
                clicked(11, 6, exposure=2),
                bought(20, 50, exposure=1),
                bought(21, 51, exposure=3),
            ]
        ],
    )
    found = credit(spark, clicks_say=True, purchases_say=True)
    assert (found[20], found[21]) == (1, None)


def test_a_list_can_stop_at_the_start_of_the_local_day(spark: SparkSession) -> None:
    """An exposure at 10:00 in Paris on the day of the 23 hours: its day began at 23:00 UTC."""
    at = dt.datetime(2026, 3, 29, 8, tzinfo=dt.UTC).timestamp() / 60
    register_events(spark, [[shown(1, at)]])
    credit(spark, clicks_say=False, purchases_say=False)
    arguments = LABELS | {"starts_at": 0, "ends_at": 2**62, "time_zone": "Europe/Paris"}
    for cutoff, expected in (
        ("exposure", dt.datetime(2026, 3, 29, 8, tzinfo=dt.UTC)),
        ("day_start", dt.datetime(2026, 3, 28, 23, tzinfo=dt.UTC)),
    ):
        rows = statements.run(
            spark, "05_labelled_exposures", arguments | {"history_cutoff": cutoff}
        ).collect()
        assert [row["known_until"] for row in rows] == [int(expected.timestamp() * 1e6)]


def test_down_sampling_keeps_what_was_clicked_and_the_weight_of_the_rest(spark: SparkSession) -> None:
    timeline = [shown(n, n) for n in range(4_000)] + [clicked(9_000 + n, n) for n in range(400)]
    register_events(spark, [timeline])
    credit(spark, clicks_say=False, purchases_say=False)
    bounds = {"starts_at": 0, "ends_at": 2**62, "keep_unclicked": 0.25}

    def kept(seed: int) -> dict[int, float]:
        rows = statements.run(spark, "05_labelled_exposures", LABELS | bounds | {"seed": seed}).collect()
        assert {row["weight"] for row in rows if row["click"]} == {1.0}
        assert {row["weight"] for row in rows if not row["click"]} == {4.0}
        assert sum(row["click"] for row in rows) == 400
        return {row["exposure_id"]: row["weight"] for row in rows}

    assert kept(1) == kept(1) != kept(2)
    # 3 600 unclicked ones, a quarter kept: 900 ± 26; the weights' sum estimates 3 600 ± 104.
    assert sum(kept(1).values()) - 400 == pytest.approx(3_600, abs=4 * 104)


def credit(spark: SparkSession, *, clicks_say: bool, purchases_say: bool) -> dict[int, int | None]:
    """Event id to the exposure credited, of the view `events` and its one user."""
    arguments = {
        "click_window": 30 * MINUTE,
        "purchase_window": 100 * MINUTE,
        "clicks_say": clicks_say,
        "purchases_say": purchases_say,
    }
    frame = statements.run(spark, "04_credited_events", arguments)
    frame.createOrReplaceTempView("credited_events")
    return {row["event_id"]: row["credited_exposure_id"] for row in frame.collect()}
