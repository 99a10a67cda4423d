"""Samples from logs on disk: against the brute-force version, under disorder, and with bad input."""

import datetime as dt
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from esmm import features, samples, schema, statements, views
from esmm.config import Config, parse
from esmm.days import day_start
from esmm.errors import ConfigError, DataError
from esmm.publish import Table
from tests.brute_force import Event

ZONE = ZoneInfo("Europe/Paris")
DAYS = [dt.date(2026, 3, 28), dt.date(2026, 3, 29), dt.date(2026, 3, 30)]  # the second has 23 hours
MINUTE = 60_000_000
XXHASH64_SHOES = 0xCEE37D66CD38ED28


@pytest.fixture
def config(values: dict[str, Any]) -> Config:
    """Event ids as integers, so that a test can read them back; a short look-back, so that it bites."""
    values["attribution"] = {"click_window": "30m", "purchase_window": "3h"}
    values["lists"]["clicked"] |= {"look_back": "1d", "half_life": "6h"}
    return parse(values)


def write_log(path: str, ids: str, times: str, events: list[Event]) -> None:
    """One log as a single Parquet file."""
    table = pa.table(
        {
            ids: pa.array([event.id for event in events], pa.int64()),
            "user_id": pa.array([event.user for event in events], pa.int64()),
            "item_id": pa.array([event.item for event in events], pa.int64()),
            times: pa.array([event.at for event in events], pa.timestamp("us", "UTC")),
        }
    )
    if ids == "exposure_id":
        table = table.append_column("device", pa.array(["phone"] * len(events)))
    Path(path).mkdir(parents=True, exist_ok=True)
    pq.write_table(table, f"{path}/part-0.parquet")


def write_logs(
    config: Config, exposures: list[Event], clicks: list[Event], purchases: list[Event], items: int = 12
) -> None:
    """All five logs; item n is of seller 100 + n, brand 200 + n and so on."""
    write_log(config.logs.exposures.path, "exposure_id", "shown_at", exposures)
    write_log(config.logs.clicks.path, "click_id", "clicked_at", clicks)
    write_log(config.logs.purchases.path, "purchase_id", "bought_at", purchases)
    numbers = list(range(items))
    table = pa.table(
        {
            "item_id": pa.array(numbers, pa.int64()),
            "seller_id": pa.array([100 + n for n in numbers], pa.int64()),
            "brand_id": pa.array([200 + n for n in numbers], pa.int64()),
            "category": [f"c{n % 3}" for n in numbers],
            "subcategory": [f"s{n % 5}" for n in numbers],
            "price": [float(n) for n in numbers],
        }
    )
    users = pa.table({"user_id": pa.array(range(50), pa.int64()), "segment": ["new"] * 50})
    for log, rows in ((config.logs.items, table), (config.logs.users, users)):
        assert log is not None
        Path(log.path).mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, f"{log.path}/part-0.parquet")


def random_logs(seed: int, users: int = 40, items: int = 12, rows: int = 1_500) -> list[list[Event]]:
    """Exposures, clicks and purchases on a coarse grid of time, so that ties and edges are common."""
    rng = np.random.default_rng(seed)
    start, end = day_start(DAYS[0], ZONE), day_start(DAYS[-1] + dt.timedelta(days=1), ZONE)
    logs: list[list[Event]] = []
    for kind, share in enumerate((1.0, 0.6, 0.3)):
        count = int(rows * share)
        grid = rng.integers(0, (end - start) // (15 * MINUTE), count)
        ids = rng.permutation(count) + 1_000_000 * (kind + 1)
        user, item = rng.integers(0, users, count) ** 2 // users, rng.integers(0, items, count)
        events = [
            Event(int(ids[n]), int(user[n]), int(item[n]), int(start + grid[n] * 15 * MINUTE))
            for n in range(count)
        ]
        repeated = [events[n] for n in rng.integers(0, count, count // 20)]
        later = [event._replace(at=event.at + 15 * MINUTE) for event in repeated[: len(repeated) // 2]]
        everything = events + repeated + later
        logs.append([everything[n] for n in rng.permutation(len(everything))])
    return logs


def built(spark: SparkSession, config: Config, days: list[dt.date] = DAYS) -> dict[int, Row]:
    """Exposure id to the published row."""
    samples.build(spark, config, days, logs_until=dt.datetime(2026, 4, 10, tzinfo=ZONE)).or_raise()
    rows = spark.read.parquet(*Table(config.samples.table).files(days)).collect()
    assert len({row["exposure_id"] for row in rows}) == len(rows)
    return {row["exposure_id"]: row for row in rows}


def test_events_at_or_after_an_exposure_change_no_list(spark: SparkSession, config: Config) -> None:
    """Point in time: clicks added at or after an exposure's time leave its list as it was."""
    exposures, clicks, purchases = random_logs(3, rows=300)
    write_logs(config, exposures, clicks, purchases)
    before = built(spark, config)
    cut = sorted(event.at for event in exposures)[len(exposures) // 2]
    added = [Event(9_000_000 + n, n % 40, n % 12, cut + (n % 3) * MINUTE) for n in range(200)]
    write_logs(config, exposures, clicks + added, purchases)
    after = built(spark, config)
    lists = [column.name for column in schema.feature_columns(config) if column.length is not None]
    untouched = [key for key, row in before.items() if row["exposed_at"] <= cut]
    assert len(untouched) > 100
    for key in untouched:
        assert [before[key][name] for name in lists] == [after[key][name] for name in lists]
    assert any(before[key]["clicked_item"] != after[key]["clicked_item"] for key in before)


@pytest.mark.slow
def test_building_again_gives_the_same_files_contents(spark: SparkSession, config: Config) -> None:
    """Order of rows included; the files that were replaced stay for those who read them."""
    write_logs(config, *random_logs(4, rows=300))
    table = Table(config.samples.table)

    def contents() -> list[dict[str, Any]]:
        built(spark, config)
        return [pq.read_table(path.removeprefix("file://")).to_pydict() for path in table.files(DAYS)]

    assert contents() == contents()
    assert len(table.fs.glob(f"{table.path}/run=*/ds=*")) == 2 * len(DAYS)
    assert not table.fs.glob(f"{table.path}/_claims/*/*")


def test_the_manifest_counts_what_was_dropped_and_the_rejects_are_kept(
    spark: SparkSession, config: Config
) -> None:
    start = day_start(DAYS[0], ZONE)
    exposures = [Event(1, 1, 1, start), Event(1, 1, 1, start), Event(2, -5, 1, start), Event(3, 2, 1, start)]
    clicks = [Event(10, 1, 1, start + MINUTE), Event(11, 1, 2, start + MINUTE)]
    write_logs(config, exposures, clicks, [Event(20, 1, 1, start + 2 * MINUTE)])
    path = Path(config.logs.items.path) / "part-0.parquet"
    items = pq.read_table(path)
    pq.write_table(
        pa.concat_tables(
            [
                items,
                items.slice(1, 2),
                items.slice(0, 1).set_column(
                    items.column_names.index("item_id"), "item_id", pa.array([None], pa.int64())
                ),
            ]
        ),
        path,
    )
    manifest = samples.build(spark, config, DAYS[:1], allow_immature=True).or_raise()[0]
    assert manifest.immature
    assert manifest.rows == 2
    assert {name: rows for name, rows in manifest.counts.items() if rows} == {
        "exposures read": 4, "exposures negative user": 1, "exposures duplicate": 1, "exposures credited": 2,
        "clicks read": 2, "clicks orphan": 1, "clicks credited": 1,
        "purchases read": 1, "purchases credited": 1,
        "items no item": 1, "items duplicate": 2,
        "samples": 2, "clicked": 1, "bought": 1,
    }  # fmt: skip
    table = Table(f"{config.samples.table}_rejects")
    rows = sorted(spark.read.parquet(*table.files(DAYS[:1])).collect(), key=lambda row: row["log"])
    assert [(row["log"], row["reason"]) for row in rows] == [
        ("exposures", "negative user"),
        ("items", "no item"),
    ]
    assert '"user_id":-5' in rows[0]["original"]
    assert '"item_id"' not in rows[1]["original"]
    # What was mended is not rejected any more.
    write_logs(config, exposures[:2], clicks, [Event(20, 1, 1, start + 2 * MINUTE)])
    samples.build(spark, config, DAYS[:1], allow_immature=True).or_raise()
    assert table.days() == []


def test_logs_of_text(spark: SparkSession, values: dict[str, Any]) -> None:
    """Exposures as JSON, clicks and items as CSV: what Parquet would have given."""
    types = {"user_id": "bigint", "item_id": "bigint"}
    of_logs = {
        "exposures": ("json", types | {"exposure_id": "bigint", "shown_at": "timestamp"}),
        "clicks": ("csv", types | {"click_id": "bigint", "clicked_at": "timestamp"}),
        "items": (
            "csv",
            {"item_id": "bigint", "seller_id": "bigint", "brand_id": "bigint", "price": "double"},
        ),
    }
    for name, (form, columns) in of_logs.items():
        values["logs"][name] |= {"format": form, "types": columns}
    config = parse(values)
    start = day_start(DAYS[0], ZONE)
    shown = [Event(n, n % 2, n, start + n * MINUTE) for n in range(6)]
    write_logs(config, shown, [Event(9, 1, 1, start + MINUTE + 1)], [Event(10, 1, 1, start + 2 * MINUTE)])
    for name, (form, _) in of_logs.items():
        path = Path(getattr(config.logs, name).path)
        rows = spark.read.parquet(str(path)).toPandas()
        for column in rows.select_dtypes("datetime"):
            rows[column] = (
                rows[column].dt.tz_localize("UTC").dt.tz_convert("Europe/Paris").dt.tz_localize(None)
            )
            rows[column] = rows[column].dt.strftime("%Y-%m-%d %H:%M:%S.%f")
        (path / "part-0.parquet").unlink()
        file = path / f"part-0.{form}"
        rows.to_csv(file, index=False) if form == "csv" else rows.to_json(file, orient="records", lines=True)
    found = built(spark, config, DAYS[:1])
    assert {
        (key, row["exposed_at"], row["click"], row["purchase"], row["seller"]) for key, row in found.items()
    } == {(event.id, event.at, int(event.id == 1), int(event.id == 1), 100 + event.item) for event in shown}
    assert [found[number]["clicked_item"][0] for number in range(6)] == [-1, -1, -1, 1, -1, 1]


def test_string_ids_are_hashed_and_empty_ones_are_absent(spark: SparkSession, config: Config) -> None:
    start = day_start(DAYS[0], ZONE)
    write_logs(config, [Event(1, 1, 1, start)], [Event(2, 1, 1, start)], [Event(3, 1, 1, start)])
    path = Path(config.logs.items.path) / "part-0.parquet"
    items = pq.read_table(path)
    categories = pa.array(["shoes", "", None] * 4)
    pq.write_table(items.set_column(items.column_names.index("category"), "category", categories), path)
    spark.catalog.clearCache()
    views.register_entities(spark, config, views.open_log(spark, config, "exposures"))
    found = {row["entity_id"]: row["features"]["category"] for row in spark.table("items").collect()}
    # xxHash64 of "shoes" with seed 42, from the reference implementation, its sign bit cleared.
    assert found[0] == XXHASH64_SHOES & 0x7FFFFFFFFFFFFFFF
    assert (found[1], found[2]) == (-1, -1)


class TestBadInput:
    """Each ends in one clear line and leaves nothing half-written."""

    @pytest.fixture(autouse=True)
    def logs(self, config: Config) -> None:
        start = day_start(DAYS[0], ZONE)
        write_logs(config, [Event(1, 1, 1, start)], [Event(2, 1, 1, start)], [Event(3, 1, 1, start)])

    def refused(self, spark: SparkSession, config: Config, days: list[dt.date], kind: type[Exception]) -> str:
        with pytest.raises(kind) as caught:
            samples.build(spark, config, days, logs_until=dt.datetime(2026, 4, 10, tzinfo=ZONE)).or_raise()
        assert Table(config.samples.table).days() == []
        assert not list(Path(config.samples.table).glob("run=*"))
        return str(caught.value)

    def test_missing_column(self, spark: SparkSession, values: dict[str, Any]) -> None:
        values["logs"]["clicks"]["columns"]["time"] = "clicked"
        message = self.refused(spark, parse(values), DAYS[:1], DataError)
        assert message.startswith("logs.clicks.columns.time: expected a column of ")
        assert "no column 'clicked' (columns: click_id, user_id, item_id, clicked_at)" in message

    def test_feature_of_a_column_that_is_not_there(self, spark: SparkSession, values: dict[str, Any]) -> None:
        values["features"]["price"]["source"] = "items.prise"
        message = self.refused(spark, parse(values), DAYS[:1], ConfigError)
        assert message.startswith("features.price.source: expected a column of ")
        assert "no column 'prise'" in message

    def test_empty_log(self, spark: SparkSession, config: Config) -> None:
        write_log(config.logs.clicks.path, "click_id", "clicked_at", [])
        message = self.refused(spark, config, DAYS[:1], DataError)
        assert message == "logs.clicks.path: expected at least one row, found an empty log"

    def test_missing_log(self, spark: SparkSession, values: dict[str, Any]) -> None:
        values["logs"]["purchases"]["path"] += "/nowhere"
        message = self.refused(spark, parse(values), DAYS[:1], DataError)
        assert message.startswith("logs.purchases.path: expected Parquet files, found nothing there")

    def test_day_without_logs(self, spark: SparkSession, config: Config) -> None:
        with pytest.raises(DataError) as caught:
            built(spark, config, DAYS[:2])
        assert str(caught.value) == "logs.exposures: expected exposures on 2026-03-29, found none"
        assert Table(config.samples.table).days() == DAYS[:1], "one day's failure leaves the others"

    def test_a_file_that_one_day_needs_and_that_cannot_be_read(
        self, spark: SparkSession, values: dict[str, Any]
    ) -> None:
        """What is filed under April 1 may be a click of the 29th in some time zone, but not of the 28th.

        What is filed a year before matters to neither, though its file is the first, whose columns Spark would take,
        and the largest, where it would look for a row.
        """
        values["logs"]["clicks"] |= {"day_column": "day"}
        config = parse(values)
        at = [day_start(day, ZONE) for day in DAYS]
        write_logs(config, [Event(n, n, 1, at[n]) for n in range(2)], [], [Event(3, 1, 1, at[0])])
        clicks = Path(config.logs.clicks.source)
        (clicks / "part-0.parquet").unlink()
        write_log(f"{clicks}/day={DAYS[0]}", "click_id", "clicked_at", [Event(2, 0, 1, at[0])])
        write_log(f"{clicks}/day=2026-04-01", "click_id", "clicked_at", [])
        (clicks / "day=2026-04-01/part-0.parquet").write_bytes(b"no Parquet at all")
        (clicks / "day=2025-01-01").mkdir()
        (clicks / "day=2025-01-01/part-0.parquet").write_bytes(b"no Parquet at all" * 10_000)
        found = samples.build(spark, config, DAYS[:2], logs_until=dt.datetime(2026, 4, 10, tzinfo=ZONE))
        assert [(each.day, each.rows) for each in found.published] == [(DAYS[0], 1)]
        assert list(found.failures) == DAYS[1:2]
        assert "day=2026-04-01/part-0.parquet: expected a path that can be read" in str(
            found.failures[DAYS[1]]
        )
        assert Table(config.samples.table).days() == DAYS[:1]
        assert found.published[0].run.endswith(f".{DAYS[0]}"), "a part of the run that holds the claims"

    def test_immature_day(self, spark: SparkSession, config: Config) -> None:
        with pytest.raises(DataError) as caught:
            samples.build(
                spark, config, DAYS[:1], logs_until=dt.datetime(2026, 3, 29, 3, 29, tzinfo=ZONE)
            ).or_raise()
        assert str(caught.value) == (
            "maturity of 2026-03-28: expected logs until 2026-03-29 04:30:00, the day's end and both windows "
            "(or --allow-immature), found logs until 2026-03-29 03:29:00"
        )
        assert Table(config.samples.table).days() == []

    def test_failing_check(
        self, spark: SparkSession, config: Config, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A sample doubled on its way to the table is caught before it is published."""
        monkeypatch.setattr(features, "described", lambda *args: DESCRIBED(*args).unionAll(DESCRIBED(*args)))
        message = self.refused(spark, config, DAYS[:1], DataError)
        assert message.startswith("sql/checks/unique_exposure.sql: expected no rows that break it, found ")

    def test_a_statement_that_doubles_rows(
        self, spark: SparkSession, config: Config, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that no check of the samples can see: a click that counts twice labels as one that counts once."""

        def run(session: SparkSession, name: str, *arguments: Any) -> DataFrame:
            rows = RUN(session, name, *arguments)
            return rows.unionAll(rows.where("kind = 1")) if name == "02_events" else rows

        monkeypatch.setattr(statements, "run", run)
        message = self.refused(spark, config, DAYS[:1], DataError)
        expected = "no more rows out of a stage than into it, found -1 clicks duplicate"
        assert message == f"counts of {DAYS[0]}: expected {expected}"

    def test_a_check_that_fails_on_one_day_leaves_the_other(
        self, spark: SparkSession, config: Config, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also where more rows break it than are shown."""
        times = [day_start(DAYS[n // 7], ZONE) + n * MINUTE for n in range(14)]
        write_logs(config, [Event(n, n, 1, at) for n, at in enumerate(times)],
                   [Event(20, 1, 1, times[1])], [Event(30, 1, 1, times[1])])  # fmt: skip

        def doubled(*args: Any) -> DataFrame:
            made = DESCRIBED(*args)
            return made.unionAll(made.where(f"ds = '{DAYS[0]}'"))

        monkeypatch.setattr(features, "described", doubled)
        built = samples.build(spark, config, DAYS[:2], logs_until=dt.datetime(2026, 4, 10, tzinfo=ZONE))
        assert (
            [manifest.day for manifest in built.published] == Table(config.samples.table).days() == [DAYS[1]]
        )
        assert list(built.failures) == [DAYS[0]]
        assert built.failures[DAYS[0]].found.count("'samples': 2") == 5


DESCRIBED, RUN = features.described, statements.run
