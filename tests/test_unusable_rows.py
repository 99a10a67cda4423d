"""Rows that are of no use, and days that nothing is left of: counted and said, never overlooked."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark import TaskContext
from pyspark.sql import SparkSession

from esmm import samples, tables
from esmm.config import Config, parse
from esmm.days import day_start
from esmm.errors import ConfigError, DataError
from esmm.publish import Table
from esmm.storage import at
from tests.brute_force import Event
from tests.test_samples import DAYS, MINUTE, ZONE, write_log, write_logs

FIRST, SECOND = DAYS[:2]
UNTIL = dt.datetime(2026, 4, 10, tzinfo=ZONE)
START = day_start(FIRST, ZONE)
SHOWN = [Event(n, n % 40, n % 12, START + n * MINUTE) for n in range(1, 100)]
CLICKED = [Event(n, n % 40, n % 12, START + n * MINUTE + 1) for n in range(1, 60)]
BOUGHT = [Event(1, 1, 1, START + MINUTE + 2)]


@pytest.mark.slow
def test_a_day_that_sampling_leaves_nothing_of_fails_alone(
    spark: SparkSession, values: dict[str, Any]
) -> None:
    values["samples"]["keep_unclicked"] = 0.000_001
    config = parse(values)
    unclicked = Event(5_000, 1, 1, day_start(SECOND, ZONE) + MINUTE)
    write_logs(config, [*SHOWN, unclicked], CLICKED, BOUGHT)
    built = samples.build(spark, config, [FIRST, SECOND], logs_until=UNTIL)
    assert [(manifest.day, manifest.rows) for manifest in built.published] == [(FIRST, 59)]
    expected = f"samples of {SECOND}: expected at least one row, found none of 1 exposures kept"
    assert {day: str(error) for day, error in built.failures.items()} == {SECOND: expected}
    again = samples.build(spark, config, [SECOND], logs_until=UNTIL)
    assert {day: str(error) for day, error in again.failures.items()} == {SECOND: expected}


@pytest.mark.parametrize("day", ["__HIVE_DEFAULT_PARTITION__", "yesterday"])
def test_rows_that_are_filed_under_no_day_are_rejected(
    spark: SparkSession, values: dict[str, Any], day: str
) -> None:
    values["logs"]["clicks"]["day_column"] = "day"
    config = parse(values)
    write_logs(config, SHOWN, CLICKED, BOUGHT)
    Path(config.logs.clicks.path, "part-0.parquet").unlink()
    write_log(f"{config.logs.clicks.path}/day={FIRST}", "click_id", "clicked_at", CLICKED[:40])
    write_log(f"{config.logs.clicks.path}/day={day}", "click_id", "clicked_at", CLICKED[40:])
    [manifest] = samples.build(spark, config, [FIRST], logs_until=UNTIL).or_raise()
    counts = manifest.counts
    assert (counts["clicks read"], counts["clicks filed under no day"], counts["clicked"]) == (59, 19, 40)


def test_days_that_spark_takes_for_numbers_are_refused(spark: SparkSession, values: dict[str, Any]) -> None:
    values["logs"]["clicks"]["day_column"] = "day"
    config = parse(values)
    write_logs(config, SHOWN, CLICKED, BOUGHT)
    Path(config.logs.clicks.path, "part-0.parquet").unlink()
    write_log(f"{config.logs.clicks.path}/day=20260328", "click_id", "clicked_at", CLICKED)
    with pytest.raises(
        DataError, match=r"^logs.clicks.day_column: expected days written YYYY-MM-DD, found int$"
    ):
        samples.build(spark, config, [FIRST], logs_until=UNTIL)


def test_a_row_that_is_rejected_makes_no_day_mature(spark: SparkSession, values: dict[str, Any]) -> None:
    values["logs"]["clicks"]["day_column"] = "day"
    config = parse(values)
    late = Event(99, 1, 1, START + 20 * 24 * 60 * MINUTE)
    write_logs(config, SHOWN, CLICKED, BOUGHT)
    Path(config.logs.clicks.path, "part-0.parquet").unlink()
    write_log(f"{config.logs.clicks.path}/day={FIRST}", "click_id", "clicked_at", [*CLICKED, late])
    built = samples.build(spark, config, [FIRST])
    assert not built.published
    assert str(built.failures[FIRST]).startswith(f"maturity of {FIRST}: expected logs until")


def test_times_of_no_use_are_rejected_whatever_their_size(
    spark: SparkSession, values: dict[str, Any]
) -> None:
    values["logs"]["clicks"]["time_unit"] = "seconds"
    config = parse(values)
    write_logs(config, SHOWN, CLICKED, BOUGHT)
    times = [event.at / 1e6 for event in CLICKED[:-3]] + [float("nan"), 1e15, -1e15]
    path = f"{config.logs.clicks.path}/part-0.parquet"
    table = pq.read_table(path)
    at_column = table.column_names.index("clicked_at")
    pq.write_table(
        table.set_column(at_column, "clicked_at", pa.array(times)),
        f"{config.logs.clicks.path}/part-0.parquet",
    )
    [manifest] = samples.build(spark, config, [FIRST], logs_until=UNTIL).or_raise()
    assert manifest.counts["clicked"] == 56


def test_features_of_no_use_are_absent(spark: SparkSession, values: dict[str, Any]) -> None:
    """Numbers that are not finite, and ids below 0, as logs have them for unknown: alone and in lists."""
    config = parse(values)
    write_logs(config, SHOWN, CLICKED, BOUGHT)
    path = f"{config.logs.items.path}/part-0.parquet"
    table = pq.read_table(path)
    prices = [float("nan"), float("inf"), -float("inf"), *table["price"].to_pylist()[3:]]
    table = table.set_column(table.column_names.index("price"), "price", pa.array(prices))
    sellers = pa.array([-1, -99, *table["seller_id"].to_pylist()[2:]])
    pq.write_table(table.set_column(table.column_names.index("seller_id"), "seller_id", sellers), path)
    samples.build(spark, config, [FIRST], logs_until=UNTIL).or_raise()
    rows = spark.read.parquet(*Table(config.samples.table).files([FIRST]))
    found = {row["item_id"]: row["price"] for row in rows.select("item_id", "price").distinct().collect()}
    assert [found[item] for item in (0, 1, 2, 3)] == [0.0, 0.0, 0.0, 3.0]
    alone = {(row["item_id"], row["seller"]) for row in rows.collect()}
    assert alone == {(0, -1), (1, -1)} | {(item, 100 + item) for item in range(2, 12)}
    in_lists = {
        pair
        for row in rows.collect()
        for pair in zip(row["clicked_item"], row["clicked_seller"], strict=True)
    }
    assert (1, -1) in in_lists
    assert min(seller for _, seller in in_lists) == -1


def test_rejects_are_one_file_a_day_but_not_the_work_of_one_task(spark: SparkSession, config: Config) -> None:
    def task(rows: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in rows:
            number = pa.array([f"task {TaskContext.get().partitionId()}"] * batch.num_rows)
            yield pa.RecordBatch.from_arrays([number, batch["ds"]], names=["log", "ds"])

    rejects = spark.range(400, numPartitions=4).selectExpr(f"if(id % 2 = 0, '{FIRST}', '{SECOND}') as ds")
    rejects.mapInArrow(task, "log string, ds string").createOrReplaceTempView("rejects")
    samples.publish_rejects(spark, config, {FIRST: 200, SECOND: 200}, "run")
    files = tables.rejects(config, spark).files([FIRST, SECOND])
    assert len(files) == 2
    assert spark.read.parquet(*files).select("log").distinct().count() == 4


def test_rejects_that_are_not_those_counted_are_not_published(spark: SparkSession, config: Config) -> None:
    """Such as where a file of the logs comes in between."""
    columns = [f"'{FIRST}' as ds", "'clicks' as log"]
    spark.range(10).selectExpr(*columns).createOrReplaceTempView("rejects")
    with pytest.raises(DataError, match=rf"^rejects of {SECOND}: expected 4 rows, as counted, found 0$"):
        samples.publish_rejects(spark, config, {FIRST: 10, SECOND: 4}, "run")
    table = tables.rejects(config, spark)
    assert table.days() == []
    assert not table.fs.glob(f"{table.path}/run=*")


def test_a_password_inside_a_chained_address_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="passwords in the config's `storage`") as caught:
        at("simplecache::memory://key:secret@bucket/a")
    assert "secret" not in str(caught.value)
