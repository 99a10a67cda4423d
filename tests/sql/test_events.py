"""01_entities, 02_events, 03_capped_events: what counts of a log with repetitions, versions and bots."""

from pyspark.sql import SparkSession

from esmm import statements
from tests.sql.timeline import MINUTE, clicked, register_events, shown

RAW = (
    "event_id bigint, user_id bigint, item_id bigint, exposure_id bigint, event_at bigint, "
    "features struct<device: bigint>, reject_reason string"
)


def register_raw(spark: SparkSession, exposures: list[tuple[object, ...]]) -> None:
    """The raw views, clicks and purchases empty."""
    for name, rows in (("exposures", exposures), ("clicks", []), ("purchases", [])):
        spark.createDataFrame(rows, RAW).createOrReplaceTempView(f"raw_{name}")


def test_of_events_with_one_id_the_earliest_counts(spark: SparkSession) -> None:
    register_raw(spark, [
        (1, 7, 5, 1, 30, (1,), None),
        (1, 7, 6, 1, 20, (2,), None),
        (1, 7, 5, 1, 20, (3,), None),
        (1, 8, 5, 1, 10, (4,), None),
        (2, 7, 5, 2, 5, (5,), "no time"),
    ])  # fmt: skip
    rows = statements.run(spark, "02_events").collect()
    found = {(row["user_id"], row["event_id"]): (row["event_at"], row["item_id"]) for row in rows}
    assert found == {(7, 1): (20, 5), (8, 1): (10, 5)}, (
        "the user is part of the key; rejected rows are not there"
    )


def test_which_copy_counts_does_not_depend_on_the_order_of_the_rows(spark: SparkSession) -> None:
    copies = [(1, 7, 5, 1, 20, (device,), None) for device in range(6)]
    found = set()
    for rows in (copies, copies[::-1], copies[3:] + copies[:3]):
        register_raw(spark, rows)
        found.add(statements.run(spark, "02_events").collect()[0]["features"]["device"])
    assert len(found) == 1


def test_a_cap_keeps_the_first_of_each_kind_of_the_users_day(spark: SparkSession) -> None:
    """Days of Paris: midnight is 22:00 UTC in summer."""
    late = 22 * 60
    register_events(
        spark,
        [
            [shown(n, late - 4 + n) for n in range(8)] + [clicked(10, late - 1)],
            [shown(21, 1), shown(20, 1), shown(22, 1)],
        ],
    )
    rows = statements.run(spark, "03_capped_events", {"most": 2, "time_zone": "Europe/Paris"}).collect()
    # 1970 had no summer time in Paris: its midnight was 23:00 UTC, after all of these.
    assert {row["event_id"] for row in rows} == {0, 1, 10, 20, 21}


def test_a_cap_begins_anew_at_local_midnight(spark: SparkSession) -> None:
    midnight = 23 * 60
    register_events(spark, [[shown(n, midnight - 4 + n) for n in range(8)]])
    rows = statements.run(spark, "03_capped_events", {"most": 2, "time_zone": "Europe/Paris"}).collect()
    assert {row["event_id"] for row in rows} == {0, 1, 4, 5}


def test_a_version_of_an_entity_holds_until_the_next(spark: SparkSession) -> None:
    rows = [
        (1, 20 * MINUTE, (5,), None),
        (1, 10 * MINUTE, (4,), None),
        (1, 10 * MINUTE, (4,), None),
        (2, -(2**63), (6,), None),
        (3, 0, (7,), "no item"),
    ]
    kind = "entity_id bigint, valid_from bigint, features struct<seller: bigint>, reject_reason string"
    spark.createDataFrame(rows, kind).createOrReplaceTempView("raw_things")
    found = {
        (row["entity_id"], row["valid_from"], row["valid_until"]): row["features"]["seller"]
        for row in statements.run(spark, "01_entities", {"raw": "raw_things"}).collect()
    }
    forever = 2**63 - 1
    assert found == {
        (1, 10 * MINUTE, 20 * MINUTE): 4,
        (1, 20 * MINUTE, forever): 5,
        (2, -(2**63), forever): 6,
    }
