"""Days of a time zone, and times as the samples hold them: microseconds since 1970-01-01 UTC.

period = Period((date(2026, 3, 28), date(2026, 3, 29)), ZoneInfo("Europe/Paris"))
(period.ends_at - period.starts_at) / 3.6e9     # 47: the clocks change on the second day
"""

import datetime as dt
import zoneinfo
from dataclasses import dataclass


@dataclass(frozen=True)
class Period:
    """Days without gaps: [starts_at, ends_at)."""

    days: tuple[dt.date, ...]
    zone: zoneinfo.ZoneInfo

    @property
    def starts_at(self) -> int:
        """Where the first day begins."""
        return day_start(self.days[0], self.zone)

    @property
    def ends_at(self) -> int:
        """Where the last day ends."""
        return self.end_of(self.days[-1])

    def end_of(self, day: dt.date) -> int:
        """Where a day ends; it may have 23 or 25 hours."""
        return day_start(day + dt.timedelta(days=1), self.zone)

    def local(self, value: int) -> str:
        """A time as a clock of the zone shows it, to the second."""
        return str(dt.datetime.fromtimestamp(value // 1_000_000, self.zone).replace(tzinfo=None))


def day_start(day: dt.date, zone: zoneinfo.ZoneInfo) -> int:
    """Microseconds since 1970-01-01 UTC at which a day begins in a time zone."""
    return micros(dt.datetime.combine(day, dt.time(), zone))


def micros(value: dt.datetime | dt.timedelta) -> int:
    """A time with a zone as microseconds since 1970-01-01 UTC, or a duration as microseconds."""
    if isinstance(value, dt.datetime):
        value = value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return value // dt.timedelta(microseconds=1)
