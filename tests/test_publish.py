"""Published tables: whole or not at all, and one writer a day."""

import datetime as dt
import os
import platform
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esmm import claims
from esmm.errors import ConflictError, DataError
from esmm.publish import Table, new_run

DAY = dt.date(2026, 3, 25)


def stage(table: Table, run: str, values: list[int], day: dt.date = DAY) -> None:
    """What a run would write for a day: one file of row groups of two rows."""
    directory = f"{table.path}/run={run}/ds={day}"
    table.fs.makedirs(directory, exist_ok=True)
    with table.fs.open(f"{directory}/part-0.parquet", "wb") as handle:
        pq.write_table(pa.table({"value": pa.array(values, pa.int64())}), handle, row_group_size=2)


def read(table: Table, day: dt.date = DAY) -> list[int]:
    found: list[int] = []
    for file in table.manifest(day).files:
        with table.fs.open(f"{table.path}/{file.path}", "rb") as handle:
            found += pq.read_table(handle)["value"].to_pylist()
    return found


@pytest.fixture(params=["file", "memory"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Table:
    return Table(str(tmp_path / "table") if request.param == "file" else f"memory://{tmp_path}/table")


def test_what_is_staged_is_seen_once_it_is_published(table: Table) -> None:
    stage(table, "a", [1, 2, 3])
    assert table.days() == []
    with pytest.raises(DataError, match=r"expected a published day, found no manifest \(published: none\)"):
        table.manifest(DAY)
    manifest = table.publish(DAY, "a", config="digest", counts={"clicks read": 4})
    assert table.days() == [DAY]
    assert table.manifest(DAY) == manifest
    assert (manifest.rows, manifest.columns, manifest.counts) == (3, {"value": "int64"}, {"clicks read": 4})
    assert [file.row_groups for file in manifest.files] == [(2, 1)]
    assert manifest.files[0].bytes == table.fs.size(f"{table.path}/{manifest.files[0].path}")
    assert read(table) == [1, 2, 3]


def test_publishing_again_replaces_the_rows_and_removes_the_old_files(table: Table) -> None:
    for run, rows in (("a", [1]), ("b", [2, 3])):
        stage(table, run, rows)
        table.publish(DAY, run, config="digest")
    assert read(table) == [2, 3]
    assert not table.fs.glob(f"{table.path}/run=a/*/*")


def test_replacing_one_day_of_a_run_leaves_its_other_days(table: Table) -> None:
    other = dt.date(2026, 3, 26)
    for day in (DAY, other):
        stage(table, "a", [day.day], day)
        table.publish(day, "a", config="digest")
    stage(table, "b", [0])
    table.publish(DAY, "b", config="digest")
    assert (read(table, DAY), read(table, other)) == ([0], [26])


def test_a_discarded_run_leaves_what_was_published(table: Table) -> None:
    stage(table, "a", [1])
    table.publish(DAY, "a", config="digest")
    stage(table, "b", [2])
    table.discard("b")
    assert not table.fs.glob(f"{table.path}/run=b*")
    assert read(table) == [1]


def test_discarding_after_some_days_were_published_keeps_those(table: Table) -> None:
    other = dt.date(2026, 3, 26)
    stage(table, "a", [1])
    stage(table, "a", [2], other)
    table.publish(DAY, "a", config="digest")
    table.discard("a")
    assert read(table) == [1]
    assert not table.fs.glob(f"{table.path}/run=a/ds={other}*")


def test_nothing_staged_is_an_error(table: Table) -> None:
    with pytest.raises(DataError, match="expected Parquet files to publish, found none"):
        table.publish(DAY, "a", config="digest")
    assert table.days() == []


def test_a_second_run_for_the_day_is_a_conflict(table: Table) -> None:
    with table.claimed([DAY], "a"):
        with pytest.raises(ConflictError, match="expected no other run for this day, found run a") as caught:
            with table.claimed([DAY], "b"):
                pass
        assert caught.value.exit_code == 3
        with table.claimed([dt.date(2026, 3, 26)], "c"):
            pass
    with table.claimed([DAY], "d"):
        pass


def test_a_claim_is_given_up_when_the_run_fails(table: Table) -> None:
    with pytest.raises(ValueError, match="the run failed"), table.claimed([DAY], "a"):
        raise ValueError("the run failed")
    with table.claimed([DAY], "b"):
        pass


def test_a_conflict_on_the_second_day_gives_up_the_first(table: Table) -> None:
    other = dt.date(2026, 3, 26)
    with table.claimed([other], "a"):
        with pytest.raises(ConflictError), table.claimed([DAY, other], "b"):
            pass
        with table.claimed([DAY], "c"):
            pass


def test_a_dead_runs_claim_is_taken_over(tmp_path: Path) -> None:
    """A process that takes a claim and is killed at once."""
    code = (
        "import fsspec, os, signal, sys\n"
        "from esmm.claims import claimed\n"
        "with claimed(fsspec.filesystem('file'), sys.argv[1], 'dead'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(root)})
    assert [path.name for path in tmp_path.iterdir()] == ["000001.json"]
    fs = fsspec.filesystem("file")
    with claims.claimed(fs, str(tmp_path), "living"), pytest.raises(ConflictError, match="found run living"):
        with claims.claimed(fs, str(tmp_path), "third"):
            pass
    assert not list(tmp_path.iterdir())


def test_a_claim_of_another_host_holds_until_it_is_old(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    fs = fsspec.filesystem("file")
    fresh = claims.Claim(run="far", host=platform.node() + "-other", pid=1, at=now)
    (tmp_path / "000001.json").write_text(fresh.model_dump_json())
    with pytest.raises(ConflictError, match="found run far"), claims.claimed(fs, str(tmp_path), "near"):
        pass
    old = fresh.model_copy(update={"at": now - claims.EXPIRES - dt.timedelta(minutes=1)})
    (tmp_path / "000001.json").write_text(old.model_dump_json())
    with claims.claimed(fs, str(tmp_path), "near"):
        pass


def test_runs_have_different_names_that_sort_by_time() -> None:
    names = [new_run() for _ in range(3)]
    assert len(set(names)) == 3
    assert [name[:15] for name in names] == sorted(name[:15] for name in names)
