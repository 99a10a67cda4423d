"""Published tables: whole or not at all, and one writer a day."""

import datetime as dt
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import fsspec
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esmm import claims, files
from esmm.claims import Claim, FileClaims, claimed, directory_claimed
from esmm.errors import ConflictError, DataError
from esmm.publish import Table, new_run
from tests.hadoop import Hadoop

DAY = dt.date(2026, 3, 25)
ROOT = Path(__file__).resolve().parent.parent


def stage(table: Table, run: str, values: list[int], day: dt.date = DAY) -> None:
    """What a run would write for a day: one file of row groups of two rows."""
    directory = f"{table.path}/run={run}/ds={day}"
    table.fs.makedirs(directory, exist_ok=True)
    with table.fs.open(f"{directory}/part-0.parquet", "wb") as handle:
        pq.write_table(pa.table({"value": pa.array(values, pa.int64())}), handle, row_group_size=2)


def publish(table: Table, run: str, values: list[int], day: dt.date = DAY) -> None:
    stage(table, run, values, day)
    table.publish(day, run, config="digest")


def read(table: Table, day: dt.date = DAY) -> list[int]:
    found: list[int] = []
    for file in table.manifest(day).files:
        with table.fs.open(f"{table.path}/{file.path}", "rb") as handle:
            found += pq.read_table(handle)["value"].to_pylist()
    return found


@pytest.fixture(params=["file", "memory", "hadoop"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Table:
    return Table(
        str(tmp_path / "table") if request.param == "file" else f"{request.param}://{tmp_path}/table"
    )


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


def test_publishing_again_replaces_the_rows_and_leaves_the_old_files_to_their_readers(table: Table) -> None:
    publish(table, "a", [1])
    begun = table.files([DAY])
    publish(table, "b", [2, 3])
    assert read(table) == [2, 3]
    with table.fs.open(begun[0], "rb") as handle:
        assert pq.read_table(handle)["value"].to_pylist() == [1]
    assert table.fs.exists(f"{table.path}/run=a/ds={DAY}/_replaced")


STEPS = 9
"""Of a publication where no rename replaces a file; the first four are in the runs' own directories."""


@pytest.mark.parametrize("dies_at", range(5, STEPS + 2))
def test_where_no_rename_replaces_a_file_readers_see_the_old_rows_or_the_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    """After each step of a run, which dies at one of them or does not, and of another one that dies after it."""
    seen: list[list[int]] = []

    def look(table: Table, last: int) -> None:
        assert table.days() == [DAY]
        seen.append(read(table))
        if len(seen) == last:
            raise KeyboardInterrupt

    def run(table: Table, value: int, last: int) -> None:
        """Publish a value, and die after so many steps; others see the old value or, from some step on, this one."""
        before = read(table)
        stage(table, f"of {value}", [value])
        seen.clear()
        monkeypatch.setattr(Hadoop, "after", partial(look, table, last))
        with suppress(KeyboardInterrupt):
            table.publish(DAY, f"of {value}", config="digest")
        monkeypatch.setattr(Hadoop, "after", None)
        assert seen == sorted(seen)
        assert {*map(tuple, seen)} <= {(*before,), (value,)}
        assert read(table) == seen[-1]

    for then_at in range(5, STEPS + 2):
        table = Table(f"hadoop://{tmp_path}/{then_at}")
        publish(table, "first", [1])
        run(table, 2, dies_at)
        assert len(seen) == min(dies_at, STEPS)
        run(table, 3, then_at)
        run(table, 4, 0)
        assert seen[-1] == [4]
        table.withdraw(DAY)
        assert (table.days(), table.pointers.run(DAY)) == ([], None)


def test_a_document_is_there_before_the_day_is(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(table, "a", [1])
    document = f"{table.path}/run=a/ds={DAY}/_funnel.json"

    def fail(day: dt.date, run: str) -> None:
        assert json.loads(table.fs.cat_file(document)) == {"clicks": 4}
        raise ConnectionError

    monkeypatch.setattr(table.pointers, "point", fail)
    with pytest.raises(ConnectionError):
        table.publish(DAY, "a", config="digest", beside={"funnel": {"clicks": 4}})
    monkeypatch.undo()
    assert table.days() == []
    table.publish(DAY, "a", config="digest", beside={"funnel": {"clicks": 4}})
    assert table.fs.exists(document)


def test_replacing_one_day_of_a_run_leaves_its_other_days(table: Table) -> None:
    other = dt.date(2026, 3, 26)
    for day in (DAY, other):
        publish(table, "a", [day.day], day)
    publish(table, "b", [0])
    assert (read(table, DAY), read(table, other)) == ([0], [26])


def test_a_withdrawn_day_is_not_published(table: Table) -> None:
    publish(table, "a", [1])
    files = table.files([DAY])
    table.withdraw(DAY)
    table.withdraw(DAY)
    assert table.days() == []
    assert table.fs.exists(files[0])


def test_a_discarded_run_leaves_what_was_published(table: Table) -> None:
    publish(table, "a", [1])
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


def test_a_broken_pointer_or_manifest_is_named(table: Table) -> None:
    publish(table, "a", [1])
    table.fs.pipe_file(f"{table.path}/run=a/ds={DAY}/_manifest.json", b"{}")
    with pytest.raises(DataError, match=r"_manifest.json: expected a manifest, found 6 errors in it"):
        table.manifest(DAY)
    table.fs.pipe_file(f"{table.path}/_manifests/ds={DAY}.json", b"[]")
    with pytest.raises(DataError, match=rf"ds={DAY}.json: expected a manifest, found something else"):
        table.manifest(DAY)


def test_a_second_run_for_the_day_is_a_conflict(table: Table) -> None:
    with table.claimed([DAY], "a"):
        with pytest.raises(
            ConflictError, match="2026-03-25: expected no other run, found run a of"
        ) as caught:
            with table.claimed([DAY], "b"):
                pass
        assert caught.value.exit_code == 3
        with table.claimed([dt.date(2026, 3, 26)], "c"):
            pass
    with table.claimed([DAY], "d"):
        pass
    assert table.claims.keys() == []


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


def test_a_run_that_was_taken_for_dead_does_not_publish(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It slept until its claim had expired; another run published meanwhile, or is about to."""
    for finished in (True, False):
        sleeper, other = Table(table.root), Table(table.root)
        with sleeper.claimed([DAY], "sleeper"):
            stage(sleeper, "sleeper", [1])
            monkeypatch.setattr(claims, "EXPIRES", dt.timedelta(0))
            with other.claimed([DAY], "other"):
                monkeypatch.undo()
                publish(other, "other", [2])
                if not finished:
                    with pytest.raises(ConflictError, match="found run other"):
                        sleeper.publish(DAY, "sleeper", config="digest")
            if finished:
                with pytest.raises(ConflictError, match="found one that took this run for dead"):
                    sleeper.publish(DAY, "sleeper", config="digest")
        assert read(table) == [2]


@pytest.fixture
def store(tmp_path: Path) -> FileClaims:
    return FileClaims(fsspec.filesystem("file"), str(tmp_path / "claims"))


def claim(**changed: object) -> Claim:
    return Claim.of("run").model_copy(update=changed)


def test_a_dead_runs_claim_is_taken_over(store: FileClaims, tmp_path: Path) -> None:
    """A process that takes a claim and is killed at once."""
    code = (
        "import fsspec, os, signal, sys\n"
        "from esmm.claims import FileClaims, claimed\n"
        "with claimed(FileClaims(fsspec.filesystem('file'), sys.argv[1]), 'day', 'dead'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "claims")]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert killed.returncode == -signal.SIGKILL
    assert {number: claim.run for number, claim in store.holders("day").items()} == {1: "dead"}
    with claimed(store, "day", "living"):
        assert {number: claim.run for number, claim in store.holders("day").items()} == {2: "living"}
        with pytest.raises(ConflictError, match="found run living"), claimed(store, "day", "third"):
            pass
    assert not (tmp_path / "claims").exists()


HOURS = dt.timedelta(hours=1)


@pytest.mark.parametrize(
    ("changed", "is_dead"),
    [
        ({}, False),
        ({"at": dt.datetime.now(dt.UTC) - 13 * HOURS}, True),
        ({"host": "another"}, False),
        ({"host": "another", "pid": 2**22 + 1}, False),
        ({"host": "another", "at": dt.datetime.now(dt.UTC) - 11 * HOURS}, False),
        ({"host": "another", "at": dt.datetime.now(dt.UTC) - 13 * HOURS}, True),
        ({"pid": 2**22 + 1}, True),  # Linux numbers processes below 2**22
    ],
)
def test_who_is_dead(changed: dict[str, object], is_dead: bool) -> None:
    assert claim(**changed).is_dead == is_dead


def test_a_process_that_was_given_the_number_of_a_dead_one_does_not_hold_its_claim() -> None:
    started = dt.datetime.fromtimestamp(psutil.Process().create_time(), dt.UTC)
    assert claim(at=started - dt.timedelta(minutes=1)).is_dead
    assert not claim(at=started + dt.timedelta(minutes=1)).is_dead


def test_a_process_that_may_not_be_looked_at_holds_its_claim_until_it_is_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def denied(pid: int) -> None:
        raise psutil.AccessDenied(pid)

    monkeypatch.setattr(psutil, "Process", denied)
    assert not claim().is_dead
    assert claim(at=dt.datetime.now(dt.UTC) - 13 * HOURS).is_dead


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked for its code
    assert claim(pid=child.pid).is_dead
    child.wait()


def test_a_claim_that_is_half_written_is_held_until_it_is_old(store: FileClaims, tmp_path: Path) -> None:
    path = tmp_path / "claims/day/000001.json"
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(ConflictError, match="found run unknown"), claimed(store, "day", "other"):
        pass
    old = (dt.datetime.now() - 13 * HOURS).timestamp()
    os.utime(path, (old, old))
    with claimed(store, "day", "other"):
        pass


def test_a_claim_that_goes_while_it_is_read_is_nobodys(
    store: FileClaims, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add("day", 1, claim())
    listed = [f"{tmp_path}/claims/day/000001.json"]
    fs = fsspec.filesystem("file")
    monkeypatch.setattr(fs, "glob", lambda _: listed)
    store.remove("day", 1)
    assert store.holders("day") == {}


@pytest.mark.parametrize(("seen", "found"), [(1, "one that was a moment faster"), (2, "run second")])
def test_who_looked_too_early_gives_up(
    store: FileClaims, monkeypatch: pytest.MonkeyPatch, seen: int, found: str
) -> None:
    """It saw a dead claim, slept, and makes the next number: that of the run that took over, or a later one."""
    store.add("day", 2, Claim.of("second"))
    looks = iter([{seen: claim(pid=2**22 + 1)}])
    real = store.holders
    monkeypatch.setattr(store, "holders", lambda key: next(looks, None) or real(key))
    with pytest.raises(ConflictError, match=f"found {found}"), claimed(store, "day", "third"):
        pass
    assert {number: claim.run for number, claim in real("day").items()} == {2: "second"}


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_of_many_that_claim_at_once_at_most_one_holds(kind: str, tmp_path: Path) -> None:
    """Eight threads, fifty times; a claim of the same process is as foreign as any."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier, Lock

    store = FileClaims(fsspec.filesystem(kind), f"{tmp_path}/claims")
    barrier, lock = Barrier(8, timeout=30), Lock()
    holding, won = set(), []

    def attempt(number: int) -> None:
        for round_ in range(50):
            barrier.wait()
            try:
                with claimed(store, "day", f"run-{number}"):
                    with lock:
                        holding.add(number)
                        assert len(holding) == 1
                        won.append(round_)
                        holding.remove(number)
            except ConflictError:
                pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, range(8)))
    assert won
    assert not (tmp_path / "claims").exists()


def test_a_file_is_created_once(tmp_path: Path) -> None:
    fs = fsspec.filesystem("file")
    files.create(fs, f"{tmp_path}/a/b.json", b"one")
    with pytest.raises(FileExistsError):
        files.create(fs, f"{tmp_path}/a/b.json", b"two")
    assert (tmp_path / "a/b.json").read_bytes() == b"one"


def test_a_directory_is_claimed_beside_it(tmp_path: Path) -> None:
    def others() -> Iterator[str]:
        return (path.name for path in tmp_path.iterdir())

    with directory_claimed(str(tmp_path / "logs"), "a"):
        assert list(others()) == ["_claims"]
        with pytest.raises(ConflictError, match="_claims/logs: expected no other run, found run a"):
            with directory_claimed(str(tmp_path / "logs"), "b"):
                pass
        with directory_claimed(str(tmp_path / "report"), "c"):
            pass
    assert list(others()) == []


def test_a_host_is_named_in_letters_that_an_address_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "a~b/c d.example")
    assert Claim.of("run").host == "a_b_c_d.example"
    assert not Claim.of("run").is_dead


def test_runs_have_different_names_that_sort_by_time() -> None:
    names = [new_run() for _ in range(3)]
    assert len(set(names)) == 3
    assert [name[:15] for name in names] == sorted(name[:15] for name in names)
