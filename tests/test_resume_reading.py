"""Files read until some batch, and the rest of them by others: every row once, with its own values."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmm import epochs, rowgroups
from esmm.buffers import Arrays
from esmm.dataset import local_cache, read_batches, to_tf_dataset
from esmm.epochs import Epoch, Position
from esmm.plan import ReadingPlan, make_plan
from esmm.rowgroups import RowGroup
from esmm.schema import Column
from tests.sample_files import COLUMNS, expected, write

FILES = st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=4), min_size=1, max_size=5).filter(
    lambda files: any(map(any, files))
)


def plan_of(root: Path, files: list[list[int]]) -> ReadingPlan:
    start = 0
    for number, sizes in enumerate(files):
        write(f"{root}/part-{number}.parquet", sizes, start)
        start += sum(sizes)
    return make_plan(str(root), None, COLUMNS)


def rows_of(batch: Arrays) -> list[int]:
    """The numbers of a batch's rows, each checked to be whole."""
    real = batch["weight"] > 0
    for name, values in expected(batch["user_id"][real]).items():
        np.testing.assert_array_equal(batch[name][real], values)
    found: list[int] = batch["user_id"][real].tolist()
    return found


@settings(max_examples=30, deadline=None)
@given(files=FILES, seed=st.none() | st.integers(0, 5), before=st.integers(1, 7), after=st.integers(1, 7),
       batch_size=st.integers(1, 30), data=st.data())  # fmt: skip
def test_stop_at_a_random_batch_save_and_go_on(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[int]], seed: int | None, before: int, after: int,
    batch_size: int, data: st.DataObject,
) -> None:  # fmt: skip
    root = tmp_path_factory.mktemp("rows")
    plan, read = plan_of(root, files), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epochs, "BLOCK_ROWS", 30)
        first = Epoch(plan, ranks=before, batch_size=batch_size, seed=seed)
        steps = data.draw(st.integers(0, first.steps))
        for rank in range(before):
            batches = read_batches(first, COLUMNS, rank=rank)
            for _ in range(steps):
                read += rows_of(next(batches))
            batches.close()
        (root / "position.json").write_text(json.dumps(first.after(steps).model_dump()))
        position = Position(**json.loads((root / "position.json").read_text()))
        if position.epoch == 0:
            rest = Epoch(plan, ranks=after, batch_size=batch_size, seed=seed, position=position)
            for rank in range(after):
                batches = list(read_batches(rest, COLUMNS, rank=rank))
                assert len(batches) == rest.steps
                for batch in batches:
                    assert {len(array) for array in batch.values()} == {batch_size}
                    read += rows_of(batch)
    assert sorted(read) == list(range(sum(map(sum, files))))


def test_tensors_go_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [[30, 20], [10, 40], [25]])
    whole = Epoch(plan, ranks=2, batch_size=8, seed=4)
    due = [batch["user_id"].numpy().tolist() for batch in to_tf_dataset(whole, COLUMNS, rank=1)]
    for steps in (0, 1, 5, whole.steps - 1):
        rest = Epoch(plan, ranks=2, batch_size=8, seed=4, position=whole.after(steps))
        samples = to_tf_dataset(rest, COLUMNS, rank=1)
        assert len(samples) == whole.steps - steps
        assert [batch["user_id"].numpy().tolist() for batch in samples] == due[steps:]


def epoch_of(plan: ReadingPlan, number: int, **ways: int) -> Epoch:
    return Epoch(plan, batch_size=16, seed=2, position=Position(epoch=number), **ways)


def test_a_cached_shard_is_read_once_and_shuffled_each_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path / "samples", [[30, 20], [10, 40], [25]])
    opened: list[RowGroup] = []
    load = rowgroups.load

    def counted(group: RowGroup, columns: list[Column]) -> Arrays:
        opened.append(group)
        return load(group, columns)

    def order(number: int, rank: int, **options: object) -> list[int]:
        batches = read_batches(epoch_of(plan, number, ranks=2), COLUMNS, rank=rank, **options)  # type: ignore[arg-type]
        return [row for batch in batches for row in rows_of(batch)]

    due = [[order(number, rank) for rank in range(2)] for number in range(3)]
    assert len({tuple(each[0]) for each in due}) == 3
    monkeypatch.setattr(rowgroups, "load", counted)
    for rank in range(2):
        with local_cache(tmp_path / "cache", 2**30) as cached:
            before = len(opened)
            for number in range(3):
                assert order(number, rank, load=cached) == due[number][rank]
                assert len(opened) - before == len({*opened[before:]})
    assert sorted(opened, key=str) == sorted(plan.row_groups, key=str)
    assert not list((tmp_path / "cache").iterdir())


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_or_failing_cache_reads_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path / "samples", [[3000, 2000], [1000]])
    opened, load = [], rowgroups.load
    monkeypatch.setattr(
        rowgroups, "load", lambda group, columns: opened.append(group) or load(group, columns)
    )

    def rows(load: object) -> list[int]:
        batches = read_batches(epoch_of(plan, 0), COLUMNS, load=load)  # type: ignore[arg-type]
        return sorted(row for batch in batches for row in rows_of(batch))

    with local_cache(tmp_path / "cache", 0) as cached:
        assert rows(cached) == rows(cached) == list(range(6000))
        assert len(opened) == 6
    with local_cache(tmp_path / "cache", 2**30) as cached:
        monkeypatch.setattr("diskcache.core.Disk._write", full)
        assert rows(cached) == list(range(6000))
    with local_cache(tmp_path / "cache", 2**30) as cached:
        monkeypatch.undo()
        assert rows(cached) == list(range(6000))
        assert len(list((tmp_path / "cache").rglob("*.val"))) == 3


def full_index(*_: object, **__: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")


@pytest.mark.parametrize("where", ["Cache.__init__", "Disk.store"])
def test_a_cache_whose_index_is_full_reads_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    plan = plan_of(tmp_path / "samples", [[3000, 2000], [1000]])
    monkeypatch.setattr(f"diskcache.core.{where}", full_index)
    with local_cache(tmp_path / "cache", 2**30) as cached:
        batches = read_batches(epoch_of(plan, 0), COLUMNS, load=cached)
        assert sorted(row for batch in batches for row in rows_of(batch)) == list(range(6000))
    assert not list((tmp_path / "cache").iterdir())


def test_the_cache_holds_no_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path / "samples", [[3000]])
    with local_cache(tmp_path / "cache", 2**30) as cached:
        for name in ("dumps", "loads", "load"):
            monkeypatch.setattr(f"diskcache.core.pickle.{name}", None)
        for _ in range(2):
            assert len(cached(plan.row_groups[0], COLUMNS)["click"]) == 3000
