"""Logs to samples: runs the statements in sql/ on a session and publishes a partition a day.

    logs ─ esmm.views ─▶ events ─ 04 ─▶ credited events ─ 05 ─▶ labelled exposures
                                                                  │ esmm.features: 06 to 08
                                                                  ▼
         table ◀─ manifest ◀─ checks ◀─ files ◀─ esmm.layout ─ rows of samples

Nothing is visible before the checks have passed; a run that fails removes what it wrote.
"""

import datetime as dt
import zoneinfo
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm import accounts, checks, features, funnel, layout, maturity, statements, tables, views
from esmm.cached import cached
from esmm.config import Config, required
from esmm.days import Period, micros
from esmm.errors import DataError
from esmm.failures import explained
from esmm.inputs import Input
from esmm.publish import Manifest, Table, new_run, part_of
from esmm.schema import DAY

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

    A day that cannot be built, since it has no exposures, is not mature, needs a file that cannot be read or breaks a
    check, keeps what was published of it, and is among the failures; the other days are published. Raises DataError
    where a log is missing or empty or a table of the catalog does not fit, ConflictError where another run builds one
    of the days: then nothing is published. Where one takes a day over while this run works, which it can do once the
    claim is too old, that is a ConflictError, too, and leaves the days before it published.
    """
    period = Period(tuple(days), zoneinfo.ZoneInfo(config.time_zone))
    keep = 1.0 if all_exposures else config.samples.keep_unclicked
    tables.check(config, spark)
    table, run = tables.samples(config, spark), new_run()
    with table.claimed(period.days, run):
        logs = views.open_logs(spark, config, period.starts_at, period.ends_at)
        views.register_entities(spark, config, logs["exposure"])
        work = _Run(spark, config, table, run, logs, keep, logs_until, allow_immature)
        try:
            return work.build(period)
        except Exception as error:
            if len(period.days) == 1 or not isinstance(explained(error), DataError):
                raise
            log.warning("building the days one by one", error=str(explained(error)))
        # What cannot be read may matter to some of the days alone.
        return _merged(work.build_alone(Period((day,), period.zone)) for day in period.days)


@dataclass(frozen=True)
class _Run:
    """What building has to know besides the days."""

    spark: SparkSession
    config: Config
    table: Table
    run: str
    logs: dict[str, Input]
    keep_unclicked: float
    logs_until: dt.datetime | None
    allow_immature: bool

    def build(self, period: Period) -> Built:
        """Build days with one pass over their logs; nothing is left of what is not published."""
        immature = maturity.immature_days(self.config, period, self.logs, self.logs_until)
        views.register_events(self.spark, self.config, self.logs, period.starts_at, period.ends_at)
        # Read for the counts, for labels, and for lists and statistics: events are costly to make.
        with cached(_credited_events(self.spark, self.config, self.logs)) as credited:
            for view in ("credited_events", "events"):
                credited.createOrReplaceTempView(view)
            try:
                return self._publish(period, immature)
            finally:
                self.table.discard(self.run)

    def build_alone(self, period: Period) -> Built:
        """Build one day, as a run of its own under the claims' run; what keeps it from being built is its failure."""
        try:
            return replace(self, run=part_of(self.run, str(period.days[0]))).build(period)
        except Exception as error:
            if not isinstance(found := explained(error), DataError):
                raise
            return Built((), dict.fromkeys(period.days, found), {})

    def _publish(self, period: Period, immature: Failures) -> Built:
        spark, config, table, keep = self.spark, self.config, self.table, self.keep_unclicked
        failures = {} if self.allow_immature else dict(immature)
        funnels: funnel.Funnels = {}
        counts = accounts.counted(spark, config, period)
        failures |= accounts.without_exposures(counts) | accounts.negative(counts)
        wanted = {day: counts[day]["exposures credited"] for day in period.days if day not in failures}
        if wanted:
            rows = _samples(spark, config, period, keep).where(F.col(DAY).isin([*map(str, wanted)]))
            fewest = {day: accounts.fewest(exposures, keep) for day, exposures in wanted.items()}
            if layout.write(rows, table.stage(self.run), config, rows_of=fewest):
                written = spark.read.parquet(table.stage(self.run))
                failures |= checks.broken(spark, config, written)
                funnels = funnel.measure(config, written)
            failures = accounts.not_reconciled(counts, funnels, wanted, keep) | failures
        good = [day for day in wanted if day not in failures]
        for day in good:
            table.confirm(day)  # the rejects are published under the samples' claim
        publish_rejects(spark, config, {day: accounts.rejected(counts[day]) for day in good}, self.run)
        published = tuple(
            table.publish(
                day,
                self.run,
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


def _merged(built: Iterable[Built]) -> Built:
    """What came of several runs, as if they were one."""
    published: tuple[Manifest, ...] = ()
    failures: Failures = {}
    funnels: funnel.Funnels = {}
    for each in built:
        published += each.published
        failures |= each.failures
        funnels |= each.funnels
    return Built(published, failures, funnels)


def _credited_events(spark: SparkSession, config: Config, logs: dict[str, Input]) -> DataFrame:
    attribution = required(config.attribution, "attribution")
    arguments = {
        "click_window": micros(attribution.click_window),
        "purchase_window": micros(attribution.purchase_window),
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


def _warn_of_few_row_groups(config: Config, published: Sequence[Manifest]) -> None:
    """Say so where ranks will find nothing to read."""
    for manifest in published:
        found = sum(len(file.row_groups) for file in manifest.files)
        if found < config.training.ranks:
            log.warning("fewer row groups than ranks", day=str(manifest.day), row_groups=found, rows=manifest.rows,
                        ranks=config.training.ranks)  # fmt: skip


def publish_rejects(spark: SparkSession, config: Config, rejected: Mapping[dt.date, int], run: str) -> None:
    """The days' rows that could not be used, of the view rejects, in the table of rejects.

    `rejected` is how many each day has; a day without any has no partition. Before the samples, whose pointer is
    what says that a day is done: a run that dies in between is run again. Raises DataError, and publishes nothing,
    where others are written than were counted.
    """
    table = tables.rejects(config, spark)
    try:
        if days := [str(day) for day, rows in rejected.items() if rows]:
            rejects = spark.table("rejects").where(F.col(DAY).isin(days))
            # One file a day, but not one task: a coalesce would have a single one read all logs again.
            rejects.repartition(1).write.partitionBy(DAY).parquet(table.stage(run))
            written = spark.read.parquet(table.stage(run)).groupBy(DAY).count().collect()
            _compare(rejected, {str(row[DAY]): row["count"] for row in written})
        for day in rejected:
            if table.staged(day, run):
                table.publish(day, run, config=config.digest())
            else:
                table.withdraw(day)
    finally:
        table.discard(run)


def _compare(rejected: Mapping[dt.date, int], written: Mapping[str, int]) -> None:
    for day, rows in rejected.items():
        if (found := written.get(str(day), 0)) != rows:
            raise DataError(f"rejects of {day}", expected=f"{rows} rows, as counted", found=str(found))
