"""Logs to samples: runs the statements in sql/ on a session and publishes a partition a day.

    logs ─ esmm.views ─▶ events ─ 04 ─▶ credited events ─ 05 ─▶ labelled exposures
                                                                  │ esmm.features: 06 to 08
                                                                  ▼
         table ◀─ manifest ◀─ checks ◀─ files ◀─ esmm.layout ─ rows of samples

Nothing is visible before the checks have passed; a run that fails removes what it wrote.
"""

import datetime as dt
import zoneinfo
from collections import Counter
from collections.abc import Sequence

import structlog
from pyspark.sql import DataFrame, SparkSession

from esmm import features, funnel, layout, schema, statements, views
from esmm.config import Config
from esmm.days import Period, micros
from esmm.errors import DataError
from esmm.inputs import Input
from esmm.publish import Manifest, Table, new_run

Counts = dict[dt.date, Counter[str]]
"""Day to what happened to the rows of its logs, such as `clicks credited`."""

log = structlog.get_logger()


def build(
    spark: SparkSession,
    config: Config,
    days: Sequence[dt.date],
    *,
    logs_until: dt.datetime | None = None,
    allow_immature: bool = False,
    all_exposures: bool = False,
) -> list[Manifest]:
    """Build and publish the samples of days that follow on each other.

    Where `all_exposures`, none is left out by samples.keep_unclicked: so are days built that are evaluated.

    Raises DataError where a log is missing or empty, a day has no exposures or is not mature, or a check
    finds something; ConflictError where another run builds one of the days. Then nothing is published.
    """
    period = Period(tuple(days), zoneinfo.ZoneInfo(config.time_zone))
    keep = 1.0 if all_exposures else config.samples.keep_unclicked
    table, run = Table(config.samples.table), new_run()
    with table.claimed(period.days, run):
        views.register_entities(spark, config)
        immature = _immature_days(spark, config, period, logs_until, allow_immature)
        logs = views.open_logs(spark, config)
        views.register_events(spark, config, logs, period.starts_at, period.ends_at)
        # Read twice, for the counts and for the samples, and dear to make.
        credited = _credited_events(spark, config, logs).persist()
        try:
            credited.createOrReplaceTempView("credited_events")
            counts = _counts(spark, config, period)
            rows = _samples(spark, config, period, keep)
            most = max(of_day["exposures credited"] for of_day in counts.values())
            layout.write(rows, table.stage(run), config, rows_of_a_day=most)
            funnels = _checked(spark, config, table.stage(run), counts, keep)
            _publish_rejects(spark, config, period, run)
            return [
                table.publish(
                    day,
                    run,
                    config=config.digest(),
                    immature=day in immature,
                    counts=dict(counts[day]),
                    facts={"keep_unclicked": keep, "funnel": funnels[day]},
                )
                for day in period.days
            ]
        except BaseException:
            table.discard(run)
            raise
        finally:
            credited.unpersist()


def _credited_events(spark: SparkSession, config: Config, logs: dict[str, Input]) -> DataFrame:
    arguments = {
        "click_window": micros(config.attribution.click_window),
        "purchase_window": micros(config.attribution.purchase_window),
        "clicks_say": logs["click"].has("exposure_id"),
        "purchases_say": logs["purchase"].has("exposure_id"),
    }
    return statements.run(spark, "04_credited_events", arguments)


def _samples(spark: SparkSession, config: Config, period: Period, keep_unclicked: float) -> DataFrame:
    arguments = {
        "starts_at": period.starts_at,
        "ends_at": period.ends_at,
        "history_cutoff": config.samples.history_cutoff,
        "time_zone": config.time_zone,
        "keep_unclicked": keep_unclicked,
        "seed": config.seed,
    }
    requests = statements.run(spark, "05_labelled_exposures", arguments)
    known = features.with_statistics(spark, config, requests)
    return features.described(spark, config, features.with_lists(spark, config, known)).drop("passthrough")


def _immature_days(
    spark: SparkSession, config: Config, period: Period, logs_until: dt.datetime | None, allowed: bool
) -> set[dt.date]:
    """The days whose labels may still change; raises DataError where there are any and they are not allowed."""
    if logs_until is not None:
        end = micros(logs_until)
    else:
        end = views.logs_end(views.open_logs(spark, config), period.starts_at)
    windows = micros(config.attribution.click_window + config.attribution.purchase_window)
    immature = {day for day in period.days if period.end_of(day) + windows > end}
    if immature and not allowed:
        day = min(immature)
        needed = period.local(period.end_of(day) + windows)
        raise DataError(
            f"maturity of {day}",
            expected=f"logs until {needed}, the day's end and both windows (or --allow-immature)",
            found=f"logs until {period.local(end)}",
        )
    return immature


def _counts(spark: SparkSession, config: Config, period: Period) -> Counts:
    """What happened to the logs' rows, by day; raises DataError where a day has no exposures."""
    arguments = {
        "time_zone": config.time_zone,
        "first_day": str(period.days[0]),
        "last_day": str(period.days[-1]),
    }
    if config.samples.events_per_user_and_day is None:
        spark.table("credited_events").createOrReplaceTempView("unique_events")
    statements.run(spark, "10_rejects", arguments).createOrReplaceTempView("rejects")
    found: Counts = {day: Counter() for day in period.days}
    for row in statements.run(spark, "09_counts", arguments).collect():
        found[dt.date.fromisoformat(row["ds"])][f"{row['log']} {row['fate']}"] = row["events"]
    for day, of_day in found.items():
        if not of_day["exposures credited"]:
            raise DataError("logs.exposures", expected=f"exposures on {day}", found="none")
    return {day: _drops(of_day) for day, of_day in found.items()}


def _drops(found: Counter[str]) -> Counter[str]:
    """What was read of each log, and what became of it: the rows of all other fates add up to it."""
    counts: Counter[str] = Counter()
    for name in ("exposures", "clicks", "purchases"):
        stages = ["usable", "unique", "kept", "credited"]
        usable, unique, kept, credited = (found[f"{name} {stage}"] for stage in stages)
        reasons = {fate: rows for fate, rows in found.items() if fate.startswith(f"{name} ")}
        rejected = {fate: rows for fate, rows in reasons.items() if fate.partition(" ")[2] not in stages}
        counts[f"{name} read"] = usable + sum(rejected.values())
        counts.update(rejected)
        counts[f"{name} duplicate"] = usable - unique
        counts[f"{name} over the cap"] = unique - kept
        counts[f"{name} orphan"] = kept - credited
        counts[f"{name} credited"] = credited
    return counts


def _checked(
    spark: SparkSession, config: Config, directory: str, counts: Counts, keep_unclicked: float
) -> dict[dt.date, dict[str, float]]:
    """The funnel of what was written, by day; raises DataError with the first rows that break a check."""
    written = spark.read.parquet(directory)
    written.createOrReplaceTempView("samples")
    for name in statements.checks():
        broken = statements.run(spark, name).limit(5).collect()
        if broken:
            shown = "; ".join(str(row.asDict()) for row in broken)
            raise DataError(f"sql/{name}.sql", expected="no rows that break it", found=shown)
    funnels = funnel.measure(config, written)
    for day, of_day in counts.items():
        rows = int(funnels[day]["samples"]) if day in funnels else 0
        left_out = of_day["exposures credited"] - rows
        if left_out < 0 or (keep_unclicked == 1.0 and left_out):
            raise DataError(
                f"samples of {day}", expected=f"{of_day['exposures credited']} rows", found=f"{rows}"
            )
        of_day["exposures left out by sampling"] = left_out
        of_day["samples"] = rows
        of_day["clicked"], of_day["bought"] = (int(funnels[day][name]) for name in ("clicks", "purchases"))
    return funnels


def _publish_rejects(spark: SparkSession, config: Config, period: Period, run: str) -> None:
    """The days' rows that could not be used, in the table of rejects; a day without any has no partition."""
    table = Table(f"{config.samples.table}_rejects")
    spark.table("rejects").coalesce(1).write.partitionBy(schema.DAY).parquet(table.stage(run))
    for day in period.days:
        if table.staged(day, run):
            table.publish(day, run, config=config.digest())
        else:
            table.withdraw(day)
    table.discard(run)
