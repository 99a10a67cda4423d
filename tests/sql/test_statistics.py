"""06_statistics: what is known of a key the day before, worked by hand.

Key 1 on days 100 to 140; a strength of 10. Key 2 stands for all the others.
"""

from math import log1p

import pytest
from pyspark.sql import SparkSession

from esmm import statements

EXPOSURE, CLICK, PURCHASE = 0, 1, 2


def known(spark: SparkSession, events: list[tuple[int, int, int]], key: int, day: int) -> list[list[float]]:
    """(kind, key, day) of events to the numbers of 1, 7 and 30 days of one request."""
    spark.createDataFrame(events, "kind int, key bigint, day int").createOrReplaceTempView("keyed_events")
    spark.createDataFrame(
        [((7,), key, day)], "request struct<id: bigint>, key bigint, day int"
    ).createOrReplaceTempView("keyed_requests")
    rows = statements.run(spark, "06_statistics", {"strength": 10.0}).collect()
    assert [row["request"]["id"] for row in rows] == [7]
    numbers = rows[0]["numbers"]
    return [numbers[at : at + 5] for at in (0, 5, 10)]


def test_counts_are_of_the_days_before_and_not_of_the_day_itself(spark: SparkSession) -> None:
    events = [(EXPOSURE, 1, day) for day in (140, 139, 139, 133, 132, 110, 109)] + [(CLICK, 1, 139)]
    one, seven, thirty = known(spark, events, 1, 140)
    assert one[:3] == pytest.approx([log1p(2), log1p(1), 0])
    assert seven[:3] == pytest.approx([log1p(3), log1p(1), 0])
    assert thirty[:3] == pytest.approx([log1p(5), log1p(1), 0])


def test_rates_are_mixed_with_those_of_all_keys(spark: SparkSession) -> None:
    events = [(EXPOSURE, 1, 139)] * 4 + [(CLICK, 1, 139)] * 3 + [(PURCHASE, 1, 139)]
    events += [(EXPOSURE, 2, 139)] * 36 + [(CLICK, 2, 139)] * 7 + [(PURCHASE, 2, 139)] * 4
    one, _, _ = known(spark, events, 1, 140)
    # All: 40 exposures, 10 clicks, 5 purchases; so (3 + 10 · 0.25) / (4 + 10) and (1 + 10 · 0.5) / (3 + 10).
    assert one[3:] == pytest.approx([5.5 / 14, 6 / 13])


def test_a_key_that_was_never_seen_has_the_rates_of_all(spark: SparkSession) -> None:
    events = [(EXPOSURE, 2, 139)] * 4 + [(CLICK, 2, 139)]
    one, _, _ = known(spark, events, 1, 140)
    assert one == pytest.approx([0, 0, 0, 0.25, 0])


def test_on_the_first_day_nothing_is_known(spark: SparkSession) -> None:
    for numbers in known(spark, [(EXPOSURE, 1, 140), (CLICK, 1, 140)], 1, 140):
        assert numbers == [0, 0, 0, 0, 0]


def test_the_day_itself_and_later_days_change_nothing(spark: SparkSession) -> None:
    before = [(EXPOSURE, 1, 130), (CLICK, 1, 131), (EXPOSURE, 2, 139)]
    later = [(kind, key, day) for kind in (0, 1, 2) for key in (1, 2) for day in (140, 141, 170)]
    assert known(spark, before, 1, 140) == known(spark, before + later, 1, 140)
