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

from esmm import reader
from esmm.batching import cut
from esmm.buffers import Arrays
from esmm.dataset import read_batches, to_tf_dataset
from esmm.epochs import Epoch, Piece, Position
from esmm.errors import DataError
from esmm.plan import ReadingPlan, make_plan
from esmm.publish import Table
from esmm.reader import read_row_groups
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
        [padding] = cut([], COLUMNS, len(real), [0])
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
    reading = Epoch(plan, ranks=ranks, batch_size=batch_size, seed=seed, position=Position(epoch=epoch))
    per_rank = [list(read_batches(reading, COLUMNS, rank=rank, threads=workers)) for rank in range(ranks)]
    rows = [numbers(batches) for batches in per_rank]
    assert sorted(itertools.chain(*rows)) == list(range(sum(map(sum, files))))
    assert {len(batches) for batches in per_rank} == {math.ceil(max(map(len, rows)) / batch_size)}
    assert {len(array) for batches in per_rank for batch in batches for array in batch.values()} == {
        batch_size
    }


def test_the_order_is_the_same_each_time_and_another_in_the_next_epoch(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [30, 20, 10], [40], [5, 5, 5])

    def order(seed: int | None, epoch: int, workers: int = 2) -> list[int]:
        reading = Epoch(plan, batch_size=8, seed=seed, position=Position(epoch=epoch))
        return numbers(list(read_batches(reading, COLUMNS, threads=workers)))

    assert order(7, 0) == order(7, 0) == order(7, 0, workers=5)
    assert len({tuple(order(seed, epoch)) for seed, epoch in [(7, 0), (7, 1), (8, 0), (None, 0)]}) == 4
    assert order(None, 0) == order(None, 5) == list(range(115))


def test_a_published_table_is_read_from_any_storage(tmp_path: Path) -> None:
    """Many row groups of one file at once: memory's file objects share one position."""
    published, day = Table(f"memory://{tmp_path}/samples"), dt.date(2026, 3, 25)
    write(f"{published.stage('a')}/ds={day}/part-0.parquet", [50] * 40)
    published.publish(day, "a", config="digest")
    plan = make_plan(published.root, [day], COLUMNS)
    assert sorted(
        numbers(list(read_batches(Epoch(plan, batch_size=64, seed=1), COLUMNS, threads=4)))
    ) == list(range(2000))


def test_row_groups_come_in_the_order_given_whichever_is_ready_first(
    tmp_path: Path,
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

    pieces = [Piece(group) for group in plan.row_groups]
    read = read_row_groups(pieces, COLUMNS, load=load_second_first)
    assert [len(arrays["click"]) for arrays in read] == [3, 4]


def test_the_pools_early_end_and_wrong_order_lose_nothing() -> None:
    """What Petastorm's pool can do while its ventilator is about to hand over the last row groups."""

    class Pool:
        steps: Iterator[Any] = iter([EmptyResultError(), (1, {"b": 1}), EmptyResultError(), (0, {"a": 0})])

        def get_results(self) -> Any:
            step = next(self.steps)
            if isinstance(step, Exception):
                raise step
            return step

    results, pool = reader._InOrder(2), Pool()
    assert [results.read_next(pool, None, None) for _ in range(2)] == [{"a": 0}, {"b": 1}]
    with pytest.raises(StopIteration):
        results.read_next(pool, None, None)


def test_few_row_groups_are_in_memory_at_a_time(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [1] * 60)
    loaded: list[int] = []

    def counted(group: RowGroup, columns: Any) -> Arrays:
        loaded.append(group.index)
        return load(group, columns)

    pieces = [Piece(group) for group in plan.row_groups]
    for taken, _ in enumerate(read_row_groups(pieces, COLUMNS, threads=2, load=counted), start=1):
        assert len(loaded) - taken <= 4
    assert sorted(loaded) == list(range(60))


def null_among_ids(root: Path) -> tuple[ReadingPlan, str]:
    bad = with_column(table(6, 3), "seller", pa.array([1, None, 3], pa.int64()))
    plan = plan_of(root, [3], [3], [3])
    write_tables(f"{root}/part-2.parquet", [bad])
    *others, last = plan.files
    last = last.model_copy(update={"bytes": (root / "part-2.parquet").stat().st_size})
    plan = plan.model_copy(update={"files": (*others, last)})
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
    batches = iter(read(Epoch(plan, batch_size=3), COLUMNS))
    assert [np.asarray(next(batches)["user_id"]).tolist() for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(DataError, match=rf"part-2\.parquet{message}$"):
        next(batches)


def test_an_error_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Petastorm's pool would also print its traceback."""
    plan, _ = deleted_after_planning(tmp_path)
    with pytest.raises(DataError):
        list(read_batches(Epoch(plan, batch_size=3), COLUMNS))
    assert "Traceback" not in capfd.readouterr().err


def test_closing_early_ends_the_threads(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [4] * 50)
    before = threads()
    batches = read_batches(Epoch(plan, batch_size=4), COLUMNS)
    next(batches)
    assert threads() > before
    batches.close()
    assert threads() <= before


@pytest.mark.parametrize("read", [read_batches, to_tf_dataset])
def test_a_storage_that_does_not_answer_keeps_nobody(tmp_path: Path, read: Callable[..., Any]) -> None:
    plan = plan_of(tmp_path, [4] * 3)
    answers = threading.Event()

    def load_slowly(group: RowGroup, columns: Any) -> Arrays:
        if group.index:
            answers.wait(timeout=60)
        return load(group, columns)

    batches = iter(read(Epoch(plan, batch_size=4), COLUMNS, load=load_slowly))
    next(batches)
    start = time.monotonic()
    batches.close()
    assert time.monotonic() - start < 5
    answers.set()


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_dropping_tensors_early_ends_the_threads(tmp_path: Path, taken: int) -> None:
    plan = plan_of(tmp_path, [4] * 50)
    for number, _ in enumerate(to_tf_dataset(Epoch(plan, batch_size=4, seed=1), COLUMNS)):
        if number == taken:
            break
    some = to_tf_dataset(Epoch(plan, batch_size=4), COLUMNS).take(taken)
    for _ in range(2):
        assert len(list(some)) == taken


def test_tensors_are_the_batches(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [7], [6, 5])
    reading = Epoch(plan, ranks=2, batch_size=4, seed=3, position=Position(epoch=1))
    samples = to_tf_dataset(reading, COLUMNS, rank=1)
    assert len(samples) == reading.steps
    assert samples.element_spec == {
        "user_id": tf.TensorSpec((4,), tf.int64), "click": tf.TensorSpec((4,), tf.int8),
        "weight": tf.TensorSpec((4,), tf.float32), "seller": tf.TensorSpec((4,), tf.int64),
        "price": tf.TensorSpec((4,), tf.float32), "clicked_seller": tf.TensorSpec((4, 3), tf.int64),
        "clicked_weight": tf.TensorSpec((4, 3), tf.float32),
    }  # fmt: skip
    due = list(read_batches(reading, COLUMNS, rank=1))
    for _ in range(2):
        found = [{name: tensor.numpy() for name, tensor in batch.items()} for batch in samples]
        assert len(found) == len(due)
        for batch, due_batch in zip(found, due, strict=True):
            for name, values in due_batch.items():
                np.testing.assert_array_equal(batch[name], values)
                assert batch[name].dtype == values.dtype


def test_a_rank_without_row_groups_takes_as_many_steps(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [5])
    batches = list(to_tf_dataset(Epoch(plan, ranks=4, batch_size=2, seed=1), COLUMNS, rank=3))
    assert [float(tf.reduce_sum(batch["weight"])) for batch in batches] == [0, 0, 0]


SLOW = """
import sys, time
import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from esmm import dataset
from esmm.epochs import Epoch
from esmm.plan import make_plan
from tests.sample_files import COLUMNS, write

class Slow(MemoryFileSystem):
    protocol = "slow"
    def cat_file(self, path, start=None, end=None):
        time.sleep(0.1)
        return super().cat_file(path, start, end)
    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("slow://"))

fsspec.register_implementation("slow", Slow)
plan = make_plan(write("slow://samples.parquet", [400] * 50), None, COLUMNS)
iterator = iter(getattr(dataset, sys.argv[1])(Epoch(plan, batch_size=16), COLUMNS))
next(iterator)
"""


@pytest.mark.slow
@pytest.mark.parametrize("read", ["to_tf_dataset", "read_batches"])
def test_the_process_ends_while_a_reader_is_open(read: str) -> None:
    """Its threads are on the way through Arrow into a storage's Python."""
    root = Path(__file__).resolve().parent.parent
    ended = subprocess.run(
        [sys.executable, "-c", SLOW, read], cwd=root, check=False, timeout=60, capture_output=True
    )
    assert ended.returncode == 0, ended.stderr
    assert b"Traceback" not in ended.stderr
