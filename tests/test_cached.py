"""Cached rows: made once, and the beginning of the plans that use them."""

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from esmm.cached import cached


def test_rows_are_made_once_whatever_asks_for_them(spark: SparkSession) -> None:
    made = spark.sparkContext.accumulator(0)

    @F.udf("long")
    def twice(number: int) -> int:
        made.add(1)
        return 2 * number

    with cached(spark.range(10).select(twice("id").alias("twice"))) as numbers:
        numbers.createOrReplaceTempView("numbers")
        [total] = spark.sql("select sum(twice) from numbers").collect()
        [pairs] = spark.sql("select count(*) from numbers as a join numbers as b using (twice)").collect()
    assert (total[0], pairs[0], made.value) == (90, 10, 10)


def test_a_plan_begins_with_them(spark: SparkSession) -> None:
    costly = spark.range(10).where("id > 2").select((F.col("id") + 1).alias("next"))
    with cached(costly) as numbers:
        analysed = numbers.where("next > 5")._jdf.queryExecution().analyzed()
        assert [node.nodeName() for node in nodes(analysed)] == ["Filter", "InMemoryRelation"]
    assert "Range" in [node.nodeName() for node in nodes(costly._jdf.queryExecution().analyzed())]


def test_nothing_stays_cached(spark: SparkSession) -> None:
    costly = spark.range(10).selectExpr("id + 1 as next")

    def break_off() -> None:
        with cached(costly) as numbers:
            assert numbers.count() == 10
            assert costly.storageLevel.useMemory
            raise ValueError("broken off")

    with pytest.raises(ValueError, match="broken off"):
        break_off()
    assert not costly.storageLevel.useMemory


def nodes(plan: object) -> list[object]:
    children = plan.children()  # type: ignore[attr-defined]
    return [plan, *(below for at in range(children.size()) for below in nodes(children.apply(at)))]
