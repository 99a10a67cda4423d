"""Logs as the config describes them, to views that the SQL can rely on.

    raw_exposures, raw_clicks, raw_purchases   event_id, user_id, item_id, event_at, features, reject_reason
    raw_items, raw_users                       entity_id, features, reject_reason

Ids become int64 by the rule of `contract_id`, times become microseconds since 1970-01-01 UTC, the columns
that features come from are gathered in one struct under the features' names. A row that cannot be used
keeps its place and says why in reject_reason; the statements in sql/ skip and count it.
"""

from collections.abc import Iterable, Mapping

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from esmm.config import Config, Feature, IdFeature, Log
from esmm.errors import ConfigError, DataError
from esmm.schema import ABSENT

NO_ENTITIES = "entity_id: bigint, features: struct<none: tinyint>, reject_reason: string"
"""The type of a row of an entity's log, for a config that has no such log."""

_INTEGERS = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_SIGN_BIT_CLEARED = 9223372036854775807


def contract_id(column: Column, kind: T.DataType, where: str) -> Column:
    """An id of any type as the samples hold it: int64, never null, -1 where absent.

    Integers stay what they are, so that they can be told apart by a person; strings become
    xxhash64(id) & 9223372036854775807, the empty string -1. Raises DataError for other types.
    """
    if isinstance(kind, _INTEGERS):
        return F.coalesce(column.cast("bigint"), F.lit(ABSENT))
    if isinstance(kind, T.StringType):
        hashed = F.xxhash64(column).bitwiseAND(F.lit(_SIGN_BIT_CLEARED))
        return F.when(column.isNull() | (column == ""), F.lit(ABSENT)).otherwise(hashed)
    raise DataError(where, expected="integers or strings as ids", found=kind.simpleString())


def contract_value(column: Column, kind: T.DataType, name: str, feature: Feature) -> Column:
    """A feature's value as the samples hold it: an id, or float32 with null as 0."""
    where = f"features.{name}.source"
    if isinstance(feature, IdFeature):
        return contract_id(column, kind, where)
    if not isinstance(kind, T.NumericType | T.BooleanType):
        raise DataError(where, expected="numbers", found=kind.simpleString())
    return F.coalesce(column.cast("float"), F.lit(0.0).cast("float"))


class Input:
    """One opened log: its frame, and where in the config to point when something is wrong with it."""

    def __init__(self, spark: SparkSession, name: str, log: Log) -> None:
        self.name, self.log = name, log
        try:
            self.frame = spark.read.parquet(log.path)
        except AnalysisException as error:
            found = "nothing there" if "PATH_NOT_FOUND" in str(error) else str(error).splitlines()[0]
            raise DataError(f"{name}.path", expected="Parquet files", found=f"{found} ({log.path})") from None

    def column(self, role: str) -> str:
        """The name of the column that plays a role; raises DataError where the log has none such."""
        column = self.log.columns.get(role, role)
        self.kind(column, f"{self.name}.columns.{role}")
        return column

    def kind(self, column: str, where: str) -> T.DataType:
        """The type of a column; raises DataError, naming `where`, if there is none of that name."""
        if column not in self.frame.columns:
            found = f"no column '{column}' (columns: {', '.join(self.frame.columns)})"
            raise DataError(where, expected=f"a column of {self.log.path}", found=found)
        return self.frame.schema[column].dataType

    def id(self, role: str) -> Column:
        """The role's ids by the rule of `contract_id`."""
        column = self.column(role)
        return contract_id(F.col(column), self.kind(column, role), f"{self.name}.columns.{role}")

    def time(self) -> Column:
        """The event's time in microseconds; null where the log's is null."""
        column = self.column("time")
        kind = self.kind(column, "time")
        where = f"{self.name}.columns.time"
        if self.log.time_unit == "timestamp":
            if not isinstance(kind, T.TimestampType):
                raise DataError(where, expected="timestamps", found=kind.simpleString())
            return F.unix_micros(F.col(column))
        if not isinstance(kind, _INTEGERS):
            raise DataError(where, expected=f"integers ({self.log.time_unit})", found=kind.simpleString())
        micros = {"seconds": 1_000_000, "milliseconds": 1_000}[self.log.time_unit]
        return F.col(column).cast("bigint") * micros

    def feature(self, name: str, feature: Feature) -> Column:
        """The feature's column as the samples hold it: int64, or float32 with null as 0."""
        column = feature.source.partition(".")[2]
        if column in ("user_id", "item_id"):
            column = self.log.columns.get(column, column)
        try:
            kind = self.kind(column, f"features.{name}.source")
        except DataError as error:
            # The config is at fault here, not the log: it asks for what nobody promised.
            raise ConfigError(error.where, expected=error.expected, found=error.found) from None
        return contract_value(F.col(column), kind, name, feature).alias(name)


def features_of(config: Config, log: str) -> dict[str, Feature]:
    """The features that come from one log's own columns, the ids that every event has aside."""
    ids = ("exposures.user_id", "exposures.item_id")
    return {
        name: feature
        for name, feature in config.features.items()
        if feature.source.startswith(f"{log}.") and feature.source not in ids
    }


def feature_struct(columns: Iterable[Column]) -> Column:
    """The features of one row; a struct cannot be empty, so a log without features holds a null."""
    found = list(columns)
    return F.struct(*found) if found else F.struct(F.lit(None).cast("tinyint").alias("none"))


def events(spark: SparkSession, name: str, log: Log, features: Mapping[str, Feature]) -> DataFrame:
    """One row an event, as the SQL takes it: event_id, user_id, item_id, event_at, features, reject_reason.

    Events without an id of their own are told apart by user, item and time.
    """
    source = Input(spark, name, log)
    user, item, time = source.id("user_id"), source.id("item_id"), source.time()
    if "event_id" in log.columns or "event_id" in source.frame.columns:
        event = source.id("event_id")
    else:
        event = F.xxhash64(user, item, time).bitwiseAND(F.lit(_SIGN_BIT_CLEARED))
    return source.frame.select(
        event.alias("event_id"),
        user.alias("user_id"),
        item.alias("item_id"),
        time.alias("event_at"),
        feature_struct(source.feature(key, feature) for key, feature in features.items()).alias("features"),
        _reject_reason({"event": event, "user": user, "item": item}, time).alias("reject_reason"),
    )


def entities(
    spark: SparkSession, name: str, log: Log, role: str, features: Mapping[str, Feature]
) -> DataFrame:
    """One row a row of an entity's log: entity_id, features, reject_reason."""
    source = Input(spark, name, log)
    entity = source.id(role)
    return source.frame.select(
        entity.alias("entity_id"),
        feature_struct(source.feature(key, feature) for key, feature in features.items()).alias("features"),
        _reject_reason({role.removesuffix("_id"): entity}, None).alias("reject_reason"),
    )


def _reject_reason(ids: Mapping[str, Column], time: Column | None) -> Column:
    """The first thing that makes a row useless, or null."""
    reasons = [F.when(column == ABSENT, f"no {name}") for name, column in ids.items()]
    reasons += [F.when(column < ABSENT, f"negative {name}") for name, column in ids.items()]
    if time is not None:
        reasons.append(F.when(time.isNull(), "no time"))
    return F.coalesce(*reasons)
