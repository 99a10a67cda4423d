"""Which days' labels may still change: those whose end and both windows the logs do not reach yet.

logs = open_logs(spark, config, period.starts_at, period.ends_at)
immature_days(config, period, logs, logs_until=None)     # {date(2026, 3, 29): DataError(…)}
"""

import datetime as dt
from collections.abc import Mapping
from functools import reduce

import structlog
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from esmm import log_rows
from esmm.config import Config, required
from esmm.days import Period, micros
from esmm.errors import DataError
from esmm.inputs import Input

log = structlog.get_logger()

_DAY = micros(dt.timedelta(days=1))
_FAR_FUTURE = micros(dt.datetime(2200, 1, 1, tzinfo=dt.UTC))


def immature_days(
    config: Config, period: Period, logs: Mapping[str, Input], logs_until: dt.datetime | None
) -> dict[dt.date, DataError]:
    """The days whose labels may still change, and why: the logs end before the day's end and both windows.

    Where `logs_until` does not say it, they end at their latest event. All of them are looked through for it only
    where nothing is found right after what the last of the days needs: rebuilding an old day reads no later ones.
    """
    attribution = required(config.attribution, "attribution")
    windows = micros(attribution.click_window + attribution.purchase_window)
    needed = period.ends_at + windows
    if logs_until is not None:
        end = micros(logs_until)
    else:
        end = needed if go_on(logs, needed) else logs_end(logs, period.starts_at)
    return {
        day: DataError(
            f"maturity of {day}",
            expected=f"logs until {period.local(period.end_of(day) + windows)}, the day's end and both windows "
            "(or --allow-immature)",
            found=f"logs until {period.local(end)}",
        )
        for day in period.days
        if period.end_of(day) + windows > end
    }


def go_on(logs: Mapping[str, Input], at: int) -> bool:
    """Whether one of the logs has an event at or after a time (microseconds), as far as that is soon told.

    By what is filed around that time, or comes within a day of it: of days' files, none but those that samples
    need whose windows end then, so that no other can keep them from being built.
    """
    now = micros(_now())
    for source in logs.values():
        part = source.between(at, at if source.log.day_column is not None else at + _DAY)
        if not part.frame.where(log_rows.usable_time(part).between(at, now)).isEmpty():
            return True
    return False


def logs_end(logs: Mapping[str, Input], since: int) -> int:
    """The time of the latest event since a time, in microseconds; 0 where there is none.

    What claims to come from the future says nothing about how far the logs reach: it is left out, with a warning.
    """
    now, time = micros(_now()), F.col("time")
    times = [
        source.between(since, _FAR_FUTURE).frame.select(
            F.lit(source.name).alias("log"), log_rows.usable_time(source).alias("time")
        )
        for source in logs.values()
    ]
    of_logs = reduce(DataFrame.union, times).groupBy("log")
    rows = of_logs.agg(
        F.max(F.when(time <= now, time)).alias("latest"), F.count_if(time > now).alias("later")
    ).collect()
    for row in rows:
        if row["later"]:
            log.warning(
                "events in the future, ignored for the end of the logs", log=row["log"], events=row["later"]
            )
    return max((row["latest"] or 0 for row in rows), default=0)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
