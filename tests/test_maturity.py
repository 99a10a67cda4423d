"""How far the logs reach, and how little is read to tell."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from esmm import maturity, views
from esmm.config import Config, parse
from esmm.days import Period, day_start, micros
from tests.brute_force import Event
from tests.test_samples import DAYS, MINUTE, ZONE, write_log, write_logs

START = day_start(DAYS[0], ZONE)
NEEDED = START + (24 + 24) * 60 * MINUTE + 30 * MINUTE
"""The first day's end and both windows, a day and 30 minutes, before the clocks change."""


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is later is of the future."""
    monkeypatch.setattr(maturity, "_now", lambda: dt.datetime(2026, 6, 1, tzinfo=dt.UTC))


def immature(spark: SparkSession, config: Config, days: list[dt.date]) -> list[dt.date]:
    period = Period(tuple(days), ZONE)
    logs = views.open_logs(spark, config, period.starts_at, period.ends_at)
    return list(maturity.immature_days(config, period, logs, None))


@pytest.mark.parametrize(
    ("latest", "filed", "expected"),
    [
        (NEEDED - 1, True, DAYS[:2]),
        (NEEDED, True, DAYS[1:2]),
        (NEEDED, False, DAYS[1:2]),
        (NEEDED + 23 * 60 * MINUTE, True, []),
        (NEEDED + 30 * 24 * 60 * MINUTE, False, []),
    ],
)
def test_days_are_mature_once_the_logs_go_on(
    spark: SparkSession, values: dict[str, Any], latest: int, filed: bool, expected: list[dt.date]
) -> None:
    """Two days, of which the second one has 23 hours; the last event is found wherever it is, also after a gap."""
    if filed:
        values["logs"]["clicks"]["day_column"] = "day"
    config = parse(values)
    write_logs(config, [Event(1, 1, 1, START)], [Event(2, 1, 1, latest)], [Event(3, 1, 1, START)])
    if filed:
        Path(config.logs.clicks.path, "part-0.parquet").unlink()
        day = dt.datetime.fromtimestamp(latest / 1e6, ZONE).date()
        write_log(f"{config.logs.clicks.path}/day={day}", "click_id", "clicked_at", [Event(2, 1, 1, latest)])
    assert immature(spark, config, DAYS[:2]) == expected


def test_later_days_are_not_read_where_the_logs_go_on(spark: SparkSession, values: dict[str, Any]) -> None:
    """A file of theirs that cannot be read keeps no day from being built that does not need it."""
    for name in ("exposures", "clicks", "purchases"):
        values["logs"][name]["day_column"] = "day"
    config = parse(values)
    events = {
        "exposures": ("exposure_id", "shown_at"),
        "clicks": ("click_id", "clicked_at"),
        "purchases": ("purchase_id", "bought_at"),
    }
    write_logs(config, [], [], [])
    for number, (name, (key, time)) in enumerate(events.items()):
        log = Path(getattr(config.logs, name).path)
        (log / "part-0.parquet").unlink()
        for day, at in (("2026-03-28", START), ("2026-03-30", NEEDED)):
            write_log(f"{log}/day={day}", key, time, [Event(10 * number + 1, 1, 1, at)])
        (log / "day=2026-04-02").mkdir()
        (log / "day=2026-04-02/part-0.parquet").write_bytes(b"no Parquet at all")
    assert immature(spark, config, DAYS[:1]) == []


def test_an_event_of_the_future_is_not_the_end_of_the_logs(
    spark: SparkSession, config: Config, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A clock that is wrong by a year would make every day look mature."""
    now, year = dt.datetime(2026, 3, 30, 12, tzinfo=dt.UTC), 365 * 24 * 60 * MINUTE
    monkeypatch.setattr(maturity, "_now", lambda: now)
    latest = micros(now) - MINUTE
    clicks = [Event(2, 1, 1, latest), Event(3, 1, 1, latest + year), Event(4, 1, 1, latest + 2 * year)]
    write_logs(config, [Event(1, 1, 1, START)], clicks, [Event(5, 1, 1, START)])
    logs = views.open_logs(spark, config, START, START)
    assert maturity.logs_end(logs, START) == latest
    written = capfd.readouterr()
    assert "log=logs.clicks" in written.out + written.err
    assert "events=2" in written.out + written.err
    assert logs["click"].frame.count() == 3, "only the end is looked at"
    assert maturity.logs_end(logs, micros(now)) == 0
