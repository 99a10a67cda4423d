"""A log as the config describes it: its columns by the role that they play, as the samples hold them.

    clicks = Input(spark, "logs.clicks", config.logs.clicks, "Europe/Paris")
    clicks.between(first, last)                              # no more of it than matters
    clicks.frame.select(clicks.id("user_id"), clicks.time())

Ids become int64 by the rule of `contract_id`, times become microseconds since 1970-01-01 UTC. Where something is wrong
with a log, the error says where in the config to look. `esmm.log_rows` makes the rows that the SQL takes.
"""

import copy
import datetime as dt
from collections.abc import Iterable

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from esmm import sources
from esmm.config import Config, IdFeature, Log, SourcedFeature
from esmm.errors import ConfigError, DataError
from esmm.schema import ABSENT, sourced_features
from esmm.sources import named

_INTEGERS = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_OPTIONAL = ("event_id", "exposure_id")
_SIGN_BIT_CLEARED = 9223372036854775807
_MICROS = {"seconds": 1_000_000, "milliseconds": 1_000}


def contract_id(column: Column, kind: T.DataType, where: str) -> Column:
    """An id of any type as the samples hold it: int64, never null, -1 where absent.

    Integers stay what they are, so that they can be told apart by a person; strings become
    xxhash64(id) & 9223372036854775807, the empty string -1. Raises DataError for other types.
    """
    if isinstance(kind, _INTEGERS):
        return F.coalesce(column.cast("bigint"), F.lit(ABSENT))
    if isinstance(kind, T.StringType):
        return F.when(column.isNull() | (column == ""), F.lit(ABSENT)).otherwise(hashed(column))
    raise DataError(where, expected="integers or strings as ids", found=kind.simpleString())


def hashed(*columns: Column) -> Column:
    """An id made of columns: their xxhash64 with the sign bit cleared."""
    return F.xxhash64(*columns).bitwiseAND(F.lit(_SIGN_BIT_CLEARED))


def kind_of_ids(kind: T.DataType) -> str:
    """What ids of a type are to a person: integers of any width are one kind, since equal ones stay equal."""
    if isinstance(kind, _INTEGERS):
        return "integers"
    return "strings" if isinstance(kind, T.StringType) else kind.simpleString()


def contract_value(column: Column, kind: T.DataType, name: str, feature: SourcedFeature) -> Column:
    """A feature's value: an id as the samples hold it, -1 where it is below, or float32, NaN where it is no number.

    What becomes of NaN is for `esmm.features` to say.
    """
    where = f"features.{name}.source"
    if isinstance(feature, IdFeature):
        return F.greatest(contract_id(column, kind, where), F.lit(ABSENT).cast("bigint"))
    if not isinstance(kind, T.NumericType | T.BooleanType):
        raise DataError(where, expected="numbers", found=kind.simpleString())
    number = column.cast("float")
    # NaN is the largest of all, for Spark. Not null, which a hash of all features would pass over.
    return F.coalesce(F.when(F.abs(number) < float("inf"), number), F.lit(float("nan")).cast("float"))


class Input:
    """One opened log: its frame, and where in the config to point when something is wrong with it."""

    def __init__(
        self,
        spark: SparkSession,
        name: str,
        log: Log,
        time_zone: str = "UTC",
        *,
        roles: Iterable[str] = (),
        columns: Iterable[str] = (),
        times: tuple[int, int] | None = None,
    ) -> None:
        """Open a log.

        Args:
            spark: a session.
            name: where the log stands in the config, such as `logs.clicks`.
            log: the log.
            time_zone: of times that do not say it, where the log does not.
            roles: those that are asked for: a rare column of JSON is found by being looked for.
            columns: the columns that are asked for besides.
            times: the first and last that matter, in microseconds. The rows are those of all times.
        """
        self.name, self.log = name, log
        self.time_zone = log.time_zone or time_zone
        own = [role for role in roles if role not in log.columns]
        optional = [role for role in own if role in _OPTIONAL]
        self._needed = {*log.columns.values(), *columns, *own}.difference(optional)
        if log.day_column is not None:
            self._needed.add(log.day_column)
        days = None if log.day_column is None or times is None else self._days(*times)
        self.frame = sources.opened(
            spark, name, log, self.time_zone, columns=sorted(self._needed), optional=optional, days=days
        )

    def column(self, role: str) -> str:
        """The name of the column that plays a role; raises DataError where the log has none such."""
        column = self.log.columns.get(role, role)
        self.kind(column, f"{self.name}.columns.{role}")
        return column

    def has(self, role: str) -> bool:
        """Whether a column plays the role: one that the config names, or one of the role's own name."""
        return role in self.log.columns or role in self.frame.columns

    def kind(self, column: str, where: str) -> T.DataType:
        """The type of a column; raises DataError, naming `where`, if there is none of that name."""
        if column not in self.frame.columns:
            is_looked_for = self.log.path is not None and self.log.format == "json" and column in self._needed
            where_else = " in any file" if is_looked_for else ""
            found = f"no column '{column}'{where_else} (columns: {', '.join(self.frame.columns)})"
            raise DataError(where, expected=f"a column of {self.log.source}", found=found)
        return self.frame.schema[column].dataType

    def id(self, role: str) -> Column:
        """The role's ids by the rule of `contract_id`."""
        column = self.column(role)
        return contract_id(named(column), self.kind(column, role), f"{self.name}.columns.{role}")

    def check_ids(self, role: str, other: "Input", other_role: str) -> None:
        """Raise DataError where the role's ids are of another kind than those of another log.

        A string hashes otherwise than the integer that it spells: every event would be an orphan, silently.
        """
        own, others = (
            kind_of_ids(source.kind(source.column(name), name))
            for source, name in ((self, role), (other, other_role))
        )
        if own != others:
            expected = f"{others}, as {other.name} has in {other.column(other_role)}"
            raise DataError(f"{self.name}.columns.{role}", expected=expected, found=own)

    def time(self) -> Column:
        """The event's time in microseconds; null where the log's is null or cannot be read."""
        column, unit = self.column("time"), self.log.time_unit
        kind, where = self.kind(column, "time"), f"{self.name}.columns.time"
        value = named(column)
        if unit == "timestamp" and isinstance(kind, T.TimestampType):
            return F.unix_micros(value)
        if unit == "timestamp" and isinstance(kind, T.TimestampNTZType):
            return F.unix_micros(F.to_utc_timestamp(value.cast("timestamp"), self.time_zone))
        if unit == "text" and isinstance(kind, T.StringType):
            read = F.to_timestamp(value, self.log.time_pattern)
            local = not self.log.times_say_their_zone
            return F.unix_micros(F.to_utc_timestamp(read, self.time_zone) if local else read)
        if unit in _MICROS and isinstance(kind, _INTEGERS):
            # Widened first: an int32's seconds have no room for microseconds, and Spark would wrap them around.
            return F.try_multiply(value.cast("bigint"), F.lit(_MICROS[unit]).cast("bigint"))
        if unit in _MICROS and isinstance(kind, T.NumericType):
            exact = value.cast("double") if isinstance(kind, T.FloatType) else value
            scaled = exact * _MICROS[unit]
            # As bigint, NaN would be the year 1970 and infinity the end of time; NaN is the largest number here.
            return F.when(F.abs(scaled) < 2.0**63, scaled.cast("bigint"))
        expected = {"timestamp": "timestamps", "text": "strings"}.get(unit, f"numbers ({unit})")
        raise DataError(where, expected=expected, found=kind.simpleString())

    def filed_on(self) -> Column:
        """The day that a row was filed under, YYYY-MM-DD; null where logs are not filed by day, or this one is not.

        Raises DataError where days are of another type: Spark takes 20260328 for a number.
        """
        day, where = self.log.day_column, f"{self.name}.day_column"
        if day is None:
            return F.lit(None).cast("string")
        kind = self.kind(day, where)
        if not isinstance(kind, T.DateType | T.StringType):
            raise DataError(where, expected="days written YYYY-MM-DD", found=kind.simpleString())
        return sources.filed_on(day)

    def between(self, first: int, last: int) -> "Input":
        """The same log without what the storage can tell is not of times in [first, last] (microseconds).

        Where the config names a day_column, whole directories of days; else, where times are timestamps or
        numbers, row groups. Rows without a time stay, to be rejected.
        """
        if self.log.day_column is not None:
            # Not by time as well: a row that is filed under a wrong day, or none, is to be rejected, not overlooked.
            return self._where(sources.within(self.filed_on(), self._days(first, last)))
        column, unit = self.column("time"), self.log.time_unit
        if unit == "timestamp" and isinstance(self.kind(column, "time"), T.TimestampType):
            bounds = [F.lit(dt.datetime.fromtimestamp(value / 1e6, dt.UTC)) for value in (first, last)]
        elif unit in _MICROS:
            # As bigint, whatever the column's width: Spark compares in the wider type, and still prunes.
            bounds = [
                F.lit(value).cast("bigint") for value in (first // _MICROS[unit], last // _MICROS[unit] + 1)
            ]
        else:
            return self
        time = named(column)
        unreadable = time.isNull()
        if unit in _MICROS:
            most = F.lit(2**63 // _MICROS[unit] - 1).cast("bigint")  # NaN is above it
            unreadable = unreadable | (time > most) | (time < -most)
        return self._where(unreadable | time.between(*bounds))

    def _days(self, first: int, last: int) -> tuple[str, str]:
        """The days, the first and the last, under which rows of such times may be filed."""
        start, end = _date(first), _date(last + int(self.log.lateness.total_seconds() * 1e6))
        # A day of some zone can begin or end up to 14 hours away from UTC's.
        return str(start - dt.timedelta(days=1)), str(end + dt.timedelta(days=1))

    def _where(self, condition: Column) -> "Input":
        part = copy.copy(self)
        part.frame = self.frame.where(condition)
        return part

    def feature(self, name: str, feature: SourcedFeature) -> Column:
        """The feature's column by the rule of `contract_value`."""
        column = column_of(feature, self.log)
        try:
            kind = self.kind(column, f"features.{name}.source")
        except DataError as error:
            # The config is at fault here, not the log: it asks for what nobody promised.
            raise ConfigError(error.where, expected=error.expected, found=error.found) from None
        return contract_value(named(column), kind, name, feature).alias(name)


def column_of(feature: SourcedFeature, log: Log) -> str:
    """The column of a log that a feature comes from."""
    column = feature.column
    return log.columns.get(column, column) if column in ("user_id", "item_id") else column


def features_of(config: Config, log: str) -> dict[str, SourcedFeature]:
    """The features that come from one log's own columns, the ids that every event has aside."""
    ids = ("exposures.user_id", "exposures.item_id")
    return {
        name: feature
        for name, feature in sourced_features(config).items()
        if feature.log == log and feature.source not in ids
    }


def _date(value: int) -> dt.date:
    return dt.datetime.fromtimestamp(value / 1e6, dt.UTC).date()
