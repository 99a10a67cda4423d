"""Users and rows in one stream: each row meets its own user, wherever batches end."""

from collections.abc import Iterator

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from esmm.by_user import groups, stream

STREAM = [
    ("a", None), (None, 1), (None, 2), (None, 3), ("b", None), ("c", None), (None, 4), (None, 5), ("d", None),
]  # fmt: skip
PAIRS = [("a", 1), ("a", 2), ("a", 3), ("c", 4), ("c", 5)]
KIND = pa.struct({"name": pa.string(), "clicked": pa.list_(pa.int64())})


def batches(size: int) -> Iterator[pa.RecordBatch]:
    users = [name and {"name": name, "clicked": [1, 2]} for name, _ in STREAM]
    rows = [row and {"item": row} for _, row in STREAM]
    for start in range(0, len(STREAM), size):
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(users[start : start + size], KIND),
                pa.array(rows[start : start + size], pa.struct({"item": pa.int64()})),
            ],
            ["user", "row"],
        )


@pytest.mark.parametrize("size", range(1, 10))
def test_rows_meet_their_user(size: int) -> None:
    found = []
    for users, rows, user_of_row in groups(batches(size)):
        assert sorted(user_of_row) == list(user_of_row)
        names = users.column("name").take(pa.array(user_of_row)).to_pylist()
        found += zip(names, rows.column("item").to_pylist(), strict=True)
    assert found == PAIRS


def test_a_user_leaves_spark_once_and_before_its_rows(spark: SparkSession) -> None:
    """Ids of 63 bits, in partitions of their own making, rows without an order."""
    ids = [2**63 - 1, 2**62, 0, 7]
    users = spark.createDataFrame([(one, [one]) for one in ids], "user_id bigint, clicked array<bigint>")
    pairs = [(one, item) for item in range(50) for one in ids]
    rows = spark.createDataFrame(pairs, "user_id bigint, item int").repartition(3)

    def taken_apart(each: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for users, rows, user_of_row in groups(each):
            clicked = pa.array(
                [one[0] for one in users.column("clicked").take(pa.array(user_of_row)).to_pylist()],
                pa.int64(),
            )
            yield pa.RecordBatch.from_arrays([clicked, rows.column("item")], ["user", "item"])

    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 7)
    try:
        sent = stream(users, rows)
        assert sent.where("user is not null").count() == 4
        found = sent.mapInArrow(taken_apart, "user bigint, item int").collect()
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    assert sorted((row["user"], row["item"]) for row in found) == sorted(pairs)
