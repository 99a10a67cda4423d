"""Logs to samples: runs the statements in sql/ on a session and publishes a partition a day.

    logs ─ esmm.inputs ─▶ raw_* ─ 01, 02 ─▶ events ─ 03, 04 ─▶ requests, labelled
                                                                  │ 05, once a list
                                                                  ▼
                                                               requests with lists ─ 06 ─▶ rows of samples

A request is whatever a row is wanted for: here an exposure, in `esmm.candidates` a pair to score. Both go
through the same statements from the lists on, so a list means the same in training and in scoring.
"""

import datetime as dt
import math
import zoneinfo
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any

import structlog
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm import inputs, schema
from esmm.config import BehaviourList, Config, IdFeature
from esmm.errors import DataError
from esmm.publish import Manifest, Table, new_run

KINDS = {"exposure": 0, "click": 1, "purchase": 2}
"""An event's kind as the statements know it; of one time, events come in this order."""

_LOGS = {"exposure": "exposures", "click": "clicks", "purchase": "purchases"}
_SMALLEST_WEIGHT = 1.1754944e-38  # float32's smallest normal number: a real entry weighs more than padding

log = structlog.get_logger()


@dataclass(frozen=True)
class Period:
    """Days of a time zone, without gaps, as microseconds since 1970-01-01 UTC: [starts_at, ends_at)."""

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


def day_start(day: dt.date, zone: zoneinfo.ZoneInfo) -> int:
    """Microseconds since 1970-01-01 UTC at which a day begins in a time zone."""
    return micros(dt.datetime.combine(day, dt.time(), zone))


def micros(value: dt.datetime | dt.timedelta) -> int:
    """A time with a zone as microseconds since 1970-01-01 UTC, or a duration as microseconds."""
    if isinstance(value, dt.datetime):
        value = value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return value // dt.timedelta(microseconds=1)


def run_statement(spark: SparkSession, name: str, arguments: dict[str, Any] | None = None) -> DataFrame:
    """The rows of one file of sql/, its `:name` parameters bound to the arguments."""
    return spark.sql(resources.files("sql").joinpath(f"{name}.sql").read_text(), args=arguments or {})


def build(
    spark: SparkSession,
    config: Config,
    days: Sequence[dt.date],
    *,
    logs_until: dt.datetime | None = None,
    allow_immature: bool = False,
) -> list[Manifest]:
    """Build and publish the samples of days that follow on each other.

    Raises DataError where a log is missing or empty, a day has no exposures or is not mature, or a check
    finds something; ConflictError where another run builds one of the days. Then nothing is published.
    """
    period = Period(tuple(days), zoneinfo.ZoneInfo(config.time_zone))
    table, run = Table(config.samples.table), new_run()
    with table.claimed(period.days, run):
        register_entities(spark, config)
        logs = read_logs(spark, config)
        immature = _immature_days(config, logs, period, logs_until)
        if immature and not allow_immature:
            _refuse(config, period, immature)
        register_events(spark, config, logs, period.starts_at, period.ends_at)
        windows = {
            "click_window": micros(config.attribution.click_window),
            "purchase_window": micros(config.attribution.purchase_window),
        }
        # Read twice, for the counts and for the samples, and dear to make: the windows are behind it.
        credited = run_statement(spark, "03_credited_events", windows).persist()
        try:
            credited.createOrReplaceTempView("credited_events")
            bounds = {"starts_at": period.starts_at, "ends_at": period.ends_at}
            counts = _counts(spark, config, period, bounds)
            requests = run_statement(spark, "04_labelled_exposures", bounds)
            samples = described(spark, config, with_lists(spark, config, requests))
            _write(config, samples, table.stage(run), counts)
            _check(spark, table.stage(run))
            manifests = [
                table.publish(day, run, config=config.digest(), immature=day in immature, counts=counts[day])
                for day in period.days
            ]
        except BaseException:
            table.discard(run)
            raise
        finally:
            credited.unpersist()
    return manifests


def register_entities(spark: SparkSession, config: Config) -> None:
    """Create the views items and users: one row an id, its features in a struct."""
    items, users = config.logs.items, config.logs.users
    raw_items = inputs.entities(spark, "logs.items", items, "item_id", inputs.features_of(config, "items"))
    if users is None:
        raw_users = spark.sql("select inline(cast(array() as array<struct<" + inputs.NO_ENTITIES + ">>))")
    else:
        features = inputs.features_of(config, "users")
        raw_users = inputs.entities(spark, "logs.users", users, "user_id", features)
    for name, raw in (("items", raw_items), ("users", raw_users)):
        raw.createOrReplaceTempView(f"raw_{name}")
        run_statement(spark, "01_entities", {"raw": f"raw_{name}"}).createOrReplaceTempView(name)


def read_logs(spark: SparkSession, config: Config) -> dict[str, DataFrame]:
    """The three logs of events, whole; raises DataError where one is missing or empty."""
    logs = {}
    for event, name in _LOGS.items():
        features = inputs.features_of(config, "exposures") if event == "exposure" else {}
        logs[event] = inputs.events(spark, f"logs.{name}", getattr(config.logs, name), features)
        if logs[event].isEmpty():
            raise DataError(f"logs.{name}.path", expected="at least one row", found="an empty log")
    return logs


def register_events(
    spark: SparkSession, config: Config, logs: dict[str, DataFrame], starts_at: int, ends_at: int
) -> None:
    """Create the views raw_exposures, raw_clicks, raw_purchases and events, of the times that matter.

    What matters for samples in [starts_at, ends_at): behaviour back to the longest look-back, causes back to
    both windows before the start (or the effects of the first hours would look like orphans), and effects up
    to both windows after the end.
    """
    windows = micros(config.attribution.click_window + config.attribution.purchase_window)
    for event, name in _LOGS.items():
        lists = [behaviour for behaviour in config.lists.values() if behaviour.event == event]
        back = max([windows, *(micros(behaviour.look_back) for behaviour in lists)])
        matters = F.col("event_at").isNull() | F.col("event_at").between(starts_at - back, ends_at + windows)
        logs[event].where(matters).createOrReplaceTempView(f"raw_{name}")
    run_statement(spark, "02_events").createOrReplaceTempView("events")


def with_lists(spark: SparkSession, config: Config, requests: DataFrame) -> DataFrame:
    """Requests with each list of the config, in order, appended to their `lists`: most recent first."""
    for behaviour in config.lists.values():
        requests.createOrReplaceTempView("requests")
        arguments = {
            "kind": KINDS[behaviour.event],
            "length": behaviour.length,
            "look_back": micros(behaviour.look_back),
        }
        requests = run_statement(spark, "05_lists", arguments)
    return requests


def described(
    spark: SparkSession, config: Config, requests: DataFrame, *, scoring: bool = False
) -> DataFrame:
    """Requests with lists to rows: the columns of `esmm.schema`, the day, and what passes through."""
    requests.createOrReplaceTempView("requests")
    joined = run_statement(spark, "06_samples", {"time_zone": config.time_zone})
    made = {name: _feature(config, name, scoring) for name in config.features}
    for index, (name, behaviour) in enumerate(config.lists.items()):
        made |= _list(config, index, name, behaviour)
    made[schema.WEIGHT.name] = F.lit(1.0)
    columns = [
        made.get(column.name, F.col(column.name)).cast(column.spark).alias(column.name)
        for column in schema.sample_columns(config)
    ]
    return joined.select(*columns, schema.DAY, "passthrough")


def _feature(config: Config, name: str, scoring: bool) -> Column:
    """One feature of a row that 06_samples has joined; absent where the join found nothing."""
    feature = config.features[name]
    log, _, column = feature.source.partition(".")
    if feature.source in ("exposures.user_id", "exposures.item_id"):
        return F.col(column)
    if log == "clock":
        fixed = scoring and feature.at_scoring is not None
        return F.lit(feature.at_scoring) if fixed else F.col(f"clock.{column}")
    absent = schema.ABSENT if isinstance(feature, IdFeature) else 0.0
    return F.coalesce(F.col(f"{log}.{name}"), F.lit(absent))


def _list(config: Config, index: int, name: str, behaviour: BehaviourList) -> dict[str, Column]:
    """The columns of one list: most recent first, padded to its length."""
    entries = F.element_at("lists", index + 1)

    def padded(values: Column, padding: Column) -> Column:
        return F.slice(F.concat(values, F.array_repeat(padding, behaviour.length)), 1, behaviour.length)

    def entity_id(entity: str, entry: Column) -> Column:
        of_event = config.features[entity].source == "exposures.item_id"
        value = entry["item_id"] if of_event else entry["item"][entity]
        return F.coalesce(value, F.lit(schema.ABSENT))

    def weight(entry: Column) -> Column:
        half_lives = (F.col("exposed_at") - entry["at"]) / F.lit(micros(behaviour.half_life))
        return F.greatest(F.pow(F.lit(2.0), -half_lives), F.lit(_SMALLEST_WEIGHT))

    columns = {
        schema.list_column(name, behaviour, entity).name: padded(
            F.transform(entries, partial(entity_id, entity)), F.lit(schema.ABSENT)
        )
        for entity in behaviour.entities
    }
    columns[schema.list_weight_column(name, behaviour).name] = padded(
        F.transform(entries, weight), F.lit(0.0)
    )
    return columns


def _immature_days(
    config: Config, logs: dict[str, DataFrame], period: Period, logs_until: dt.datetime | None
) -> dict[dt.date, int]:
    """The days whose labels may still change, and where the logs end (microseconds)."""
    if logs_until is not None:
        end = micros(logs_until)
    else:
        recent = [frame.where(F.col("event_at") >= period.starts_at) for frame in logs.values()]
        latest = [frame.agg(F.max("event_at")).first() for frame in recent]
        end = max((row[0] for row in latest if row is not None and row[0] is not None), default=0)
    windows = micros(config.attribution.click_window + config.attribution.purchase_window)
    return {day: end for day in period.days if period.end_of(day) + windows > end}


def _refuse(config: Config, period: Period, immature: dict[dt.date, int]) -> None:
    """Raise the DataError that says how long the logs would have to be."""

    def local(value: int) -> str:
        return str(dt.datetime.fromtimestamp(value / 1e6, period.zone).replace(microsecond=0, tzinfo=None))

    day, end = min(immature.items())
    windows = micros(config.attribution.click_window + config.attribution.purchase_window)
    needed = local(period.end_of(day) + windows)
    raise DataError(
        f"maturity of {day}",
        expected=f"logs until {needed}, the day's end and both windows (or --allow-immature)",
        found=f"logs until {local(end)}",
    )


def _counts(
    spark: SparkSession, config: Config, period: Period, bounds: dict[str, int]
) -> dict[dt.date, dict[str, int]]:
    """How many rows of each log met which fate, by day, such as `clicks credited`."""
    arguments = bounds | {"time_zone": config.time_zone}
    counts: dict[dt.date, dict[str, int]] = {day: defaultdict(int) for day in period.days}
    for row in run_statement(spark, "07_counts", arguments).collect():
        counts[dt.date.fromisoformat(row["ds"])][f"{row['log']} {row['fate']}"] = row["events"]
    for day, of_day in counts.items():
        if not of_day["exposures credited"]:
            raise DataError("logs.exposures", expected=f"exposures on {day}", found="none")
        log.info("counted", day=str(day), **{name.replace(" ", "_"): n for name, n in sorted(of_day.items())})
    return counts


def _write(config: Config, samples: DataFrame, directory: str, counts: dict[dt.date, dict[str, int]]) -> None:
    """Write one directory a day: files of about equal rows, rows in an order that the seed alone decides."""
    rows = max(of_day["exposures credited"] for of_day in counts.values())
    order = F.xxhash64("exposure_id", F.lit(config.seed))
    (
        samples.drop("passthrough")
        .repartition(math.ceil(rows / config.samples.rows_per_file), order)
        .sortWithinPartitions(schema.DAY, order)
        .write.partitionBy(schema.DAY)
        .parquet(directory)
    )


def _check(spark: SparkSession, directory: str) -> None:
    """Run sql/checks on what was written; raises DataError with the first rows of the first that fails."""
    spark.read.parquet(directory).createOrReplaceTempView("samples")
    files = [path.name for path in resources.files("sql").joinpath("checks").iterdir()]
    for name in sorted(file.removesuffix(".sql") for file in files if file.endswith(".sql")):
        rows = run_statement(spark, f"checks/{name}").limit(5).collect()
        if rows:
            shown = "; ".join(str(row.asDict()) for row in rows)
            raise DataError(f"sql/checks/{name}.sql", expected="no rows that break it", found=shown)
