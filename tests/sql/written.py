"""Cases of the statements that make samples (05 to 08), told by the samples that are written.

    CASES = {"an empty list": ([shown(1, 60)], {1: {"clicked_item": [-1, -1, -1]}})}

A case is a timeline as in tests.sql.timeline and, by exposure, what some columns of its sample hold. Every case
gets a user and ids of its own, numbered from 1, so that one run of Spark answers all of them; minute 0 is the
`origin`.
"""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from esmm import config as configs
from tests.brute_force import Event as LoggedEvent
from tests.brute_force import Logs, Version
from tests.random_logs import Shape, config_of, write
from tests.sql.timeline import CLICK, EXPOSURE, PURCHASE, Event
from tests.test_brute_force import built

Case = tuple[list[Event], dict[int, dict[str, Any]]]
"""A timeline; exposure id to column to value."""

LONG_AGO = -(10**15)
_IDS = 10_000
"""More than a case has events: event n of case c is logged as c · 10 000 + n."""


def minutes(origin: int, year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> float:
    """From the origin to a time of UTC."""
    at = dt.datetime(year, month, day, hour, minute, tzinfo=dt.UTC).timestamp() * 1_000_000
    return (at - origin) / 60_000_000


def item(number: int, since: int = LONG_AGO, **features: Any) -> Version:
    """An item n of seller 100 + n, brand 200 + n and category 300 + n, at a price of n, but for what is given."""
    told = {"seller_id": 100 + number, "brand_id": 200 + number, "category": None, "price": float(number)}
    return Version(number, since, told | features)


def user(number: int, segment: str | None, since: int = LONG_AGO) -> Version:
    """A user and its segment."""
    return Version(number, since, {"segment": segment})


def samples_of(
    spark: SparkSession,
    directory: Path,
    timelines: list[list[Event]],
    days: list[dt.date],
    *,
    origin: int,
    items: list[Version],
    users: list[Version] | None = None,
    **sections: dict[str, Any],
) -> dict[tuple[int, int], dict[str, Any]]:
    """(case, exposure id) to the sample, of the days; sections replace parts of the config's."""
    shape = Shape(seed=0, lists=(), named=1.0)
    values = config_of(shape, directory).model_dump(mode="json")
    for section, keys in sections.items():
        values[section] = (values[section] | keys) if section == "samples" else keys
    config = configs.parse(values)
    logs: dict[int, list[LoggedEvent]] = {EXPOSURE: [], CLICK: [], PURCHASE: []}
    for case, timeline in enumerate(timelines, start=1):
        for event in timeline:
            named = None if event.exposure == -1 else case * _IDS + event.exposure
            logs[event.kind].append(
                LoggedEvent(case * _IDS + event.id, case, event.item, origin + event.at, named)
            )
    for kind in (CLICK, PURCHASE):
        # No log may be empty: an orphan of nobody's, long before.
        logs[kind].append(LoggedEvent(1, 999, 999, origin - 10**12))
    write(config, Logs(*logs.values(), items, users or [user(1, "new")]))
    rows, _ = built(spark, config, days)
    return {divmod(key, _IDS): row for key, row in rows.items()}


def check(
    rows: dict[tuple[int, int], dict[str, Any]], case: int, expected: dict[int, dict[str, Any]]
) -> None:
    """A case's samples hold what it says; floats as far as float32 goes."""
    for exposure, columns in expected.items():
        found = {name: rows[case, exposure][name] for name in columns}
        for name, value in columns.items():
            is_float = isinstance(value, float) or (isinstance(value, list) and isinstance(value[0], float))
            assert found[name] == (pytest.approx(value, rel=1e-6, abs=0) if is_float else value), name
