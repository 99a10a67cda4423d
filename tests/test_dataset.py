"""The reader: every row once on any number of ranks, in a fixed order, with the errors where they belong."""

import datetime as dt
import itertools
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from petastorm.workers_pool import EmptyResultError

from esmm import dataset
from esmm.batching import Arrays, cut, in_order
from esmm.dataset import read_batches, read_row_groups, to_tf_dataset
from esmm.errors import DataError
from esmm.plan import ReadingPlan, make_plan
from esmm.publish import Table
from esmm.rowgroups import RowGroup, load
from tests.sample_files import COLUMNS, expected, table, with_column, write, write_tables

FILES = st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=4), min_size=1, max_size=5).filter(
    lambda files: any(map(any, files))
)


def plan_of(root: Path | str, *files: list[int]) -> ReadingPlan:
    """Files of row groups of so many rows, numbered through."""
    start = 0
    for number, sizes in enumerate(files):
        write(f"{root}/part-{number}.parquet", sizes, start)
        start += sum(sizes)
    return make_plan(str(root), None, COLUMNS)


def numbers(batches: list[Arrays]) -> list[int]:
    """The numbers of the rows that weigh something, each checked to be whole."""
    found: list[int] = []
    for batch in batches:
        real = batch["weight"] > 0
        for name, values in expected(batch["user_id"][real]).items():
            np.testing.assert_array_equal(batch[name][real], values)
        [padding] = cut(in_order([]), COLUMNS, len(real), [0])
        for name, values in padding.items():
            np.testing.assert_array_equal(batch[name][~real], values[~real])
        found += batch["user_id"][real].tolist()
    return found


def threads() -> set[threading.Thread]:
    """Threads that Python started; TensorFlow's own show up as dummies."""
    return {each for each in threading.enumerate() if not isinstance(each, threading._DummyThread)}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threads()
    yield
    deadline = time.monotonic() + 5
    for thread in threads() - before:
        thread.join(max(0, deadline - time.monotonic()))
    assert threads() <= before


@settings(max_examples=40, deadline=None)
@given(files=FILES, ranks=st.integers(1, 7), batch_size=st.integers(1, 50), seed=st.none() | st.integers(-3, 3),
       epoch=st.integers(0, 2), workers=st.integers(1, 3))  # fmt: skip
def test_every_row_is_read_once_in_equal_steps(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[int]], ranks: int, batch_size: int,
    seed: int | None, epoch: int, workers: int,
) -> None:  # fmt: skip
    plan = plan_of(tmp_path_factory.mktemp("rows"), *files)
    per_rank = [
        list(read_batches(plan, COLUMNS, batch_size, rank=rank, ranks=ranks, epoch=epoch, seed=seed,
                          threads=workers))
        for rank in range(ranks)
    ]  # fmt: skip
    rows = [numbers(batches) for batches in per_rank]
    assert sorted(itertools.chain(*rows)) == list(range(sum(map(sum, files))))
    assert {len(batches) for batches in per_rank} == {math.ceil(max(map(len, rows)) / batch_size)}
    assert {len(array) for batches in per_rank for batch in batches for array in batch.values()} == {
        batch_size
    }


def test_the_order_is_the_same_each_time_and_another_in_the_next_epoch(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [30, 20, 10], [40], [5, 5, 5])

    def order(seed: int | None, epoch: int, workers: int = 2) -> list[int]:
        return numbers(list(read_batches(plan, COLUMNS, 8, seed=seed, epoch=epoch, threads=workers)))

    assert order(7, 0) == order(7, 0) == order(7, 0, workers=5)
    assert len({tuple(order(seed, epoch)) for seed, epoch in [(7, 0), (7, 1), (8, 0), (None, 0)]}) == 4
    assert order(None, 0) == order(None, 5) == list(range(115))


def test_a_published_table_is_read_from_any_storage(tmp_path: Path) -> None:
    """Many row groups of one file at once: memory's file objects share one position."""
    published, day = Table(f"memory://{tmp_path}/samples"), dt.date(2026, 3, 25)
    write(f"{published.stage('a')}/ds={day}/part-0.parquet", [50] * 40)
    published.publish(
        published_day := pytest.importorskip("datetime").date(2026, 3, 25), "a", config="digest"
    )
    plan = make_plan(published.root, [published_day], COLUMNS)
    assert sorted(numbers(list(read_batches(plan, COLUMNS, 64, seed=1, threads=4)))) == list(range(2000))


def test_row_groups_come_in_the_order_given_whichever_is_ready_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, [3, 4])
    second_is_loaded = threading.Event()

    def load_second_first(group: RowGroup, columns: Any) -> Arrays:
        if group.index == 0:
            assert second_is_loaded.wait(timeout=10)
        arrays = load(group, columns)
        if group.index == 1:
            second_is_loaded.set()
        return arrays

    monkeypatch.setattr(dataset, "load", load_second_first)
    assert [len(arrays["click"]) for arrays in read_row_groups(plan.row_groups, COLUMNS)] == [3, 4]


def test_the_pools_early_end_and_wrong_order_lose_nothing() -> None:
    """What Petastorm's pool can do while its ventilator is about to hand over the last row groups."""

    class Pool:
        steps: Iterator[Any] = iter([EmptyResultError(), (1, {"b": 1}), EmptyResultError(), (0, {"a": 0})])

        def get_results(self) -> Any:
            step = next(self.steps)
            if isinstance(step, Exception):
                raise step
            return step

    results, pool = dataset._InOrder(2), Pool()
    assert [results.read_next(pool, None, None) for _ in range(2)] == [{"a": 0}, {"b": 1}]
    with pytest.raises(StopIteration):
        results.read_next(pool, None, None)


def test_few_row_groups_are_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path, [1] * 60)
    loaded: list[int] = []

    def counted(group: RowGroup, columns: Any) -> Arrays:
        loaded.append(group.index)
        return load(group, columns)

    monkeypatch.setattr(dataset, "load", counted)
    for taken, _ in enumerate(read_row_groups(plan.row_groups, COLUMNS, threads=2), start=1):
        assert len(loaded) - taken <= 4
    assert sorted(loaded) == list(range(60))


def null_among_ids(root: Path) -> tuple[ReadingPlan, str]:
    bad = with_column(table(6, 3), "seller", pa.array([1, None, 3], pa.int64()))
    write_tables(f"{root}/part-2.parquet", [bad])
    plan = plan_of(root, [3], [3])
    return plan, ", column seller: expected no null, found 1 of them, the first in row 1 of row group 0"


def truncated_after_planning(root: Path) -> tuple[ReadingPlan, str]:
    plan = plan_of(root, [3], [3], [3])
    os.truncate(root / "part-2.parquet", 100)
    return plan, r": expected \d+ bytes, as planned, found 100"


def deleted_after_planning(root: Path) -> tuple[ReadingPlan, str]:
    plan = plan_of(root, [3], [3], [3])
    (root / "part-2.parquet").unlink()
    return plan, ": expected a Parquet file, found no file"


@pytest.mark.parametrize("harmed", [null_among_ids, truncated_after_planning, deleted_after_planning])
@pytest.mark.parametrize("read", [read_batches, to_tf_dataset])
def test_an_error_of_a_thread_is_raised_to_the_consumer(
    tmp_path: Path, harmed: Callable[[Path], tuple[ReadingPlan, str]], read: Callable[..., Any]
) -> None:
    plan, message = harmed(tmp_path)
    batches = iter(read(plan, COLUMNS, 3))
    assert [np.asarray(next(batches)["user_id"]).tolist() for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(DataError, match=rf"part-2\.parquet{message}$"):
        next(batches)


def test_an_error_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Petastorm's pool would also print its traceback."""
    plan, _ = deleted_after_planning(tmp_path)
    with pytest.raises(DataError):
        list(read_batches(plan, COLUMNS, 3))
    assert "Traceback" not in capfd.readouterr().err


def test_closing_early_ends_the_threads(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [4] * 50)
    before = threads()
    batches = read_batches(plan, COLUMNS, 4)
    next(batches)
    assert threads() > before
    batches.close()
    assert threads() <= before


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_dropping_tensors_early_ends_the_threads(tmp_path: Path, taken: int) -> None:
    plan = plan_of(tmp_path, [4] * 50)
    for number, _ in enumerate(to_tf_dataset(plan, COLUMNS, 4, seed=1)):
        if number == taken:
            break
    for _ in to_tf_dataset(plan, COLUMNS, 4).take(taken):
        pass


def test_tensors_are_the_batches(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [7], [6, 5])
    options = {"ranks": 2, "rank": 1, "seed": 3, "epoch": 1}
    samples = to_tf_dataset(plan, COLUMNS, 4, **options)
    assert len(samples) == plan.steps(2, 4, 1, 3)
    assert samples.element_spec == {
        "user_id": tf.TensorSpec((4,), tf.int64), "click": tf.TensorSpec((4,), tf.int8),
        "weight": tf.TensorSpec((4,), tf.float32), "seller": tf.TensorSpec((4,), tf.int64),
        "price": tf.TensorSpec((4,), tf.float32), "clicked_seller": tf.TensorSpec((4, 3), tf.int64),
        "clicked_weight": tf.TensorSpec((4, 3), tf.float32),
    }  # fmt: skip
    due = list(read_batches(plan, COLUMNS, 4, **options))
    for _ in range(2):
        found = [{name: tensor.numpy() for name, tensor in batch.items()} for batch in samples]
        assert len(found) == len(due)
        for batch, due_batch in zip(found, due, strict=True):
            for name, values in due_batch.items():
                np.testing.assert_array_equal(batch[name], values)
                assert batch[name].dtype == values.dtype


def test_a_rank_without_row_groups_takes_as_many_steps(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [5])
    batches = list(to_tf_dataset(plan, COLUMNS, 2, rank=3, ranks=4, seed=1))
    assert [float(tf.reduce_sum(batch["weight"])) for batch in batches] == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["to_tf_dataset", "read_batches"])
def test_the_process_ends_while_a_reader_is_open(tmp_path: Path, reader: str) -> None:
    plan_of(tmp_path, [400] * 50)
    code = (
        f"from esmm.dataset import {reader}\n"
        "from esmm.plan import make_plan\n"
        "from tests.sample_files import COLUMNS\n"
        f"iterator = iter({reader}(make_plan({str(tmp_path)!r}, None, COLUMNS), COLUMNS, 16, seed=1))\n"
        "next(iterator)\n"
    )
    root = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=60)
