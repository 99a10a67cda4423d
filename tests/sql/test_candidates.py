"""11_candidates, 12_ranked and popularity: what becomes of pairs to score and of their scores."""

import datetime as dt

import pytest
from pyspark.sql import SparkSession

from esmm import statements

PAIR = "user_id bigint, item_id bigint, features struct<device: bigint>, passthrough struct<item: string>"


def candidates(spark: SparkSession, pairs: list[tuple[int, int, int]]) -> list[tuple[object, ...]]:
    """(user, item, device) of pairs to (user, item, device, item passed through), in order, of requests at 1,000."""
    rows = [(user, item, (device,), (f"item {item}",)) for user, item, device in pairs]
    spark.createDataFrame(rows, PAIR).createOrReplaceTempView("raw_candidates")
    found = statements.run(spark, "11_candidates", {"as_of": 1_000}).collect()
    for row in found:
        assert (row["exposed_at"], row["known_until"]) == (1_000, 1_000)
        assert (row["exposure_id"], row["statistics"], row["lists"]) == (row["user_id"], [], [])
        assert (row["click"], row["purchase"], row["weight"]) == (0, 0, 1.0)
    return sorted(
        (row["user_id"], row["item_id"], row["features"]["device"], row["passthrough"]["item"])
        for row in found
    )


def test_each_pair_is_a_request_with_its_own_features(spark: SparkSession) -> None:
    assert candidates(spark, [(7, 2, 5), (7, 1, 6), (8, 1, 7)]) == [
        (7, 1, 6, "item 1"), (7, 2, 5, "item 2"), (8, 1, 7, "item 1"),
    ]  # fmt: skip


def test_a_pair_that_comes_twice_is_scored_once(spark: SparkSession) -> None:
    assert candidates(spark, [(7, 1, 5), (7, 1, 5), (8, 1, 5)]) == [
        (7, 1, 5, "item 1"), (8, 1, 5, "item 1"),
    ]  # fmt: skip


def test_of_a_pair_with_two_sets_of_features_the_same_counts_in_any_order(spark: SparkSession) -> None:
    pairs = [(7, 1, device) for device in range(6)]
    assert (
        candidates(spark, pairs) == candidates(spark, pairs[::-1]) == candidates(spark, pairs[3:] + pairs[:3])
    )


def test_of_a_pair_with_two_things_to_pass_through_the_same_counts_in_any_order(spark: SparkSession) -> None:
    rows = [(7, 1, (5,), (text,)) for text in ("b", "a", None, "c")]
    for given in (rows, rows[::-1], rows[2:] + rows[:2]):
        # One partition, in which rows come in this order.
        spark.createDataFrame(given, PAIR).coalesce(1).createOrReplaceTempView("raw_candidates")
        [found] = statements.run(spark, "11_candidates", {"as_of": 1_000}).collect()
        assert found["passthrough"]["item"] is None


AS_OF = dt.datetime(2026, 3, 28)


def ranked(
    spark: SparkSession, scores: list[tuple[int, int, float]], top: int = 99
) -> dict[tuple[int, int], int]:
    """(user, item, score) of scores to (user, item) and the rank."""
    rows = [(user, item, 0.5, 0.25, 0.125, score) for user, item, score in scores]
    kinds = "user_id bigint, item_id bigint, pctr double, pcvr double, pctcvr double, score double"
    spark.createDataFrame(rows, kinds).createOrReplaceTempView("scored")
    arguments = {"top": top, "model_version": "v1", "scored_at": AS_OF, "ds": "2026-03-28"}
    found = statements.run(spark, "12_ranked", arguments).collect()
    for row in found:
        assert (row["pctr"], row["pcvr"], row["pctcvr"]) == (0.5, 0.25, 0.125)
        assert (row["model_version"], row["scored_at"], row["ds"]) == ("v1", AS_OF, "2026-03-28")
    return {(row["user_id"], row["item_id"]): row["rank"] for row in found}


RANKED = {
    "the highest score is first": ([(1, 10, 0.1), (1, 11, 0.3), (1, 12, 0.2)], [3, 1, 2]),
    "each user has ranks of its own": ([(1, 10, 0.1), (2, 10, 0.3), (2, 11, 0.2)], [1, 1, 2]),
    "of equal ones the smaller item is first": ([(1, 12, 0.2), (1, 11, 0.2), (1, 10, 0.1)], [2, 1, 3]),
    "a single pair is first": ([(1, 10, 0.0)], [1]),
}


@pytest.mark.parametrize("case", RANKED)
def test_ranked(spark: SparkSession, case: str) -> None:
    scores, ranks = RANKED[case]
    assert ranked(spark, scores) == {
        (user, item): rank for (user, item, _), rank in zip(scores, ranks, strict=True)
    }


def test_of_each_user_the_first_ones_stay(spark: SparkSession) -> None:
    scores = [(1, 10, 0.1), (1, 11, 0.3), (1, 12, 0.2), (2, 10, 0.1)]
    assert ranked(spark, scores, top=2) == {(1, 11): 1, (1, 12): 2, (2, 10): 1}


SAMPLES = "item_id bigint, click tinyint, weight float"
PREDICTIONS = (
    "exposure_id bigint, item_id bigint, click tinyint, purchase tinyint, weight float, pctr double, pcvr double, "
    "pctcvr double, segments array<bigint>"
)
# Samples as (item, click, weight), the item asked for, and its popularity with a prior of 10 exposures.
POPULARITY = {
    "an item's own rate is mixed with that of all": (
        [(1, 1, 1.0), (1, 0, 1.0), (2, 0, 1.0), (2, 0, 1.0)], 1, (1 + 10 * 0.25) / (2 + 10),
    ),
    "an item without samples has the rate of all": ([(1, 1, 1.0), (2, 0, 1.0)], 3, 0.5),
    "a sample counts by its weight": (
        [(1, 1, 1.0), (1, 0, 4.0), (2, 1, 1.0), (2, 0, 4.0)], 1, (1 + 10 * 2 / 10) / (5 + 10),
    ),
    "without clicks, nobody is popular": ([(1, 0, 1.0)], 1, 0.0),
    "an item that is always clicked is not certain": ([(1, 1, 1.0), (2, 0, 1.0)], 1, (1 + 10 * 0.5) / (1 + 10)),
}  # fmt: skip


@pytest.mark.parametrize("case", POPULARITY)
def test_popularity(spark: SparkSession, case: str) -> None:
    samples, item, expected = POPULARITY[case]
    spark.createDataFrame(samples, SAMPLES).createOrReplaceTempView("samples")
    prediction = (77, item, 1, 0, 2.0, 0.5, 0.25, 0.125, [20, 3])
    spark.createDataFrame([prediction], PREDICTIONS).createOrReplaceTempView("predictions")
    [row] = statements.run(spark, "popularity", {"prior": 10.0}).collect()
    assert tuple(row)[:-1] == prediction
    assert row["popularity"] == pytest.approx(expected)
