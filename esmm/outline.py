"""What a run that builds samples would do, without doing it: `build_samples --dry-run`.

    for part in outline(spark, config, days):       # rich tables: inputs, days, columns
        console.print(part)

It opens the logs and makes the views of them, so that a column that is missing shows here, and reads where they end;
nothing is written.
"""

import datetime as dt
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence

from pyspark.sql import SparkSession
from rich.table import Table

from esmm import inputs, maturity, schema, tables, views
from esmm.config import Config
from esmm.days import Period
from esmm.errors import DataError
from esmm.inputs import Input


def outline(
    spark: SparkSession, config: Config, days: Sequence[dt.date], logs_until: dt.datetime | None = None
) -> Iterator[Table]:
    """The inputs and what of them would be read, the days and whether they would be built, the columns.

    Raises DataError where a log is missing or empty, or lacks a column, or where a table of the catalog does not fit;
    ConfigError where a feature's is not there.
    """
    tables.check(config, spark)
    period = Period(tuple(days), zoneinfo.ZoneInfo(config.time_zone))
    logs = views.open_logs(spark, config, period.starts_at, period.ends_at)
    views.register_entities(spark, config, logs["exposure"])
    views.register_events(spark, config, logs, period.starts_at, period.ends_at)
    immature = maturity.immature_days(config, period, logs, logs_until)
    yield _inputs(config, period, logs)
    yield _days(spark, config, period, immature)
    yield _columns(config)


def _inputs(config: Config, period: Period, logs: Mapping[str, Input]) -> Table:
    found = _table("Inputs", "log", "where", "format", "columns", "from", "to")
    for kind, source in logs.items():
        first, last = views.reach(config, kind, period.starts_at, period.ends_at)
        features = inputs.features_of(config, source.name.partition(".")[2])
        columns = [source.column(role) for role in ("user_id", "item_id", "time")]
        columns += [source.column(role) for role in ("event_id", "exposure_id") if source.has(role)]
        columns += [feature.column for feature in features.values()]
        read = ", ".join(dict.fromkeys(columns))
        found.add_row(source.name, source.log.source, _format(source.log.path, source.log.format), read,
                      period.local(first), period.local(last))  # fmt: skip
    for name in ("items", "users"):
        log = getattr(config.logs, name)
        if log is not None:
            columns = [feature.column for feature in inputs.features_of(config, name).values()]
            found.add_row(f"logs.{name}", log.source, _format(log.path, log.format),
                          ", ".join(dict.fromkeys(columns)), "all", "")  # fmt: skip
    return found


def _days(
    spark: SparkSession, config: Config, period: Period, immature: Mapping[dt.date, DataError]
) -> Table:
    table = tables.samples(config, spark)
    published = set(table.days())
    found = _table(f"Days of {config.samples.table}", "day", "labels", "published")
    for day in period.days:
        labels = "immature" if day in immature else "final"
        run = f"replaces run {table.manifest(day).run}" if day in published else "new"
        found.add_row(str(day), labels, run)
    return found


def _columns(config: Config) -> Table:
    found = _table("Columns to be written", "column", "type", "entries")
    for column in schema.sample_columns(config):
        found.add_row(column.name, column.type, "" if column.length is None else str(column.length))
    return found


def _format(path: str | None, format_: str) -> str:
    return "catalog" if path is None else format_


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
