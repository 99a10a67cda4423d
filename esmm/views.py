"""Views of the logs that the statements build on: items, users, and events of the times that matter.

logs = open_logs(spark, config)                       # complains about what is missing or empty
register_entities(spark, config)                      # items, users: one row a version
register_events(spark, config, logs, starts, ends)    # raw_exposures, raw_clicks, raw_purchases, events
"""

import datetime as dt

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from esmm import inputs, statements
from esmm.config import Config, Log
from esmm.days import micros
from esmm.errors import DataError
from esmm.inputs import Input

KINDS = {"exposure": 0, "click": 1, "purchase": 2}
"""An event's kind as the statements know it; of one time, events come in this order."""

_LOGS = {"exposure": "exposures", "click": "clicks", "purchase": "purchases"}
_FAR_FUTURE = micros(dt.datetime(2200, 1, 1, tzinfo=dt.UTC))


def open_log(spark: SparkSession, config: Config, name: str) -> Input:
    """One of the config's logs; raises DataError where it is missing."""
    log: Log = getattr(config.logs, name)
    return Input(spark, f"logs.{name}", log, config.time_zone)


def open_logs(spark: SparkSession, config: Config) -> dict[str, Input]:
    """The logs of events, by kind, whole; raises DataError where one is missing or empty."""
    logs = {kind: open_log(spark, config, name) for kind, name in _LOGS.items()}
    for log in logs.values():
        log.column("time")
        if log.frame.isEmpty():
            field = "path" if log.log.path else "table"
            raise DataError(f"{log.name}.{field}", expected="at least one row", found="an empty log")
    return logs


def register_entities(spark: SparkSession, config: Config) -> None:
    """Create the views items and users: one row a version of an id, its features in a struct."""
    features = inputs.features_of(config, "items")
    items = inputs.entities(open_log(spark, config, "items"), "item_id", features)
    if config.logs.users is None:
        users = items.where(F.lit(False)).withColumn("features", inputs.feature_struct([]))
    else:
        features = inputs.features_of(config, "users")
        users = inputs.entities(open_log(spark, config, "users"), "user_id", features)
    for name, raw in (("items", items), ("users", users)):
        raw.createOrReplaceTempView(f"raw_{name}")
        statements.run(spark, "01_entities", {"raw": f"raw_{name}"}).createOrReplaceTempView(name)


def register_events(
    spark: SparkSession, config: Config, logs: dict[str, Input], starts_at: int, ends_at: int
) -> None:
    """Create the views raw_exposures, raw_clicks, raw_purchases and events, of the times that matter.

    What matters for samples in [starts_at, ends_at): behaviour back to the longest look-back, causes back to
    both windows before the start (or the effects of the first hours would look like orphans), and effects up
    to both windows after the end.
    """
    windows = micros(config.attribution.click_window + config.attribution.purchase_window)
    for kind, log in logs.items():
        lists = [behaviour for behaviour in config.lists.values() if behaviour.event == kind]
        # Statistics look back 30 days from the first day's start; that day may have begun 25 hours before.
        known = [micros(dt.timedelta(days=32))] if config.statistics else []
        back = max([windows, *known, *(micros(behaviour.look_back) for behaviour in lists)])
        first, last = starts_at - back, ends_at + windows
        features = inputs.features_of(config, "exposures") if kind == "exposure" else {}
        raw = inputs.events(log.between(first, last), features)
        matters = F.col("reject_reason").isNotNull() | F.col("event_at").between(first, last)
        raw.where(matters).createOrReplaceTempView(f"raw_{_LOGS[kind]}")
    statements.run(spark, "02_events").createOrReplaceTempView("events")
    if config.samples.events_per_user_and_day is not None:
        arguments = {"most": config.samples.events_per_user_and_day, "time_zone": config.time_zone}
        spark.table("events").createOrReplaceTempView("unique_events")
        statements.run(spark, "03_capped_events", arguments).createOrReplaceTempView("events")


def logs_end(logs: dict[str, Input], since: int) -> int:
    """The time of the latest event since a time, in microseconds; 0 where there is none."""
    latest = [log.between(since, _FAR_FUTURE).frame.agg(F.max(log.time())).first() for log in logs.values()]
    return max((row[0] for row in latest if row is not None and row[0] is not None), default=0)
