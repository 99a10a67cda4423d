r"""Ali-CCP's files, as their authors publish them, to the table of samples.

    built = import_samples(spark, config, Path("ali-ccp"))       # of TRAIN_DAY and TEST_DAY

    sample_skeleton_{train,test}.csv   SAMPLE,CLICK,PURCHASE,COMMON,NUMBER,FEATURES    an exposure
    common_features_{train,test}.csv   COMMON,NUMBER,FEATURES                          what many exposures share

FEATURES are entries FIELD \x02 ID \x03 VALUE, joined by \x01. A feature or bag whose source is `samples.FIELD` takes
the ids that the sample has in that field, or, where it has none, those of its common features: a feature the one
of the highest value, a bag as many as it is long, each weighing its value. What has the value 0 is in no bag.

The two sets follow each other in time, but no line says when. So there are two days of our own making, and all
exposures of a set are at the start of its day.

A line that cannot be used is counted by reason and goes to the table of rejects. So does a purchase without a click,
as others who read this set leave it out. Nothing is published unless both days can be.

Spark reads, takes apart and joins the lines, a part of them at a time.
"""

import datetime as dt
import zoneinfo
from collections import Counter
from functools import reduce
from pathlib import Path
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm import checks, funnel, layout, schema, statements, tables
from esmm.accounts import Counts
from esmm.config import Config, IdFeature
from esmm.days import day_start
from esmm.errors import ConfigError, DataError
from esmm.publish import new_run
from esmm.samples import Built, publish_rejects
from esmm.schema import DAY

TRAIN_DAY, TEST_DAY = dt.date(2018, 1, 1), dt.date(2018, 1, 2)

_SETS = {"train": TRAIN_DAY, "test": TEST_DAY}
_USER, _ITEM = "101", "205"  # the fields of the two keys


class _Lines(NamedTuple):
    """The lines of both sets, those that cannot be used with a reject_reason."""

    samples: DataFrame
    """As sql/aliccp_samples.sql gives them."""
    commons: DataFrame
    """As sql/aliccp_lines.sql gives them, with `found`."""


def import_samples(spark: SparkSession, config: Config, folder: Path) -> Built:
    """Publish the samples of the files that are in a folder, or below it, in place of earlier ones.

    Raises DataError where a file is missing or there twice, has no line that can be used or has common features
    twice, or where samples break a check; ConfigError where a feature is no id of a field; ConflictError where
    another run writes these days. Then nothing is published.
    """
    for name, feature in schema.sourced_features(config).items():
        if not isinstance(feature, IdFeature) or feature.log != "samples":
            found = f"{feature.kind} of {feature.source}"
            raise ConfigError(f"features.{name}", expected="id of samples.FIELD", found=found)
    days = tuple(_SETS.values())
    tables.check(config, spark)
    table, run = tables.samples(config, spark), new_run()
    with table.claimed(days, run):
        lines = _read(spark, config, folder)
        counts = _counts(lines)
        try:
            rows_of = {day: counts[day]["samples"] for day in days}
            layout.write(_rows(config, lines.samples), table.stage(run), config, rows_of=rows_of)
            written = spark.read.parquet(table.stage(run))
            for _, failure in sorted(checks.broken(spark, config, written).items()):
                raise failure
            funnels = funnel.measure(config, written)
            for day in days:
                counts[day]["clicked"], counts[day]["bought"] = (
                    int(funnels[day][name]) for name in ("clicks", "purchases")
                )
                table.confirm(day)  # the rejects are published under the samples' claim
            _rejects(lines).createOrReplaceTempView("rejects")
            publish_rejects(spark, config, {day: counts[day]["lines rejected"] for day in days}, run)
            published = tuple(
                table.publish(
                    day,
                    run,
                    config=config.digest(),
                    counts=dict(counts[day]),
                    beside={"funnel": {"counts": counts[day], "measures": funnels[day]}},
                )
                for day in days
            )
            return Built(published, {}, funnels)
        finally:
            table.discard(run)


def _read(spark: SparkSession, config: Config, folder: Path) -> _Lines:
    """The lines of all files; raises DataError where a file is not there once, or common features are there twice."""
    taken_apart = {}
    for kind, values in (("sample_skeleton", 6), ("common_features", 3)):
        texts = [
            spark.read.text(str(_file(folder, f"{kind}_{name}.csv"))).select(
                F.lit(str(day)).alias(DAY),
                F.lit(f"{kind}_{name}.csv").alias("log"),
                F.col("value").alias("line"),
            )
            for name, day in _SETS.items()
        ]
        reduce(DataFrame.union, texts).createOrReplaceTempView("lines")
        lines = statements.run(spark, "aliccp_lines", {"values": values})
        taken_apart[kind] = lines.withColumn("found", _found(config)).drop("features")
    commons = taken_apart["common_features"]
    index = F.col("line_values")[0].alias("index")
    by_index = commons.where(F.size("line_values") == 3).groupBy("log", index).count()
    twice = by_index.where("count > 1").first()
    if twice is not None:
        found = f"'{twice['index']}' {twice['count']} times"
        raise DataError(f"{folder}/{twice['log']}", expected="each common feature index once", found=found)
    taken_apart["sample_skeleton"].createOrReplaceTempView("sample_lines")
    commons.createOrReplaceTempView("common_lines")
    return _Lines(statements.run(spark, "aliccp_samples", {"test_day": str(TEST_DAY)}), commons)


def _file(folder: Path, name: str) -> Path:
    """The file of a name; the sets come in folders of their own."""
    found = sorted(folder.rglob(name))
    if len(found) != 1:
        shown = "no such folder" if not folder.is_dir() else ", ".join(map(str, found)) or "none"
        raise DataError(str(folder), expected=f"one file {name}, in it or below it", found=shown)
    return found[0]


def _found(config: Config) -> Column:
    """What a line's features hold of each field that is wanted: null, or an empty array, where they hold nothing."""
    fields = {"user_id": _USER, "item_id": _ITEM}
    fields |= {name: feature.column for name, feature in schema.sourced_features(config).items()}
    made = [F.element_at(_of_field(field), 1)["id"].alias(name) for name, field in fields.items()]
    for name, bag in config.bags.items():
        heaviest = F.slice(
            F.filter(_of_field(bag.column), lambda entry: entry["minus_value"] < 0), 1, bag.length
        )
        ids, weights = schema.bag_columns(name, bag)
        made.append(heaviest["id"].alias(ids.name))
        made.append(F.transform(heaviest["minus_value"], lambda value: -value).alias(weights.name))
    return F.struct(*made)


def _of_field(field: str) -> Column:
    return F.filter("features", lambda entry: entry["field"] == field)


def _counts(lines: _Lines) -> Counts:
    """What was read of each set and what became of it; raises DataError where nothing of one can be used."""
    read = lines.samples.select(DAY, "log", "reject_reason").union(
        lines.commons.select(DAY, "log", "reject_reason")
    )
    counts: Counts = {day: Counter() for day in _SETS.values()}
    for row in read.groupBy(DAY, "log", "reject_reason").count().collect():
        of_day, kind = counts[dt.date.fromisoformat(row[DAY])], row["log"].rpartition("_")[0]
        of_day[f"{kind} read"] += row["count"]
        if row["reject_reason"] is not None:
            of_day[f"{kind} {row['reject_reason']}"] = row["count"]
            of_day["lines rejected"] += row["count"]
        elif kind == "sample_skeleton":
            of_day["samples"] = row["count"]
    for name, day in _SETS.items():
        if not counts[day]["samples"]:
            found = ", ".join(f"{rows:,} {what}" for what, rows in counts[day].items() if rows) or "no line"
            raise DataError(f"the {name} set", expected="samples that can be used", found=found)
    return counts


def _rejects(lines: _Lines) -> DataFrame:
    """The lines that cannot be used, as the table of rejects has them."""
    columns = [DAY, "log", "reject_reason", "line"]
    rejected = lines.samples.select(*columns).union(lines.commons.select(*columns))
    return rejected.where("reject_reason is not null").select(
        DAY, "log", F.col("reject_reason").alias("reason"), F.to_json(F.struct("line")).alias("original")
    )


def _rows(config: Config, lines: DataFrame) -> DataFrame:
    """The samples that can be used, with the columns of `esmm.schema` and the day; bags are as long as they are."""
    zone = zoneinfo.ZoneInfo(config.time_zone)
    starts = [F.when(F.col(DAY) == str(day), F.lit(day_start(day, zone))) for day in _SETS.values()]
    made = {"exposed_at": F.coalesce(*starts), "weight": F.lit(1.0)}
    for name in schema.sourced_features(config):
        made[name] = F.coalesce(f"own.{name}", f"common.{name}", F.lit(schema.ABSENT))
    for name, bag in config.bags.items():
        is_own = F.size(f"own.{name}") > 0
        for column in schema.bag_columns(name, bag):
            made[column.name] = F.when(is_own, F.col(f"own.{column.name}")).otherwise(
                F.col(f"common.{column.name}")
            )
    columns = [
        made.get(column.name, F.col(column.name)).cast(column.spark).alias(column.name)
        for column in schema.sample_columns(config)
    ]
    return lines.where("reject_reason is null").select(*columns, DAY)
