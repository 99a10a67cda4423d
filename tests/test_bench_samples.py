"""The benchmark of sample building: its logs, its two sides, which must agree, and what it concludes."""

import dataclasses
import datetime as dt
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from benchmarks import bench_samples, duckdb_samples, processes, same_rows
from benchmarks.raw_logs import FIRST_DAY, RawLogs
from esmm import samples, schema
from esmm.schema import Column, Role

# Few users and items: long histories, pages of one time, items shown again before they are clicked.
SMALL = RawLogs(3_000, users=40, items=30, click_rate=0.4, purchase_rate=0.5, duplicates=0.05, orphans=0.05)
EVENTS = {
    "exposures": ["exposure_id", "user_id", "item_id", "shown_at"],
    "clicks": ["click_id", "user_id", "item_id", "clicked_at"],
    "purchases": ["purchase_id", "user_id", "item_id", "bought_at"],
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SMALL.made_in(tmp_path_factory.mktemp("logs"))


def read(logs: Path, log: str) -> pd.DataFrame:
    return pd.read_parquet(logs / log)


def test_logs_have_the_columns_that_the_config_names(logs: Path) -> None:
    for log, columns in EVENTS.items():
        assert list(read(logs, log).columns) == columns
    items = read(logs, "items")
    assert list(items["item_id"]) == list(range(1, 31))
    assert (items.groupby("category_2")["category_1"].nunique() == 1).all(), "one lies within the other"


def test_logs_hold_as_many_rows_as_asked_for(logs: Path) -> None:
    exposures, clicks, purchases = (read(logs, log) for log in EVENTS)
    assert exposures["exposure_id"].nunique() == 3_000
    # One in twenty is there twice, in full.
    assert len(exposures) == 3_150
    assert len(exposures.drop_duplicates()) == 3_000
    # Four in ten, and of those one in twenty more: 1260, give or take five times the deviation of 27.
    assert clicks["click_id"].nunique() == pytest.approx(1_260, abs=135)
    assert purchases["purchase_id"].nunique() == pytest.approx(660, abs=135)


def test_a_file_is_a_day_in_the_order_of_time(logs: Path) -> None:
    days = sorted((logs / "exposures").glob("*.parquet"))
    assert [path.stem for path in days] == [str(FIRST_DAY + dt.timedelta(days=n)) for n in range(8)]
    for path in days:
        times = pd.read_parquet(path)["shown_at"]
        assert times.is_monotonic_increasing
        assert set(times.dt.strftime("%Y-%m-%d")) == {path.stem}


def test_logs_hold_what_makes_samples_hard() -> None:
    random = np.random.default_rng(0)
    exposures = SMALL._exposures(random)
    assert len(np.unique(exposures["at"])) < 0.5 * 3_000, "pages: several exposures of one time"
    pairs = np.stack([exposures["user_id"], exposures["item_id"]])
    assert np.unique(pairs, axis=1).shape[1] < 3_000, "items are shown again"
    counts = np.sort(np.bincount(exposures["user_id"]))[::-1]
    assert counts[0] > 4 * counts[20], "some users have most of the exposures"


def test_equal_parameters_make_equal_logs(tmp_path: Path, logs: Path) -> None:
    SMALL.write(tmp_path / "again")
    for path in logs.rglob("*.parquet"):
        assert (tmp_path / "again" / path.relative_to(logs)).read_bytes() == path.read_bytes()
    other = dataclasses.replace(SMALL, seed=2)
    assert other.digest != SMALL.digest
    other.write(tmp_path / "other")
    assert not read(tmp_path / "other", "clicks").equals(read(logs, "clicks"))


def test_logs_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = SMALL.made_in(tmp_path)
    monkeypatch.setattr(RawLogs, "write", lambda *_: pytest.fail("made again"))
    assert SMALL.made_in(tmp_path) == made


def test_interrupted_logs_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(RawLogs, "_items", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            SMALL.made_in(tmp_path)
    assert {path.name for path in SMALL.made_in(tmp_path).iterdir()} == {*EVENTS, "items"}


@pytest.mark.slow
def test_both_sides_build_the_same_rows(
    tmp_path: Path, logs: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = bench_samples.write_config(tmp_path / "ours/config.yaml", logs)
    samples.build(spark, config, SMALL.dates, allow_immature=True)
    duckdb_samples.build(logs, tmp_path / "theirs")
    bench_samples.compare(config, SMALL, tmp_path / "theirs")

    # They agree on something: labels of both kinds, lists that are full, partly filled, and empty.
    theirs = pd.read_parquet(tmp_path / "theirs")
    assert len(theirs) == 3_000
    assert theirs["click"].sum() > 500
    assert 100 < theirs["purchase"].sum() < theirs["click"].sum()
    lengths = theirs["viewed_weight"].map(lambda weights: int((weights > 0).sum()))
    assert set(lengths) == set(range(21))

    # And a comparison finds what differs: here the windows, which are the config's on one side alone.
    statements = Path(duckdb_samples.__file__).with_suffix(".sql").read_text()
    for number, (old, new, column) in enumerate(
        [
            ("<= 1_800_000_000", "<= 900_000_000", "click"),
            ("<= 86_400_000_000", "<= 3_600_000_000", "purchase"),
            ("604_800_000_000", "302_400_000_000", "viewed_item"),
            ("1 following and 20 following", "0 following and 19 following", "viewed_item"),
            ("/ 86_400_000_000.0", "/ 86_400_500_000.0", "viewed_weight"),
        ]
    ):
        assert old in statements
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_text", lambda _, changed=(old, new): statements.replace(*changed))
            duckdb_samples.build(logs, tmp_path / f"broken-{number}")
        with pytest.raises(same_rows.DifferentRowsError, match=f"^{column} of exposure"):
            bench_samples.compare(config, SMALL, tmp_path / f"broken-{number}")


ID, CLICK = Column("exposure_id", "int64", Role.KEY), Column("click", "int8", Role.LABEL)
SEEN, WEIGHTS = Column("seen", "int64", Role.FEATURE, 2), Column("weights", "float32", Role.FEATURE, 2)
ROWS = {
    "exposure_id": pa.array([3, 2**60 + 1, 1]),
    "click": pa.array([0, 1, 0], pa.int8()),
    "seen": pa.array([[7, -1], [8, 9], [-1, -1]]),
    "weights": pa.array([[0.5, 0.0], [0.25, 0.125], [0.0, 0.0]], pa.list_(pa.float32())),
}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    def write(name: str, rows: list[int] | None = None, **columns: pa.Array) -> str:
        table = pa.table(ROWS | columns)
        pq.write_table(table if rows is None else table.take(rows), tmp_path / name)
        return str(tmp_path / name)

    return write


def test_order_and_files_do_not_matter(written: Callable[..., str]) -> None:
    ours = written("ours")
    parts = [written("first", [2, 0]), f"file://{written('second', [1])}"]
    assert same_rows.check([ID, CLICK, SEEN, WEIGHTS], [ours], parts) == 3


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        ([0, 1], {}, "3 and 2 exposures; .*: \\[1\\]"),
        ([0, 1, 2, 2], {}, "3 and 4 exposures"),
        (None, {"exposure_id": pa.array([3, 2**60, 1])}, "exposures"),  # one number, as float64 has it
        (None, {"click": pa.array([0, 1, 1], pa.int8())}, "click of exposure 1: 0 and 1"),
        (None, {"click": pa.array([0, 1, None], pa.int8())}, "click: 1 nulls"),
        (None, {"seen": pa.array([[7, -1], [9, 8], [-1, -1]])}, "seen of exposure 1152921504606846977"),
        (None, {"seen": pa.array([[7], [8, 9], [-1, -1]])}, "seen: expected lists of 2"),
        (None, {"weights": pa.array([[0.500002, 0.0], [0.25, 0.125], [0.0, 0.0]])}, "weights of exposure 3"),
    ],
)
def test_differences_are_found(
    written: Callable[..., str], rows: list[int] | None, columns: dict[str, pa.Array], expected: str
) -> None:
    with pytest.raises(same_rows.DifferentRowsError, match=expected):
        same_rows.check([ID, CLICK, SEEN, WEIGHTS], [written("ours")], [written("theirs", rows, **columns)])


def test_weights_may_differ_by_rounding(written: Callable[..., str]) -> None:
    other = pa.array([[0.5000009, 0.0], [0.25, 0.125], [0.0, 0.0]])
    same_rows.check([WEIGHTS], [written("ours")], [written("theirs", weights=other)])


def test_memory_of_a_process_and_its_children() -> None:
    # 200 MiB in the child's child, held until its standard input ends.
    child = "import sys; held = bytearray(b'x') * (200 * 2**20); print(flush=True); sys.stdin.read()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        memory = processes.PeakMemory(process.pid)
        memory.look()
        process.stdin.close()
    assert 200 * 2**20 < memory.peak < 300 * 2**20
    most = memory.peak
    memory.look()
    assert memory.peak == most, "what was held once, once the process has ended"


def test_a_command_is_measured() -> None:
    found = processes.measured([sys.executable, "-c", "pass"])
    assert found["command_s"] > 0
    assert found["peak_rss_gib"] < 0.1


def test_a_command_that_fails_is_no_measurement() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        processes.measured([sys.executable, "-c", "raise SystemExit(3)"])


def test_conclusions() -> None:
    def of(value: float) -> dict[str, float]:
        return {"median": value, "min": value - 1, "max": value + 1}

    report = {
        "ratios": {"spark over duckdb": of(5.5), "2M over 1M": of(1.8), "4M over 2M": of(2.05)},
        "figures": {"spark 2M": {"peak_rss_gib": of(3.5)}, "duckdb 2M": {"rows/s": of(420_000)}},
    }
    assert bench_samples.concluded(report) == {
        "duckdb_ratio": 5.5,
        "doubling_ratio": 2.05,
        "peak_rss_gib": 4.5,
        "duckdb_counts": True,
    }
    report["figures"]["duckdb 2M"]["rows/s"] = of(399_999)
    assert bench_samples.concluded(report)["duckdb_counts"] is False


def test_statistics_are_added_to_the_config(tmp_path: Path) -> None:
    config = bench_samples.write_config(tmp_path / "config.yaml", tmp_path, bench_samples.STATISTICS)
    assert len(schema.statistic_columns(config)) == 4 * 15
