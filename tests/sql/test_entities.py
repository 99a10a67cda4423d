"""01_entities: which version of an item or a user holds when."""

import pytest
from pyspark.sql import SparkSession

from esmm import statements

FOREVER, ALWAYS = 2**63 - 1, -(2**63)
TYPE = "entity_id bigint, valid_from bigint, features struct<seller: bigint>, reject_reason string"

CASES = {
    "the only version holds for ever": ([(ALWAYS, 4, None)], [(ALWAYS, FOREVER, 4)]),
    "a version holds until the next one begins": ([(10, 4, None), (20, 5, None)], [(10, 20, 4), (20, FOREVER, 5)]),
    "versions need not come in order": ([(20, 5, None), (10, 4, None)], [(10, 20, 4), (20, FOREVER, 5)]),
    "a version that comes twice is one": ([(10, 4, None), (10, 4, None)], [(10, FOREVER, 4)]),
    "a version that changes nothing is one of its own": (
        [(10, 4, None), (20, 4, None)], [(10, 20, 4), (20, FOREVER, 4)],
    ),
    "a rejected row ends no version": ([(10, 4, None), (20, 5, "no time")], [(10, FOREVER, 4)]),
    "a version without features is one": ([(10, 4, None), (20, None, None)], [(10, 20, 4), (20, FOREVER, None)]),
    "only rejected rows, no version": ([(10, 4, "no item")], []),
}  # fmt: skip


@pytest.fixture(scope="module")
def versions(spark: SparkSession) -> dict[int, list[tuple[int, int, int | None]]]:
    """Case to its versions: from, until and seller."""
    rows = [
        (case, valid_from, (seller,), reason)
        for case, (given, _) in enumerate(CASES.values(), start=1)
        for valid_from, seller, reason in given
    ]
    spark.createDataFrame(rows, TYPE).createOrReplaceTempView("raw_things")
    found: dict[int, list[tuple[int, int, int | None]]] = {case: [] for case in range(1, len(CASES) + 1)}
    for row in statements.run(spark, "01_entities", {"raw": "raw_things"}).collect():
        version = row["valid_from"], row["valid_until"], row["features"]["seller"]
        found[row["entity_id"]].append(version)
    return found


@pytest.mark.parametrize(("case", "name"), list(enumerate(CASES, start=1)), ids=list(CASES))
def test_versions(versions: dict[int, list[tuple[int, int, int | None]]], case: int, name: str) -> None:
    assert sorted(versions[case]) == CASES[name][1]


def test_of_two_versions_of_one_time_the_same_one_counts_in_any_order(spark: SparkSession) -> None:
    rows = [(1, 10, (seller,), None) for seller in range(6)]
    found = set()
    for given in (rows, rows[::-1], rows[3:] + rows[:3]):
        spark.createDataFrame(given, TYPE).createOrReplaceTempView("raw_things")
        [row] = statements.run(spark, "01_entities", {"raw": "raw_things"}).collect()
        found.add(row["features"]["seller"])
    assert len(found) == 1
