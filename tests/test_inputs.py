"""Logs of every format and way of telling the time, to the same rows."""

import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm import failures, log_rows
from esmm.config import IdFeature, Log
from esmm.errors import ConfigError, DataError
from esmm.inputs import Input

# 2026-03-29 is the day on which Paris goes from UTC+1 to UTC+2, at 02:00.
TIMES = [dt.datetime(2026, 3, 29, 0, 30, tzinfo=dt.UTC), dt.datetime(2026, 3, 29, 1, 30, tzinfo=dt.UTC)]
LOCAL = ["2026-03-29 01:30:00", "2026-03-29 03:30:00"]
MICROS = [1774744200_000_000, 1774747800_000_000]


def rows(spark: SparkSession, log: Log, zone: str = "Europe/Paris") -> list[dict[str, Any]]:
    """What the SQL gets to see, by event."""
    frame = log_rows.events(Input(spark, "logs.clicks", log, zone), {})
    return sorted((row.asDict() for row in frame.collect()), key=lambda row: str(row["original"]))


def write(directory: Path, **columns: Any) -> str:
    pq.write_table(pa.table(columns), directory / "part-0.parquet")
    return str(directory)


IDS: dict[str, Any] = {"event_id": [1, 2], "user_id": [10, 20], "item_id": [100, 200]}
PARQUET = {
    "timestamps": (pa.array(TIMES, pa.timestamp("us", "UTC")), {}),
    "timestamps without a zone": (
        pa.array([dt.datetime.fromisoformat(t) for t in LOCAL], pa.timestamp("us")),
        {},
    ),
    "timestamps without a zone, which the log gives": (
        pa.array([time.replace(tzinfo=None) for time in TIMES], pa.timestamp("us")),
        {"time_zone": "UTC"},
    ),
    "seconds": ([m // 1_000_000 for m in MICROS], {"time_unit": "seconds"}),
    "seconds in 32 bits": (
        pa.array([m // 1_000_000 for m in MICROS], pa.int32()),
        {"time_unit": "seconds"},
    ),
    "seconds with a fraction": ([m / 1e6 for m in MICROS], {"time_unit": "seconds"}),
    "milliseconds": ([m // 1_000 for m in MICROS], {"time_unit": "milliseconds"}),
    "text of the config's zone": (LOCAL, {"time_unit": "text"}),
    "text of the log's zone": (
        [f"{time:%d/%m/%Y %H:%M}" for time in TIMES],
        {"time_unit": "text", "time_pattern": "dd/MM/yyyy HH:mm", "time_zone": "UTC"},
    ),
    "text with an offset": (
        ["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"],
        {"time_unit": "text", "time_pattern": "yyyy-MM-dd'T'HH:mm:ssXXX"},
    ),
    "text with an offset without a colon": (
        ["2026-03-29T01:30:00+0100", "2026-03-29T03:30:00+0200"],
        {"time_unit": "text", "time_pattern": "yyyy-MM-dd'T'HH:mm:ssZ"},
    ),
}


@pytest.mark.parametrize("case", PARQUET)
def test_times(spark: SparkSession, tmp_path: Path, case: str) -> None:
    values, options = PARQUET[case]
    log = Log(path=write(tmp_path, **IDS, time=values), **options)
    found = rows(spark, log)
    assert [row["event_at"] for row in found] == MICROS
    assert [row["reject_reason"] for row in found] == [None, None]


def test_numbers_that_are_no_time_are_unreadable(spark: SparkSession, tmp_path: Path) -> None:
    """Microseconds taken for seconds would wrap around in int64; NaN would be 1970, infinity the end of time."""
    for case, values in (
        ("whole", pa.array([MICROS[0], MICROS[0] // 1_000_000])),
        ("fractions", pa.array([float("nan"), MICROS[0] / 1e6])),
        ("infinite", pa.array([float("inf"), MICROS[0] / 1e6])),
    ):
        directory = tmp_path / case
        directory.mkdir()
        found = rows(spark, Log(path=write(directory, **IDS, time=values), time_unit="seconds"))
        by_event = {row["event_id"]: (row["event_at"], row["reject_reason"]) for row in found}
        assert by_event == {1: (None, "unreadable time"), 2: (MICROS[0], None)}


@pytest.mark.parametrize("last", [MICROS[0] + 1, 7 * 10**15])
def test_seconds_in_32_bits_are_pruned_by_bounds_that_have_no_room_in_them(
    spark: SparkSession, tmp_path: Path, last: int
) -> None:
    path = write(tmp_path, **IDS, time=pa.array([m // 1_000_000 for m in MICROS], pa.int32()))
    log = Input(spark, "logs.clicks", Log(path=path, time_unit="seconds"), "UTC")
    frame = log.between(MICROS[0], last).frame
    assert [row["event_id"] for row in frame.collect()] == ([1] if last < MICROS[1] else [1, 2])
    assert "GreaterThanOrEqual(time,1774744200)" in frame._jdf.queryExecution().executedPlan().toString()
    assert log.frame.count() == 2, "the log itself is still whole"


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("form", ["csv", "json"])
def test_text_files(spark: SparkSession, tmp_path: Path, form: str, zipped: bool) -> None:
    """Columns are strings unless the config says otherwise; two files may have their columns in two orders."""
    records = [
        {"user_id": "u1", "item_id": 100, "time": LOCAL[0]},
        {"user_id": "u2", "item_id": 200, "time": LOCAL[1]},
    ]
    for number, record in enumerate(records):
        if form == "json":
            text = json.dumps(dict(reversed(record.items()) if number else record.items()))
        else:
            text = ",".join(record) + "\n" + ",".join(map(str, record.values())) + "\n"
        path = tmp_path / f"{number}.{form}{'.gz' if zipped else ''}"
        path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    log = Log(path=str(tmp_path), format=form, types={"item_id": "bigint"}, time_unit="text")
    found = rows(spark, log)
    assert {(row["item_id"], row["event_at"]) for row in found} == {(100, MICROS[0]), (200, MICROS[1])}
    assert all(row["user_id"] > 1_000_000 for row in found), "strings are hashed"
    frame = Input(spark, "logs.clicks", log, "UTC").frame
    assert not frame.isEmpty()
    assert frame.count() == 2


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_names_of_columns_are_taken_as_they_are(spark: SparkSession, tmp_path: Path, form: str) -> None:
    """A dot in one makes no field of a struct of it, and a backtick ends no quotation."""
    record = {"agent.name": "phone", "who.id": 7, "an `item`": 100, "at.s": MICROS[0] // 1_000_000}
    day = tmp_path / "filed.on=2026-03-29"
    day.mkdir()
    if form == "parquet":
        write(day, **{name: [value] for name, value in record.items()})
    elif form == "json":
        (day / "a.json").write_text(json.dumps(record))
    else:
        (day / "a.csv").write_text(",".join(record) + "\n" + ",".join(map(str, record.values())) + "\n")
    log = Log(
        path=str(tmp_path),
        format=form,
        types={} if form == "parquet" else {"who.id": "bigint", "an `item`": "bigint", "at.s": "bigint"},
        columns={"user_id": "who.id", "item_id": "an `item`", "time": "at.s"},
        time_unit="seconds",
        day_column="filed.on",
    )
    source = Input(spark, "logs.clicks", log, "UTC")
    assert not source.frame.isEmpty()
    feature = IdFeature(kind="id", source="exposures.agent.name", embedding="context")
    [row] = log_rows.events(source.between(MICROS[0], MICROS[0]), {"agent": feature}).collect()
    assert (row["user_id"], row["item_id"], row["event_at"]) == (7, 100, MICROS[0])
    assert row["features"]["agent"] > 1_000_000, "strings are hashed"
    assert (row["filed_on"], row["reject_reason"]) == ("2026-03-29", None)
    assert log_rows.events(source.between(MICROS[0] + 10**13, MICROS[0] + 10**13), {}).isEmpty()


@pytest.mark.parametrize("zone", [None, "America/New_York"])
@pytest.mark.parametrize("form", ["csv", "json"])
def test_timestamps_in_text_files_are_of_the_logs_zone(
    spark: SparkSession, tmp_path: Path, form: str, zone: str | None
) -> None:
    """Where neither the text nor the log says a zone, of the config's; 00:30 UTC is 20:30 of the day before there."""
    local = "2026-03-28 20:30:00" if zone else LOCAL[0]
    lines = {
        "csv": f"user_id,item_id,time\nu,1,{local}\nu,1,2026-03-29T03:30:00+02:00\n",
        "json": f'{{"user_id": "u", "item_id": 1, "time": "{local}"}}\n'
        '{"user_id": "u", "item_id": 1, "time": "2026-03-29T03:30:00+02:00"}\n',
    }
    (tmp_path / f"a.{form}").write_text(lines[form])
    log = Log(path=str(tmp_path), format=form, types={"time": "timestamp"}, time_zone=zone)
    assert [row["event_at"] for row in rows(spark, log)] == MICROS


def test_of_json_a_few_files_tell_the_columns(spark: SparkSession, tmp_path: Path) -> None:
    """Of thirty files ten, the first and the last among them; what only others have is asked for by its type."""
    only = {0: "first", 1: "other", 29: "last"}
    for number in range(30):
        folder = tmp_path / f"day=2026-02-{number // 2 + 1:02d}"
        folder.mkdir(exist_ok=True)
        record = {"user_id": 1, only.get(number, "item_id"): number}
        (folder / f"part [{number:02d}] 100%.json").write_text(json.dumps(record))
    path = str(tmp_path)
    frame = Input(spark, "logs.clicks", Log(path=path, format="json"), "UTC").frame
    assert frame.columns == ["first", "item_id", "last", "user_id", "day"]
    typed = Input(spark, "logs.clicks", Log(path=path, format="json", types={"other": "bigint"}), "UTC").frame
    assert typed.select("day", "user_id").where("other = 1").collect() == [("2026-02-01", "1")]
    assert typed.count() == 30


def test_a_rare_column_of_json_is_looked_for_where_it_may_be_asked_for(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Of thirty files one has each, and none of them is among the ten: writers such as Spark's leave nulls out."""
    rare = {1: {"exposure_id": "e1"}, 7: {"device": "phone"}, 11: {"buyer": "u1"}, 13: {"other": 1}}
    for number in range(30):
        folder = tmp_path / f"day=2026-02-{number // 2 + 1:02d}"
        folder.mkdir(exist_ok=True)
        record = {"item_id": number, "time": "2026-02-01 12:00:00", **rare.get(number, {})}
        (folder / f"part-{number:02d}.json").write_text(json.dumps(record))
    log = Log(path=str(tmp_path), format="json", columns={"user_id": "buyer"}, day_column="day")

    def opened(**asked: Any) -> Input:
        return Input(spark, "logs.clicks", log, "UTC", **asked)

    assert opened().frame.columns == ["item_id", "time", "buyer", "day"]
    source = opened(roles=["item_id", "event_id", "exposure_id"], columns=["device", "price"])
    assert source.frame.columns == ["item_id", "time", "buyer", "device", "exposure_id", "day"]
    assert [source.has(role) for role in ("user_id", "exposure_id", "event_id")] == [True, True, False]
    assert source.frame.where("exposure_id = 'e1' or device = 'phone' or buyer = 'u1'").count() == 3
    with pytest.raises(DataError) as caught:
        source.kind("price", "features.price.source")
    assert "no column 'price' in any file (columns: item_id, time, buyer" in str(caught.value)

    noon = int(dt.datetime(2026, 2, 6, 12, tzinfo=dt.UTC).timestamp() * 1e6)  # of days 5 to 8, with a margin
    source = opened(roles=["item_id", "exposure_id"], columns=["device"], times=(noon, noon))
    assert {"buyer", "device"} <= {*source.frame.columns}
    assert not source.has("exposure_id"), "of days that do not matter"
    assert source.frame.count() == 30, "of all days"


HEADER = b"user_id,item_id,time\n1,100,2026-03-29 00:30:00\n"
OBJECT = b'{"user_id": 1, "item_id": 100, "time": "2026-03-29 00:30:00"}\n'
NO_ZIP = gzip.compress(b"")[:10] + b"\xff" * 900
DAMAGED = {
    "a CSV that is something else": ("csv", "csv", b"no, CSV\n" * 100, HEADER),
    "a CSV that is not unzipped": ("csv", "csv.gz", NO_ZIP, gzip.compress(HEADER)),
    "JSON that is not unzipped": ("json", "json.gz", NO_ZIP, gzip.compress(OBJECT)),
    "JSON that is something else": ("json", "json", b"\x00\xff\xfe", OBJECT),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_of_another_day_hides_no_column(
    spark: SparkSession, tmp_path: Path, case: str
) -> None:
    """The first and largest of the log, and one of the days that matter, which those who need its rows will find."""
    form, ending, damaged, good = DAMAGED[case]
    days = {"2025-01-01": damaged, "2026-03-29": good}
    for day, data in days.items():
        folder = tmp_path / f"day={day}"
        folder.mkdir()
        (folder / f"b.{ending}").write_bytes(data)
    log = Log(path=str(tmp_path), format=form, time_unit="text", day_column="day")
    source = Input(spark, "logs.clicks", log, "UTC", roles=["user_id"], times=(MICROS[0], MICROS[0]))
    assert source.frame.columns == ["user_id", "item_id", "time", "day"] or form == "json"
    [row] = log_rows.events(source.between(MICROS[0], MICROS[0]), {}).collect()
    assert (row["event_at"], row["reject_reason"]) == (MICROS[0], None)
    if ending.endswith("gz"):
        (tmp_path / "day=2026-03-29/a.gz").write_bytes(damaged)
        source = Input(spark, "logs.clicks", log, "UTC", roles=["user_id"], times=(MICROS[0], MICROS[0]))
        with pytest.raises(Exception, match="Job aborted") as caught:
            log_rows.events(source.between(MICROS[0], MICROS[0]), {}).collect()
        found = failures.explained(caught.value)
        assert isinstance(found, DataError)


def test_a_log_of_which_nothing_can_be_read(spark: SparkSession, tmp_path: Path) -> None:
    """The file is named, not a column that is missing."""
    for form in ("csv", "json", "parquet"):
        path = tmp_path / f"{form}.gz"
        path.write_bytes(gzip.compress(HEADER)[:15])
        with pytest.raises(Exception, match="Job aborted") as caught:
            Input(spark, "logs.clicks", Log(path=str(path), format=form))
        found = failures.explained(caught.value)
        assert found is not None
        assert found.where.endswith(str(path))


LINES = {
    "a CSV with a column too few": ("csv", "user_id,item_id,time\nu1,100,t\nu2,200\n", "u2,200"),
    "a CSV with a column too many": ("csv", "user_id,item_id,time\nu1,100,t,x\n", "u1,100,t,x"),
    "a value that is not of its type": ("csv", "user_id,item_id,time\nu1,one,t\n", "u1,one,t"),
    "a line that is no JSON": (
        "json",
        '{"user_id": "u", "item_id": 1, "time": "t"}\n{"user_id": \n',
        '{"user_id":',
    ),
}


@pytest.mark.parametrize("case", LINES)
def test_a_line_that_is_no_row_is_shown_with_its_file(spark: SparkSession, tmp_path: Path, case: str) -> None:
    """Whatever columns are read: Spark alone overlooks a row's length where they are the first ones."""
    form, text, line = LINES[case]
    file = tmp_path / f"a.{form}"
    file.write_text(text)
    log = Log(path=str(tmp_path), format=form, types={"item_id": "bigint"}, time_unit="text")
    frame = log_rows.events(Input(spark, "logs.clicks", log, "UTC"), {}).select("item_id")
    with pytest.raises(Exception, match="Job aborted") as caught:
        frame.collect()
    found = failures.explained(caught.value)
    assert isinstance(found, DataError)
    assert (found.where, found.found) == (f"file:{file}", line)
    assert sorted(found.expected.removeprefix("rows of ").split(", ")) == [
        "item_id bigint", "time string", "user_id string",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("own", "others", "kinds"),
    [
        (["u1", "u2"], [1, 2], ("integers, as logs.exposures has in user_id", "strings")),
        ([1, 2], ["u1", "u2"], ("strings, as logs.exposures has in user_id", "integers")),
        (pa.array([1, 2], pa.int16()), [1, 2], None),
    ],
)
def test_ids_of_two_kinds_are_refused(
    spark: SparkSession, tmp_path: Path, own: Any, others: Any, kinds: tuple[str, str] | None
) -> None:
    """As strings and as integers they would hash apart, and everything would be an orphan."""
    for name, ids, column in (("clicks", own, "buyer"), ("exposures", others, "user_id")):
        (tmp_path / name).mkdir()
        write(tmp_path / name, **{column: ids})
    clicks = Input(spark, "logs.clicks", Log(path=str(tmp_path / "clicks"), columns={"user_id": "buyer"}))
    exposures = Input(spark, "logs.exposures", Log(path=str(tmp_path / "exposures")))
    if kinds is None:
        clicks.check_ids("user_id", exposures, "user_id")
        return
    with pytest.raises(DataError) as caught:
        clicks.check_ids("user_id", exposures, "user_id")
    assert str(caught.value) == f"logs.clicks.columns.user_id: expected {kinds[0]}, found {kinds[1]}"


def test_a_catalog_table(spark: SparkSession, tmp_path: Path) -> None:
    path = write(tmp_path, **IDS, time=pa.array(TIMES, pa.timestamp("us", "UTC")))
    spark.read.parquet(path).createOrReplaceTempView("clicks_of_the_catalog")
    assert [row["event_at"] for row in rows(spark, Log(table="clicks_of_the_catalog"))] == MICROS


def test_rows_that_cannot_be_used_say_why(spark: SparkSession, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        event_id=[1, 2, 3, 4, 5, 6],
        user_id=["u", "", None, "u", "u", "u"],
        item_id=[1, 1, 1, -7, 1, 1],
        time=[LOCAL[0], LOCAL[0], LOCAL[0], LOCAL[0], None, "yesterday"],
    )
    found = rows(spark, Log(path=path, time_unit="text"))
    assert [row["reject_reason"] for row in found] == [
        None, "no user", "no user", "negative item", "no time", "unreadable time",
    ]  # fmt: skip
    assert json.loads(found[5]["original"])["time"] == "yesterday"


def test_a_row_filed_under_a_day_that_is_not_its_own_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    """Paris: the day of the 29th begins at 23:00 UTC of the 28th; a row may arrive up to a day late."""
    for day, minutes in (("2026-03-29", [0, -1, -24 * 60, -24 * 60 - 1, 23 * 60 - 1, 23 * 60]),):
        start = dt.datetime(2026, 3, 28, 23, tzinfo=dt.UTC)
        times = [start + dt.timedelta(minutes=minute) for minute in minutes]
        directory = tmp_path / f"day={day}"
        directory.mkdir()
        write(
            directory,
            event_id=list(range(6)),
            user_id=[1] * 6,
            item_id=[1] * 6,
            time=pa.array(times, pa.timestamp("us", "UTC")),
        )
    found = rows(spark, Log(path=str(tmp_path), day_column="day"))
    outside = "time outside its day"
    assert [row["reject_reason"] for row in found] == [None, None, None, outside, None, outside]


def test_only_the_days_that_matter_are_read(spark: SparkSession, tmp_path: Path) -> None:
    """The plan names the partitions; with a day's margin for zones, and a day for late rows."""
    for day in range(1, 29):
        directory = tmp_path / f"day=2026-02-{day:02d}"
        directory.mkdir()
        time = dt.datetime(2026, 2, day, 12, tzinfo=dt.UTC)
        write(
            directory,
            event_id=[day],
            user_id=[1],
            item_id=[1],
            time=pa.array([time], pa.timestamp("us", "UTC")),
        )
    log = Input(spark, "logs.clicks", Log(path=str(tmp_path), day_column="day"), "UTC")
    first = int(dt.datetime(2026, 2, 10, tzinfo=dt.UTC).timestamp() * 1e6)
    frame = log.between(first, first + 86_400_000_000 - 1).frame
    # A day before and after, since zones differ, and one more for late rows.
    assert sorted(row["event_id"] for row in frame.collect()) == [9, 10, 11, 12]
    executed = frame._jdf.queryExecution().executedPlan()
    assert "PartitionFilters: [(" in executed.toString()
    assert len(executed.collectLeaves().apply(0).selectedPartitions()) == 4


REFUSED = {
    "missing column": (Log(path="x", columns={"user_id": "uid"}), DataError, "logs.clicks.columns.user_id"),
    "time that is no timestamp": (
        Log(path="x", columns={"time": "item_id"}),
        DataError,
        "logs.clicks.columns.time",
    ),
    "time that is no text": (Log(path="x", time_unit="text"), DataError, "logs.clicks.columns.time"),
    "id of a type that is none": (
        Log(path="x", columns={"user_id": "time"}),
        DataError,
        "logs.clicks.columns.user_id",
    ),
    "day that is not there": (Log(path="x", day_column="day"), DataError, "logs.clicks.day_column"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(spark: SparkSession, tmp_path: Path, case: str) -> None:
    log, kind, where = REFUSED[case]
    path = write(tmp_path, **IDS, time=pa.array(TIMES, pa.timestamp("us", "UTC")))
    source = Input(spark, "logs.clicks", log.model_copy(update={"path": path}), "UTC")
    with pytest.raises(kind) as caught:
        log_rows.events(source.between(0, 1), {})
    assert str(caught.value).startswith(f"{where}: expected ")
    assert "\n" not in str(caught.value)


def test_types_of_columns_that_are_not_there(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id\n1,2\n")
    log = Log(path=str(tmp_path), format="csv", types={"price": "double"})
    with pytest.raises(ConfigError, match=r"logs.clicks.types: expected columns of .*, found 'price'"):
        Input(spark, "logs.clicks", log, "UTC")


def test_types_that_are_none(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id\n1,2\n")
    log = Log(path=str(tmp_path), format="csv", types={"item_id": "number"})
    with pytest.raises(ConfigError, match=r'logs.clicks.types: expected types of Spark\'s, found .*"NUMBER"'):
        Input(spark, "logs.clicks", log, "UTC")


def test_a_table_that_is_not_there(spark: SparkSession) -> None:
    with pytest.raises(
        DataError, match=r"logs.clicks.table: expected a table of the catalog, found nothing there"
    ):
        Input(spark, "logs.clicks", Log(table="nowhere.clicks"), "UTC")
