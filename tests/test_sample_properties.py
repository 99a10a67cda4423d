"""What may happen to the logs and change nothing of the samples: later events, another order, repetitions, strangers,
other days; and what is read of them.

All against the same random logs, which are filed by day: 28 to 30 March 2026 in Paris, the second of 23 hours.
"""

import datetime as dt
import random
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pyspark.sql import SparkSession

from esmm import inputs
from esmm.config import Log
from tests.brute_force import Event, Logs, local, start_of
from tests.random_logs import DAY, STEP, ZONE, Shape, config_of, drawn, write
from tests.test_brute_force import Rows, built, differences

SHAPE = Shape(
    seed=11,
    users=60,
    exposures=500,
    named=0.5,
    filed=True,
    lists=("clicked", "seen"),
    statistics=("of_item",),
)
DAYS = SHAPE.days
LABELS = {"click", "purchase"}
Build = Callable[..., Rows]


@pytest.fixture(scope="module")
def logs() -> Logs:
    return drawn(SHAPE)


@pytest.fixture(scope="module")
def build(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The samples of logs, by exposure."""

    def build(logs: Logs, days: list[dt.date] = DAYS, shape: Shape = SHAPE, order: int = 0) -> Rows:
        config = config_of(shape, tmp_path_factory.mktemp("logs"))
        write(config, logs, seed=order)
        return built(spark, config, days)[0]

    return build


@pytest.fixture(scope="module")
def rows(build: Build, logs: Logs) -> Rows:
    return build(logs)


def without(rows: Rows, names: set[str]) -> Rows:
    return {
        key: {name: value for name, value in row.items() if name not in names} for key, row in rows.items()
    }


def happened(number: int, user: int, item: int, at: int, names: int | None = None) -> Event:
    """An event that arrives on its own day."""
    return Event(number, user, item, at, names, filed=local(at, ZONE).date())


@pytest.mark.slow
def test_events_at_or_after_an_exposures_time_change_only_labels(
    build: Build, logs: Logs, rows: Rows
) -> None:
    cut = sorted(row["exposed_at"] for row in rows.values())[len(rows) // 2]
    rng = random.Random(1)

    def added(first: int) -> list[Event]:
        return [
            happened(
                first + n,
                rng.randrange(SHAPE.users),
                rng.randrange(SHAPE.items),
                cut + rng.choice([0, 0, 1, STEP, DAY]),
            )
            for n in range(300)
        ]

    clicks = [
        happened(4 * 10**6 + key, row["user_id"], row["item_id"], cut)
        for key, row in rows.items()
        if cut - STEP <= row["exposed_at"] <= cut
    ]
    more = Logs(
        logs.exposures + added(10**6), logs.clicks + added(2 * 10**6) + clicks, logs.purchases + added(3 * 10**6),
        logs.items, logs.users,
    )  # fmt: skip
    after = build(more)
    known = {key: row for key, row in rows.items() if row["exposed_at"] <= cut}
    assert not differences(without(known, LABELS), without({key: after[key] for key in known}, LABELS))
    # Later rows do see what was added.
    assert differences(without(rows, LABELS), without({key: after[key] for key in rows}, LABELS))


@pytest.mark.slow
def test_order_files_and_repetitions_change_nothing(build: Build, logs: Logs, rows: Rows) -> None:
    repeated = [log + random.Random(2).sample(log, len(log) // 2) for log in logs]
    assert not differences(rows, build(Logs(*repeated), order=3))


@pytest.mark.slow
def test_a_stranger_changes_nothing_but_later_days_statistics(build: Build, logs: Logs, rows: Rows) -> None:
    """User 10 000 sees, clicks and buys every item at noon of the second day."""
    noon = start_of(DAYS[1], ZONE) + DAY // 2
    strange = [
        [happened(10**6 + item, 10_000, item, noon + kind * STEP) for item in range(SHAPE.items)]
        for kind in range(3)
    ]
    more = Logs(
        *(log + added for log, added in zip(logs[:3], strange, strict=True)),
        items=logs.items,
        users=logs.users,
    )
    after = build(more)
    assert {row["user_id"] for key, row in after.items() if key not in rows} == {10_000}
    after = {key: after[key] for key in rows}
    statistics = {name for name in next(iter(rows.values())) if name.startswith("of_item_")}
    assert not differences(without(rows, statistics), without(after, statistics))
    before = {key: row for key, row in rows.items() if row["ds"] <= DAYS[1]}
    assert not differences(before, {key: after[key] for key in before})
    assert differences(rows, after)


@pytest.mark.slow
def test_days_together_or_one_at_a_time_are_the_same(build: Build, logs: Logs, rows: Rows) -> None:
    for day in DAYS[1:]:
        assert not differences(
            {key: row for key, row in rows.items() if row["ds"] == day}, build(logs, [day])
        )


@pytest.mark.slow
def test_a_cap_drops_the_same_events_whatever_days_are_built(build: Build) -> None:
    """A list of 30 March reaches back to the last hour of the 28th, a day of which nothing else matters."""
    shape = Shape(seed=0, lists=("clicked",), cap=2)
    late = start_of(DAYS[2], ZONE) - DAY + 2 * STEP  # half past eleven in the evening of the 28th
    clicks = [Event(10, 1, 3, late - 40 * STEP), Event(11, 1, 4, late - 39 * STEP), Event(12, 1, 5, late)]
    exposures = [Event(n, 1, 3, start_of(day, ZONE) + STEP) for n, day in enumerate(DAYS, start=1)]
    logs = Logs(exposures, clicks, [Event(20, 1, 3, late)], *drawn(shape)[3:])
    together = build(logs, DAYS, shape)
    assert together[3]["clicked_item"] == [-1] * 3, "the third click of the day is over the cap"
    assert not differences({3: together[3]}, build(logs, DAYS[2:], shape))


@pytest.mark.slow
def test_a_copy_is_one_whatever_days_are_built(build: Build) -> None:
    """A click of the last minutes that no list of the day reaches, logged again half an hour later."""
    shape = Shape(seed=0, lists=("clicked",))
    edge = start_of(DAYS[1], ZONE) - DAY
    clicks = [Event(10, 1, 3, edge - STEP), Event(10, 1, 3, edge + STEP)]
    exposures = [Event(n, 1, 3, start_of(day, ZONE)) for n, day in enumerate(DAYS, start=1)]
    logs = Logs(exposures, clicks, [Event(20, 1, 3, edge)], *drawn(shape)[3:])
    together = build(logs, DAYS, shape)
    assert together[2]["clicked_item"] == [-1] * 3, "the click was a day and a quarter of an hour ago"
    assert not differences({2: together[2]}, build(logs, DAYS[1:2], shape))


@pytest.mark.slow
def test_files_of_other_days_are_not_opened(
    spark: SparkSession, tmp_path: Path, logs: Logs, rows: Rows
) -> None:
    """A year of days before and after, whose files would stop whoever opened one; the schema is the oldest's."""
    config = config_of(SHAPE, tmp_path)
    write(config, logs)
    for log in (config.logs.exposures, config.logs.clicks, config.logs.purchases):
        folders = [Path(log.source) / f"day={DAYS[0] + dt.timedelta(days=n)}" for n in range(-365, 366)]
        a_file = next(Path(log.source).glob("day=*/*")).read_bytes()
        for folder in folders[:300] + folders[-300:]:
            folder.mkdir()
            (folder / "part-0.parquet").write_bytes(a_file if folder == folders[0] else b"no Parquet")
    assert not differences(rows, built(spark, config, DAYS)[0])


@pytest.mark.parametrize(
    ("zone", "first", "last"),
    [
        # Midnight of 10 March is 11:00 UTC of the 9th in Auckland, 07:00 UTC of the 10th in Los Angeles. To be
        # safe for every zone a day is read on either side, and one more for what arrives late.
        ("Pacific/Auckland", "2026-03-08", "2026-03-12"),
        ("Europe/Paris", "2026-03-08", "2026-03-12"),
        ("UTC", "2026-03-09", "2026-03-12"),
        ("America/Los_Angeles", "2026-03-09", "2026-03-13"),
    ],
)
@pytest.mark.parametrize("year", [False, True])
def test_the_plan_reads_the_same_partitions_of_a_year(
    spark: SparkSession, tmp_path: Path, zone: str, first: str, last: str, year: bool
) -> None:
    """The files that the physical plan selects for one day, 10 March, of a log of three weeks or of a year."""
    shape = Shape(seed=0, filed=True)
    config = config_of(shape, tmp_path)
    start = dt.date(2026, 3, 1) if not year else dt.date(2025, 9, 1)
    clicks = [
        happened(n, 1, 1, start_of(start + dt.timedelta(days=n), ZONE) + DAY // 2)
        for n in range(365 if year else 21)
    ]
    write(config, Logs(clicks, clicks, clicks, *drawn(shape)[3:]))
    log: Log = config.logs.clicks
    day = dt.date(2026, 3, 10)
    bounds = [start_of(day + dt.timedelta(days=n), ZoneInfo(zone)) for n in (0, 1)]
    frame = inputs.Input(spark, "logs.clicks", log, zone).between(bounds[0], bounds[1] - 1).frame
    scan = frame._jdf.queryExecution().executedPlan().collectLeaves().apply(0)
    assert "PartitionFilters: [(" in scan.toString()
    partitions = scan.selectedPartitions()
    days = {
        dt.date(1970, 1, 1) + dt.timedelta(days=partitions[n].values().getInt(0))
        for n in range(len(partitions))
    }
    wanted = (dt.date.fromisoformat(last) - dt.date.fromisoformat(first)).days + 1
    assert days == {dt.date.fromisoformat(first) + dt.timedelta(days=n) for n in range(wanted)}
