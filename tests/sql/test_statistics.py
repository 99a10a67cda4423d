"""06_statistics, by the samples that are written: what is known of a key the day before, worked by hand.

The exposure that is looked at is of 30 March 2026, in Paris, where the day before has 23 hours. Minute 0 is the
midnight that begins it; a strength of 10.
"""

import datetime as dt
from math import log1p
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.brute_force import start_of
from tests.random_logs import ZONE
from tests.sql.timeline import MINUTE, Event, bought, clicked, shown
from tests.sql.written import Case, check, item, samples_of

MICROSECOND = 1 / MINUTE
TODAY = dt.date(2026, 3, 30)
ORIGIN = start_of(TODAY, ZONE)
NONE_KNOWN = [0.0] * 3
STATISTICS = {
    "of_user": {"by": ["user"], "strength": 10.0},
    "of_taste": {"by": ["user", "seller"], "strength": 10.0},
}


def days_ago(days: int, minute: float = 0) -> float:
    """The minute of a local day's start, and so many minutes later."""
    return (start_of(TODAY - dt.timedelta(days=days), ZONE) - ORIGIN) / MINUTE + minute


def columns(name: str, figure: str, one: float, seven: float, thirty: float) -> dict[str, float]:
    return {f"{name}_{figure}_{days}d": value for days, value in ((1, one), (7, seven), (30, thirty))}


def exposures_of_user(one: int, seven: int, thirty: int) -> dict[str, float]:
    return columns("of_user", "exposures", log1p(one), log1p(seven), log1p(thirty))


def seen(*events: Event) -> list[Event]:
    """What was before, and the exposure 99 at ten o'clock."""
    return [*events, shown(99, 600, item=1)]


CASES: dict[str, Case] = {
    "nothing before, nothing known": (seen(), {99: exposures_of_user(0, 0, 0)}),
    "the day itself does not count, nor the exposure": (
        seen(shown(1, 0), shown(2, 599), shown(3, 700), clicked(4, 1)),
        {99: exposures_of_user(0, 0, 0) | columns("of_user", "clicks", *NONE_KNOWN)},
    ),
    "an event of the microsecond before midnight counts": (
        seen(shown(1, -MICROSECOND)), {99: exposures_of_user(1, 1, 1)},
    ),
    "the day of 23 hours begins 23 hours before": (
        seen(shown(1, -23 * 60), shown(2, -23 * 60 - MICROSECOND)), {99: exposures_of_user(1, 2, 2)},
    ),
    "seven days before count, the eighth does not": (
        seen(shown(1, days_ago(7)), shown(2, days_ago(7, -MICROSECOND))), {99: exposures_of_user(0, 1, 2)},
    ),
    "thirty days before count, the thirty-first does not": (
        seen(shown(1, days_ago(30)), shown(2, days_ago(30, -MICROSECOND))), {99: exposures_of_user(0, 0, 1)},
    ),
    "clicks and purchases count on their own day, orphans too": (
        seen(shown(1, days_ago(2, 1_439)), clicked(2, days_ago(1, 1)), bought(3, days_ago(3))),
        {
            99: columns("of_user", "exposures", 0.0, log1p(1), log1p(1))
            | columns("of_user", "clicks", log1p(1), log1p(1), log1p(1))
            | columns("of_user", "purchases", 0.0, log1p(1), log1p(1))
        },
    ),
    "an event that comes twice counts once": (
        seen(shown(1, -60), shown(1, -60), shown(1, -59)), {99: exposures_of_user(1, 1, 1)},
    ),
    "of a user and a seller only what both have": (
        seen(shown(1, -60, item=1), shown(2, -60, item=2), shown(3, -60, item=1)),
        {99: columns("of_taste", "exposures", log1p(2), log1p(2), log1p(2)) | exposures_of_user(3, 3, 3)},
    ),
    "an event counts for the seller that its item then had": (
        [shown(1, -61, item=50), shown(2, -60, item=50), shown(99, 600, item=50)],
        {99: columns("of_taste", "exposures", log1p(1), log1p(1), log1p(1)) | exposures_of_user(2, 2, 2)},
    ),
    "items that no log knows have a seller in common, the absent one": (
        [shown(1, -60, item=77), shown(99, 600, item=78)],
        {99: columns("of_taste", "exposures", log1p(1), log1p(1), log1p(1))},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def samples(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, int], dict[str, Any]]:
    items = [item(1), item(2), item(50), item(50, ORIGIN - 60 * MINUTE, seller_id=151)]
    return samples_of(
        spark, tmp_path_factory.mktemp("statistics"), [events for events, _ in CASES.values()], [TODAY],
        origin=ORIGIN, items=items, statistics=STATISTICS,
    )  # fmt: skip


@pytest.mark.parametrize(("case", "name"), list(enumerate(CASES, start=1)), ids=list(CASES))
def test_counts(samples: dict[tuple[int, int], dict[str, Any]], case: int, name: str) -> None:
    check(samples, case, CASES[name][1])


def test_rates_are_mixed_with_those_of_all_keys(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Yesterday the first user had 4 exposures, 3 clicks and a purchase, the second 36, 7 and 4; the third nothing.

    So 40 exposures, 10 clicks and 5 purchases in all. Two days ago the first had 10 exposures more.
    """

    def day(exposures: int, clicks: int, purchases: int) -> list[Event]:
        events = [shown(n, -100) for n in range(exposures)]
        events += [clicked(100 + n, -90) for n in range(clicks)]
        return events + [bought(200 + n, -80) for n in range(purchases)] + [shown(99, 600)]

    before = [shown(300 + n, days_ago(2)) for n in range(10)]
    rows = samples_of(
        spark, tmp_path_factory.mktemp("rates"), [day(4, 3, 1) + before, day(36, 7, 4), day(0, 0, 0)], [TODAY],
        origin=ORIGIN, items=[item(1)], statistics={"of_user": STATISTICS["of_user"]},
    )  # fmt: skip
    # Over 7 days all had 50 exposures and 10 clicks.
    first, second, third = (
        {99: {"of_user_ctr_1d": ctr, "of_user_cvr_1d": cvr, "of_user_ctr_7d": of_week}}
        for ctr, cvr, of_week in (
            ((3 + 10 * 10 / 40) / (4 + 10), (1 + 10 * 5 / 10) / (3 + 10), (3 + 10 * 10 / 50) / (14 + 10)),
            ((7 + 10 * 10 / 40) / (36 + 10), (4 + 10 * 5 / 10) / (7 + 10), (7 + 10 * 10 / 50) / (36 + 10)),
            (0.25, 0.5, 0.2),
        )
    )
    for case, expected in enumerate((first, second, third), start=1):
        check(rows, case, expected)


def test_on_the_first_day_nothing_is_known_and_rates_are_0(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = samples_of(
        spark, tmp_path_factory.mktemp("first"), [[shown(1, 5), clicked(2, 6)]], [TODAY],
        origin=ORIGIN, items=[item(1)], statistics={"of_user": {"by": ["user"], "days": [1, 7], "strength": 10.0}},
    )  # fmt: skip
    [row] = rows.values()
    assert {row[name] for name in row if name.startswith("of_user")} == {0.0}
