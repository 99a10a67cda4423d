"""Views of the logs that the statements build on: items, users, and events of the times that matter.

logs = open_logs(spark, config, starts, ends)         # complains about what is missing, empty or of two kinds
register_entities(spark, config, logs["exposure"])    # items, users: one row a version
register_events(spark, config, logs, starts, ends)    # raw_exposures, raw_clicks, raw_purchases, events
"""

import datetime as dt

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm import inputs, log_rows, statements
from esmm.config import Config, Log, required
from esmm.days import micros
from esmm.errors import DataError
from esmm.inputs import Input
from esmm.sources import SPARK_FAILED

KINDS = {"exposure": 0, "click": 1, "purchase": 2}
"""An event's kind as the statements know it; of one time, events come in this order."""

_LOGS = {"exposure": "exposures", "click": "clicks", "purchase": "purchases"}
_EVENT = ("user_id", "item_id", "time", "event_id")
_ROLES = {"exposures": _EVENT, "clicks": (*_EVENT, "exposure_id"), "purchases": (*_EVENT, "exposure_id"),
          "items": ("item_id",), "users": ("user_id",)}  # fmt: skip


def open_log(spark: SparkSession, config: Config, name: str, times: tuple[int, int] | None = None) -> Input:
    """One of the config's logs, of which the times matter that are given, the first and the last.

    Raises DataError where it is missing, ConfigError where the config has no logs.
    """
    log: Log = getattr(required(config.logs, "logs"), name)
    features = inputs.features_of(config, name).values()
    return Input(
        spark, f"logs.{name}", log, config.time_zone,
        roles=_ROLES[name], columns=[inputs.column_of(feature, log) for feature in features], times=times,
    )  # fmt: skip


def open_logs(spark: SparkSession, config: Config, starts_at: int, ends_at: int) -> dict[str, Input]:
    """The logs of events, by kind, whole; of columns those are looked for that `register_events` needs for the times.

    Raises DataError where one is missing or empty, or has ids of another kind than the log of exposures.
    """
    logs = {
        kind: open_log(spark, config, name, reach(config, kind, starts_at, ends_at))
        for kind, name in _LOGS.items()
    }
    exposures = logs["exposure"]
    for kind, source in logs.items():
        source.column("time")
        source.check_ids("user_id", exposures, "user_id")
        source.check_ids("item_id", exposures, "item_id")
        if kind != "exposure" and source.has("exposure_id"):
            source.check_ids("exposure_id", exposures, "event_id")
        if _is_empty(source):
            field = "path" if source.log.path else "table"
            raise DataError(f"{source.name}.{field}", expected="at least one row", found="an empty log")
    return logs


def _is_empty(source: Input) -> bool:
    """Whether a log has no row. A file that cannot be read is a sign of rows, and for those to name who need them."""
    try:
        return source.frame.isEmpty()
    except SPARK_FAILED:
        return False


def register_entities(spark: SparkSession, config: Config, exposures: Input) -> None:
    """Create the views items and users: one row a version of an id, its features in a struct.

    Raises DataError where their log is missing, or has ids of another kind than the log of exposures.
    """

    def opened(name: str, role: str) -> DataFrame:
        source = open_log(spark, config, name)
        source.check_ids(role, exposures, role)
        return log_rows.entities(source, role, inputs.features_of(config, name))

    items = opened("items", "item_id")
    if required(config.logs, "logs").users is None:
        users = items.where(F.lit(False)).withColumn("features", log_rows.feature_struct([]))
    else:
        users = opened("users", "user_id")
    for name, raw in (("items", items), ("users", users)):
        raw.createOrReplaceTempView(f"raw_{name}")
        statements.run(spark, "01_entities", {"raw": f"raw_{name}"}).createOrReplaceTempView(name)


def reach(config: Config, kind: str, starts_at: int, ends_at: int) -> tuple[int, int]:
    """The times of a kind of event that matter for samples in [starts_at, ends_at), first and last.

    Behaviour back to the longest look-back, causes back to both windows before the start (or the effects of the
    first hours would look like orphans), and effects up to both windows after the end. Two days more before all
    that: whether an event is a copy, or over the cap, depends on what came before it on its day or the day before.
    """
    attribution = required(config.attribution, "attribution")
    windows = micros(attribution.click_window + attribution.purchase_window)
    lists = [behaviour for behaviour in config.lists.values() if behaviour.event == kind]
    # Statistics look back 30 days from the first day's start; that day may have begun 25 hours before.
    known = [micros(dt.timedelta(days=32))] if config.statistics else []
    back = max([windows, *known, *(micros(behaviour.look_back) for behaviour in lists)])
    return starts_at - back - micros(dt.timedelta(days=2)), ends_at + windows


def register_events(
    spark: SparkSession, config: Config, logs: dict[str, Input], starts_at: int, ends_at: int
) -> None:
    """Create the views raw_exposures, raw_clicks, raw_purchases and events, of the times that `reach` names."""
    for kind, log in logs.items():
        first, last = reach(config, kind, starts_at, ends_at)
        features = inputs.features_of(config, "exposures") if kind == "exposure" else {}
        raw = log_rows.events(log.between(first, last), features)
        matters = F.col("reject_reason").isNotNull() | F.col("event_at").between(first, last)
        raw.where(matters).createOrReplaceTempView(f"raw_{_LOGS[kind]}")
    statements.run(spark, "02_events").createOrReplaceTempView("events")
    if config.samples.events_per_user_and_day is not None:
        arguments = {"most": config.samples.events_per_user_and_day, "time_zone": config.time_zone}
        spark.table("events").createOrReplaceTempView("unique_events")
        statements.run(spark, "03_capped_events", arguments).createOrReplaceTempView("events")
