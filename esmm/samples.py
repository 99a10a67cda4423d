"""Logs to samples: runs the statements in sql/ on a session and publishes a partition a day.

    logs ─ esmm.views ─▶ events ─ 04 ─▶ credited events ─ 05 ─▶ labelled exposures
                                                                  │ esmm.features: 06 to 08
                                                                  ▼
         table ◀─ manifest ◀─ checks ◀─ files ◀─ esmm.layout ─ rows of samples

Nothing is visible before the checks have passed; a run that fails removes what it wrote.
"""

import datetime as dt
import math
import zoneinfo
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm import features, funnel, layout, schema, statements, tables, views
from esmm.config import Config
from esmm.days import Period, micros
from esmm.errors import DataError
from esmm.inputs import Input
from esmm.publish import Manifest, new_run
from esmm.schema import DAY

Counts = dict[dt.date, Counter[str]]
"""Day to what happened to the rows of its logs, such as `clicks credited`."""

Failures = dict[dt.date, DataError]
"""Day to why it cannot be published."""

log = structlog.get_logger()


class Built(NamedTuple):
    """What came of a run."""

    published: tuple[Manifest, ...]
    failures: Failures
    funnels: funnel.Funnels
    """Of the days that were built, published or not."""

    def or_raise(self) -> tuple[Manifest, ...]:
        """What was published; raises the DataError of the first day that could not be, where there is one."""
        if self.failures:
            first = min(self.failures)
            if others := ", ".join(str(day) for day in sorted(self.failures) if day != first):
                log.warning("not published either", days=others)
            raise self.failures[first]
        return self.published


def build(
    spark: SparkSession,
    config: Config,
    days: Sequence[dt.date],
    *,
    logs_until: dt.datetime | None = None,
    allow_immature: bool = False,
    all_exposures: bool = False,
) -> Built:
    """Build and publish the samples of days that follow on each other.

    Where `all_exposures`, none is left out by samples.keep_unclicked: so are days built that are evaluated.

    A day that cannot be built, since it has no exposures, is not mature or breaks a check, keeps what was
    published of it, and is among the failures; the other days are published. Raises DataError where a log is
    missing or empty, ConflictError where another run builds one of the days: then nothing is published.
    """
    period = Period(tuple(days), zoneinfo.ZoneInfo(config.time_zone))
    keep = 1.0 if all_exposures else config.samples.keep_unclicked
    table, run = tables.samples(config, spark), new_run()
    with table.claimed(period.days, run):
        logs = views.open_logs(spark, config)
        views.register_entities(spark, config, logs["exposure"])
        immature = immature_days(config, period, logs, logs_until)
        failures: Failures = {} if allow_immature else dict(immature)
        funnels: funnel.Funnels = {}
        views.register_events(spark, config, logs, period.starts_at, period.ends_at)
        # Read for the counts, for labels, and for lists and statistics: events are dear to make.
        credited = _credited_events(spark, config, logs).persist()
        try:
            for view in ("credited_events", "events"):
                credited.createOrReplaceTempView(view)
            counts = _counts(spark, config, period)
            failures |= _without_exposures(counts)
            wanted = {day: counts[day]["exposures credited"] for day in period.days if day not in failures}
            if wanted:
                rows = _samples(spark, config, period, keep).where(F.col(DAY).isin([*map(str, wanted)]))
                fewest = {day: _fewest(exposures, keep) for day, exposures in wanted.items()}
                if layout.write(rows, table.stage(run), config, rows_of=fewest):
                    written = spark.read.parquet(table.stage(run))
                    failures |= _broken(spark, config, written)
                    funnels = funnel.measure(config, written)
                failures = _not_reconciled(counts, funnels, wanted, keep) | failures
            good = [day for day in wanted if day not in failures]
            for day in good:
                table.confirm(day)  # the rejects are published under the samples' claim
            _publish_rejects(spark, config, {day: counts[day] for day in good}, run)
            published = tuple(
                table.publish(
                    day,
                    run,
                    config=config.digest(),
                    immature=day in immature,
                    counts=dict(counts[day]),
                    facts={"keep_unclicked": keep},
                    beside={"funnel": {"counts": counts[day], "measures": funnels[day]}},
                )
                for day in good
            )
            _warn_of_few_row_groups(config, published)
            return Built(published, failures, funnels)
        finally:
            table.discard(run)
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


def immature_days(
    config: Config, period: Period, logs: dict[str, Input], logs_until: dt.datetime | None
) -> Failures:
    """The days whose labels may still change, and why: the logs end before the day's end and both windows."""
    end = micros(logs_until) if logs_until is not None else views.logs_end(logs, period.starts_at)
    windows = micros(config.attribution.click_window + config.attribution.purchase_window)
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


def _counts(spark: SparkSession, config: Config, period: Period) -> Counts:
    """What happened to the logs' rows, by day."""
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


def _rejected(of_day: Counter[str]) -> int:
    """The rows of a day that could not be used: what was read and met no other fate."""
    others = ("duplicate", "over the cap", "orphan", "credited")
    return sum(
        of_day[f"{name} read"] - sum(of_day[f"{name} {fate}"] for fate in others)
        for name in ("exposures", "clicks", "purchases")
    )


def _without_exposures(counts: Counts) -> Failures:
    return {
        day: DataError("logs.exposures", expected=f"exposures on {day}", found="none")
        for day, of_day in counts.items()
        if not of_day["exposures credited"]
    }


def _broken(spark: SparkSession, config: Config, written: DataFrame) -> Failures:
    """The days with rows that break a check, with the first of these rows."""
    written.createOrReplaceTempView("samples")
    failures: Failures = {}
    for check in statements.checks():
        for arguments in _lists_to_check(config, written) if check == "checks/lists" else [{}]:
            broken = statements.run(spark, check, arguments)
            # Without an order Spark looks at one file first, and then at the others: the same work with one core idle.
            shown = broken.orderBy(DAY, "exposure_id").limit(5).collect()
            if shown:
                found = "; ".join(str(row.asDict()) for row in shown)
                error = DataError(f"sql/{check}.sql", expected="no rows that break it", found=found)
                for row in broken.select(DAY).distinct().collect():
                    failures.setdefault(dt.date.fromisoformat(str(row[DAY])), error)
    return failures


def _lists_to_check(config: Config, written: DataFrame) -> Iterator[dict[str, int]]:
    """Each list of the samples as the view sample_lists, and its length."""
    for name, behaviour in config.lists.items():
        ids = F.array(*[schema.list_column(name, behaviour, entity).name for entity in behaviour.entities])
        weights = F.col(schema.list_weight_column(name, behaviour).name)
        lists = written.select(DAY, "exposure_id", ids.alias("ids"), weights.alias("weights"))
        lists.createOrReplaceTempView("sample_lists")
        yield {"length": behaviour.length}


def _not_reconciled(
    counts: Counts, funnels: funnel.Funnels, wanted: dict[dt.date, int], keep_unclicked: float
) -> Failures:
    """The days whose samples are not the credited exposures; the others' counts get what became of them."""
    failures: Failures = {}
    for day, credited in wanted.items():
        of_day, found = counts[day], funnels.get(day, {})
        rows = int(found.get("samples", 0))
        if not rows:
            failures[day] = DataError(f"samples of {day}", expected="at least one row",
                                      found=f"none of {credited} exposures kept")  # fmt: skip
            continue
        if rows > credited or (keep_unclicked == 1.0 and rows < credited):
            failures[day] = DataError(f"samples of {day}", expected=f"{credited} rows", found=f"{rows}")
            continue
        of_day["exposures left out by sampling"] = credited - rows
        of_day["samples"] = rows
        of_day["clicked"], of_day["bought"] = int(found["clicks"]), int(found["purchases"])
    return failures


def _fewest(exposures: int, keep_unclicked: float) -> int:
    """The rows that sampling leaves of some exposures at least, but for chances of one in ten thousands."""
    kept = keep_unclicked * exposures
    return exposures if keep_unclicked == 1.0 else max(1, int(kept - 4 * math.sqrt(kept)))


def _warn_of_few_row_groups(config: Config, published: Sequence[Manifest]) -> None:
    """Say so where ranks will find nothing to read."""
    for manifest in published:
        found = sum(len(file.row_groups) for file in manifest.files)
        if found < config.training.ranks:
            log.warning("fewer row groups than ranks", day=str(manifest.day), row_groups=found, rows=manifest.rows,
                        ranks=config.training.ranks)  # fmt: skip


def _publish_rejects(spark: SparkSession, config: Config, counts: Counts, run: str) -> None:
    """The days' rows that could not be used, in the table of rejects; a day without any has no partition."""
    table = tables.rejects(config, spark)
    if days := [str(day) for day, of_day in counts.items() if _rejected(of_day)]:
        rejects = spark.table("rejects").where(F.col(DAY).isin(days))
        rejects.coalesce(1).write.partitionBy(DAY).parquet(table.stage(run))
    for day in counts:
        if table.staged(day, run):
            table.publish(day, run, config=config.digest())
        else:
            table.withdraw(day)
    table.discard(run)
