"""The rows of logs as the SQL takes them.

    raw_exposures, raw_clicks, raw_purchases   event_id, user_id, item_id, exposure_id, event_at, features,
                                               reject_reason, filed_on, original
    raw_items, raw_users                       entity_id, valid_from (microseconds), features, reject_reason, original

The columns that features come from are gathered in one struct under the features' names. A row that cannot be used
keeps its place and says why in reject_reason; the statements in sql/ skip it, count it and keep what it was
(original, JSON).
"""

from collections.abc import Iterable, Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm.config import SourcedFeature
from esmm.inputs import Input, hashed
from esmm.schema import ABSENT
from esmm.sources import DAY_PATTERN, named

ALWAYS = -(2**63)
"""What an entity's row is valid from if its log says nothing about it."""


def feature_struct(columns: Iterable[Column]) -> Column:
    """The features of one row; a struct cannot be empty, so a log without features holds a null."""
    found = list(columns)
    return F.struct(*found) if found else F.struct(F.lit(None).cast("tinyint").alias("none"))


def events(source: Input, features: Mapping[str, SourcedFeature]) -> DataFrame:
    """One row a row of an event log, as the SQL takes it.

    Events without an id of their own are told apart by user, item and time.
    """
    user, item, time = source.id("user_id"), source.id("item_id"), source.time()
    ids = {"user": user, "item": item}
    if source.has("event_id"):
        event = ids["event"] = source.id("event_id")
    else:
        event = hashed(user, item, time)
    exposure = source.id("exposure_id") if source.has("exposure_id") else F.lit(ABSENT).cast("bigint")
    return source.frame.select(
        event.alias("event_id"),
        user.alias("user_id"),
        item.alias("item_id"),
        exposure.alias("exposure_id"),
        time.alias("event_at"),
        feature_struct(source.feature(key, feature) for key, feature in features.items()).alias("features"),
        F.coalesce(*_broken_ids(ids), *_broken_times(source, time)).alias("reject_reason"),
        source.filed_on().alias("filed_on"),
        F.to_json(F.struct("*")).alias("original"),
    )


def usable_time(source: Input) -> Column:
    """The event's time in microseconds, null where the row is rejected for its time."""
    time = source.time()
    return F.when(F.coalesce(*_broken_times(source, time)).isNull(), time)


def entities(source: Input, role: str, features: Mapping[str, SourcedFeature]) -> DataFrame:
    """One row a row of an entity's log: entity_id, valid_from (where the log names no time, ALWAYS), features."""
    entity = source.id(role)
    slowly_changing = "time" in source.log.columns
    since = source.time() if slowly_changing else F.lit(ALWAYS)
    broken = _broken_ids({role.removesuffix("_id"): entity})
    broken += _broken_times(source, since) if slowly_changing else []
    return source.frame.select(
        entity.alias("entity_id"),
        since.alias("valid_from"),
        feature_struct(source.feature(key, feature) for key, feature in features.items()).alias("features"),
        F.coalesce(*broken).alias("reject_reason"),
        F.to_json(F.struct("*")).alias("original"),
    )


def _broken_ids(ids: Mapping[str, Column]) -> list[Column]:
    """What makes a row's ids useless, or nulls."""
    return [F.when(column == ABSENT, f"no {name}") for name, column in ids.items()] + [
        F.when(column < ABSENT, f"negative {name}") for name, column in ids.items()
    ]


def _broken_times(source: Input, time: Column) -> list[Column]:
    """What makes a row's time useless, or nulls."""
    raw = named(source.column("time"))
    reasons = [F.when(raw.isNull(), "no time"), F.when(time.isNull(), "unreadable time")]
    if source.log.day_column is not None:
        day = F.to_timestamp(source.filed_on(), DAY_PATTERN)
        reasons.append(F.when(day.isNull(), "filed under no day"))
        start = F.unix_micros(F.to_utc_timestamp(day, source.time_zone))
        end = F.unix_micros(F.to_utc_timestamp(day + F.expr("interval 1 day"), source.time_zone))
        late = int(source.log.lateness.total_seconds() * 1_000_000)
        outside = (time < start - F.lit(late)) | (time >= end)
        reasons.append(F.when(outside, "time outside its day"))
    return reasons
