"""Metrics of the rows of each value of a few features: hours, customer segments, how long a list is.

    rows = samples.select("click", …, column(config).alias("segments"))     # of hour, device and list: [8, 72034…, 4]
    found = BySegment(heaviest(spark, config))           # in every worker
    found.update({"click": …}, segments)
    named(spark, config, found, days)["hour"]            # [Segment("0", metrics), …, Segment("other", metrics)]

Of a feature the MOST_VALUES heaviest values have metrics of their own, and all other rows share those of `other`; a
list goes by how many entries it has: 0, 1, 2–3, 4–7 and so on. So memory is bounded, whatever the features hold: by
132 KiB a value. Metrics are of `CoarseMetrics`: an AUC is off by at most half the share of (positive, negative) pairs
whose predictions differ by less than 1.6 %.
"""

import datetime as dt
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from esmm import inputs, schema, sources, statements
from esmm.config import Config, IdFeature
from esmm.days import Period
from esmm.errors import DataError
from esmm.metrics import CoarseMetrics, Floats

MOST_VALUES = 30
"""Of a segment: all hours of the day, and no more of the users than that."""

Values = Sequence[Sequence[int]]
"""By segment, the values that have metrics of their own."""

OTHER, NONE = "other", "none"
"""What the rows of all other values are called, and those that have none."""


@dataclass(frozen=True)
class Segment:
    """The rows that have one value of a feature."""

    value: str
    metrics: CoarseMetrics


class BySegment:
    """The states of all segments' values: a worker's, or the sum of all workers'."""

    def __init__(self, values: Values) -> None:
        self.values = [np.sort(np.array(of_segment, np.int64)) for of_segment in values]
        """By segment, the values that have a state of their own."""
        self.states = [[CoarseMetrics() for _ in range(len(known) + 1)] for known in self.values]
        """By segment, those, and that of all others."""

    @property
    def parts(self) -> list[CoarseMetrics]:
        """All states, in one order for equal values."""
        return [state for of_segment in self.states for state in of_segment]

    def update(self, rows: Mapping[str, Floats], segments: npt.NDArray[np.int64]) -> None:
        """Count rows: what `Metrics.update` takes, [rows] each, and their values, [rows, segments]."""
        for known, states, values in zip(self.values, self.states, segments.T, strict=True):
            place = np.where(np.isin(values, known), np.searchsorted(known, values), len(known))
            order = np.argsort(place, kind="stable")
            ends = np.searchsorted(place[order], np.arange(len(states)), side="right")
            for state, of_value in zip(states, np.split(order, ends[:-1]), strict=True):
                if len(of_value):
                    state.update(**{name: column[of_value] for name, column in rows.items()})


def column(config: Config) -> Column:
    """The values of a sample's segments, array<bigint>, in the order of the config; a list's is its shortest length."""
    return F.array(*[_value(config, name) for name in config.evaluation.segments]).cast("array<bigint>")


def _value(config: Config, name: str) -> Column:
    if name not in config.lists:
        return F.col(name)
    length = F.size(F.array_remove(f"{name}_weight", 0.0))
    starts = [2**power for power in range(config.lists[name].length.bit_length())]
    return F.greatest(F.lit(0), *[F.when(length >= start, start) for start in starts])


def heaviest(spark: SparkSession, config: Config) -> Values:
    """By segment, the values that most of the weight of the view `predictions` has, at most MOST_VALUES."""
    found: list[list[int]] = [[] for _ in config.evaluation.segments]
    if not found:
        return found
    for row in statements.run(spark, "segments", {"most": MOST_VALUES}).collect():
        found[row["segment"]].append(row["value"])
    return found


def named(
    spark: SparkSession, config: Config, found: BySegment, days: Sequence[dt.date]
) -> dict[str, list[Segment]]:
    """By segment, its values as a person knows them: numbers rising, names with the heaviest first, others last."""
    segments = {}
    for name, values, states in zip(config.evaluation.segments, found.values, found.states, strict=True):
        numbers = values.tolist()
        names = {} if name in config.lists else _names(spark, config, name, numbers, days)
        *own, others = states
        labels = [names.get(number) or _number(config, name, number) for number in numbers]
        of_value = [Segment(label, state) for label, state in zip(labels, own, strict=True)]
        if names:
            of_value.sort(key=lambda segment: -segment.metrics.ctr.weight)
        segments[name] = of_value + ([Segment(OTHER, others)] if others.ctr.rows else [])
    return segments


def _number(config: Config, name: str, value: int) -> str:
    if name in config.lists:
        longest = min(2 * value - 1, config.lists[name].length)
        return str(value) if longest <= value else f"{value}–{longest}"
    return NONE if value == schema.ABSENT else str(value)


def _names(
    spark: SparkSession, config: Config, name: str, values: Sequence[int], days: Sequence[dt.date]
) -> dict[int, str]:
    """What the log calls the ids, which the samples hold as hashes; nothing where they are numbers in the log too.

    Where the log is gone, its ids keep their numbers.
    """
    feature = config.features[name]
    assert isinstance(feature, IdFeature)  # the config has checked it
    log = getattr(config.logs, feature.log, None)
    if log is None:
        return {}
    column = inputs.column_of(feature, log)
    period = Period((min(days), max(days)), zoneinfo.ZoneInfo(config.time_zone))
    try:
        source = inputs.Input(
            spark, f"logs.{feature.log}", log, config.time_zone,
            columns=[column], times=(period.starts_at, period.ends_at),
        )  # fmt: skip
        kind = source.kind(column, f"features.{name}.source")
    except DataError:
        return {}
    if not isinstance(kind, T.StringType):
        return {}
    if feature.log == "exposures":
        source = source.between(period.starts_at, period.ends_at)
    named = source.frame.select(
        source.feature(name, feature).alias("id"), sources.named(column).alias("name")
    )
    rows = named.where(F.col("id").isin(list(values)) & (F.col("id") != schema.ABSENT)).distinct().collect()
    return {row["id"]: row["name"] for row in rows}
