"""Samples with their behaviour lists as of their day's start: what a table made once a night would know.

    samples + logs ─▶ a request a (user, day), as of the day's start ─ 07, once a list ─▶ samples with these lists

    rows = nightly.with_lists(spark, config, samples, days)
    scoring.with_predictions(rows, config, version)      # how well the model does without the day's own events

A list then depends on user and day alone, so few requests serve all rows. They are made by the statements that
made the samples, and hold what `samples.history_cutoff: day_start` would. Everything else of a row stays: its
statistics end with the day before in any case, and its item and user are those of the exposure.
"""

import datetime as dt
import zoneinfo
from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm import candidates, features, schema, views
from esmm.config import Config, required
from esmm.days import day_start


def is_wanted(config: Config) -> bool:
    """Whether an evaluation looks at such lists: the config says so, and they are not what the samples have anyway."""
    other = bool(config.lists) and config.samples.history_cutoff != "day_start"
    return config.evaluation.as_nightly and other


def with_lists(spark: SparkSession, config: Config, samples: DataFrame, days: Sequence[dt.date]) -> DataFrame:
    """The samples of some days, each list as it was when the row's day began.

    Lists are as long as they are, as those of candidates: `esmm.padding` does the rest. Raises DataError where a log
    is missing or empty.
    """
    config = _lists_alone(config)
    zone = zoneinfo.ZoneInfo(config.time_zone)
    starts_at, ends_at = day_start(min(days), zone), day_start(max(days), zone)
    logs = views.open_logs(spark, config, starts_at, ends_at)
    views.register_entities(spark, config, logs["exposure"])
    views.register_events(spark, config, logs, starts_at, ends_at)
    local_day = F.date_trunc("day", F.from_utc_timestamp(F.timestamp_micros("exposed_at"), config.time_zone))
    dated = samples.withColumn("at", F.unix_micros(F.to_utc_timestamp(local_day, config.time_zone)))
    requests = candidates.requests(dated.select("user_id", "at").distinct())
    made = features.described(spark, config, features.with_lists(spark, config, requests))
    names = [column.name for column in schema.feature_columns(config) if column.length is not None]
    lists = made.select("user_id", F.col("exposed_at").alias("at"), *names)
    return dated.drop(*names).join(lists, ["user_id", "at"]).select(*samples.columns)


def _lists_alone(config: Config) -> Config:
    """The config without what no list is made of, so that no more of the logs is read than lists take."""
    entities = {entity for behaviour in config.lists.values() for entity in behaviour.entities}
    kept = {name: feature for name, feature in config.features.items() if name in entities}
    logs = required(config.logs, "logs").model_copy(update={"users": None})
    return config.model_copy(update={"features": kept, "statistics": {}, "logs": logs})
