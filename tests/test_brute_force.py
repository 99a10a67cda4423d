"""Samples agree row for row with a brute-force version, on random logs of hundreds of users.

What is drawn are the parameters of a log; a failing example shrinks in these.
"""

import datetime as dt
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from esmm import samples
from esmm.config import Config
from esmm.publish import Manifest, Table
from tests import brute_force
from tests.random_logs import LISTS, STATISTICS, ZONE, Shape, config_of, drawn, write
from tests.xxhash import xxhash64

Rows = dict[int, dict[str, Any]]
"""Exposure id to its row, by column."""

SHAPES = st.builds(
    Shape,
    seed=st.integers(0, 2**32),
    users=st.sampled_from([150, 300, 500]),
    items=st.sampled_from([4, 12, 40]),
    autumn=st.booleans(),
    text_ids=st.booleans(),
    named=st.sampled_from([0.0, 0.5, 1.0]),
    event_ids=st.booleans(),
    filed=st.booleans(),
    cap=st.sampled_from([None, 1, 3]),
    cutoff=st.sampled_from(["exposure", "day_start"]),
    lists=st.lists(st.sampled_from(list(LISTS)), unique=True).map(tuple),
    statistics=st.lists(st.sampled_from(list(STATISTICS)), unique=True).map(tuple),
    keep_unclicked=st.sampled_from([1.0, 1.0, 0.5]),
)


def built(spark: SparkSession, config: Config, days: list[dt.date]) -> tuple[Rows, tuple[Manifest, ...]]:
    """What a run publishes."""
    logs_until = dt.datetime.combine(days[-1] + dt.timedelta(days=3), dt.time(), ZONE)
    manifests = samples.build(spark, config, days, logs_until=logs_until).or_raise()
    table, rows = Table(config.samples.table), {}
    for day in days:
        for path in table.files([day]):
            for row in pq.ParquetFile(path.removeprefix("file://")).read().to_pylist():
                assert row["exposure_id"] not in rows, "an exposure has one sample"
                rows[row["exposure_id"]] = row | {"ds": day}
    return rows, manifests


def differences(expected: Rows, found: Rows) -> list[str]:
    """Where two sets of rows differ, in words; floats as far as float32 goes."""

    def equal(one: Any, other: Any) -> bool:
        if isinstance(one, list):
            return len(one) == len(other) and all(map(equal, one, other))
        if isinstance(one, float):
            return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-37)
        return bool(one == other)

    unlike = [f"{key}: only in one" for key in expected.keys() ^ found.keys()]
    for key in expected.keys() & found.keys():
        assert expected[key].keys() == found[key].keys()
        unlike += [
            f"{key}.{column}: expected {value}, found {found[key][column]}"
            for column, value in expected[key].items()
            if not equal(value, found[key][column])
        ]
    return unlike


def compare(spark: SparkSession, shape: Shape, directory: Path) -> Rows:
    """Build a shape's samples both ways; returns the rows, which are equal."""
    config, logs = config_of(shape, directory), drawn(shape)
    write(config, logs, seed=shape.seed)
    expected, counts = brute_force.samples(config, logs, shape.days)
    found, manifests = built(spark, config, shape.days)
    if shape.keep_unclicked < 1:
        expected = sampled(expected, found, shape.keep_unclicked)
        for day, of_day in counts.items():
            of_day["exposures left out by sampling"] = of_day["samples"]
            of_day["samples"] = sum(row["ds"] == day for row in expected.values())
            of_day["exposures left out by sampling"] -= of_day["samples"]
    unlike = differences(expected, found)
    assert not unlike, f"{len(unlike)} differences, such as {unlike[:5]}"
    for manifest in manifests:
        expected_counts, found_counts = +counts[manifest.day], +Counter(manifest.counts)
        assert dict(found_counts) == dict(expected_counts), manifest.day
    reconciled(manifests)
    return expected


def sampled(expected: Rows, found: Rows, share: float) -> Rows:
    """What should be left by down-sampling: which of the unclicked ones is a matter of chance, their weight is not.

    Of n rows that are kept with this probability, the number is within five standard deviations of its mean.
    """
    unclicked = {key for key, row in expected.items() if not row["click"]}
    kept = unclicked & found.keys()
    deviation = math.sqrt(len(unclicked) * share * (1 - share))
    assert abs(len(kept) - share * len(unclicked)) <= 5 * deviation
    left = {key: row for key, row in expected.items() if row["click"] or key in kept}
    return {key: row | {"weight": 1.0 if row["click"] else 1 / share} for key, row in left.items()}


def reconciled(manifests: tuple[Manifest, ...]) -> None:
    """In is out and what was dropped, by reason, for each log and day; and of exposures, what was left out."""
    for counts in (manifest.counts for manifest in manifests):
        for log in ("exposures", "clicks", "purchases"):
            fates = {fate: rows for fate, rows in counts.items() if fate.startswith(f"{log} ")}
            assert all(rows >= 0 for rows in fates.values())
            left_out = fates.pop(f"{log} left out by sampling", 0)
            assert fates.pop(f"{log} read") == sum(fates.values())
            if log == "exposures":
                assert counts["samples"] == fates["exposures credited"] - left_out


PLAIN = Shape(seed=1)
EVERYTHING = Shape(
    seed=2, autumn=True, text_ids=True, named=0.7, filed=True, cap=3, cutoff="day_start",
    statistics=tuple(STATISTICS), keep_unclicked=0.5,
)  # fmt: skip


@pytest.mark.timeout(900)
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SHAPES)
@example(PLAIN)
@example(EVERYTHING)
def test_agrees(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, shape: Shape) -> None:
    compare(spark, shape, tmp_path_factory.mktemp("logs"))


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SHAPES.map(lambda shape: replace(shape, exposures=4_000)))
def test_agrees_on_larger_logs(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, shape: Shape
) -> None:
    compare(spark, shape, tmp_path_factory.mktemp("logs"))


@pytest.mark.parametrize("shape", [PLAIN, EVERYTHING])
def test_the_logs_have_what_can_go_wrong(tmp_path: Path, shape: Shape) -> None:
    """Without these the comparison would prove little: counted by the brute force itself."""
    config, logs = config_of(shape, tmp_path), drawn(shape)
    rows, counts = brute_force.samples(config, logs, shape.days)
    total = sum(counts.values(), Counter())
    assert len({row["user_id"] for row in rows.values()}) > 100
    assert total["clicked"] > 50
    assert total["bought"] > 20
    fates = {"duplicate", "orphan", "credited", "no user", "no time"} | (
        {"over the cap"} if shape.cap else set()
    )
    fates |= {"time outside its day"} if shape.filed else set()
    for log in ("exposures", "clicks", "purchases"):
        for fate in fates - ({"orphan"} if log == "exposures" else set()):
            assert total[f"{log} {fate}"] > 0, f"{log} {fate}"
    for name, rule in config.lists.items():
        lengths = [sum(weight > 0 for weight in row[f"{name}_weight"]) for row in rows.values()]
        assert (min(lengths), max(lengths)) == (0, rule.length)
    times = Counter((event.user, event.at) for event in logs.clicks)
    assert sum(repeated > 1 for repeated in times.values()) > 5


def test_xxhash64_is_that_of_its_reference_implementation() -> None:
    """Of "shoes" with seed 42."""
    assert xxhash64(b"shoes") & (2**64 - 1) == 0xCEE37D66CD38ED28
