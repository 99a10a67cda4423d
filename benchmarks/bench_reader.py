"""Reading samples: pyarrow alone, stock Petastorm, and this project's reader, as arrays and as a tf.data dataset.

Each measurement is a process of its own on the same files (`benchmarks.sample_rows`), with two threads that decode:
it reads them once to warm up and then several times. `pyarrow`, `stock` and `arrays` give out the row groups as they
are; `batches` and `dataset` give out what training reads, shuffled rows in batches of 4096. The memory is the
process's peak, TensorFlow included, over one epoch of the dataset and over ten.

    python -m benchmarks.bench_reader            # all, into build/bench/reader.json
    python -m benchmarks.bench_reader stock 2    # one: reads twice, prints its figures in JSON
"""

import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import harness, sample_rows
from benchmarks.harness import ROOT, Figures
from benchmarks.sample_rows import COLUMNS

ROWS = ROOT / "build/bench/rows"
THREADS, BATCH = 2, 4096
PASSES = 2
RATIOS = {
    "arrays_vs_stock": ("arrays", "stock", "rows/s"),
    "arrays_vs_pyarrow": ("arrays", "pyarrow", "rows/s"),
    "batches_vs_stock": ("batches", "stock", "rows/s"),
    "dataset_vs_stock": ("dataset", "stock dataset", "rows/s"),
    "rss_10_vs_1_epochs": ("10 epochs", "1 epoch", "MiB"),
}

Read = Callable[[int], Iterable[int]]
"""An epoch, by its number: the rows of each piece that comes out."""


def pyarrow() -> Read:
    """Row groups by a pool of threads, each list column flattened and reshaped."""
    groups = [
        (path, index)
        for path in sorted(ROWS.glob("*.parquet"))
        for index in range(pq.read_metadata(path).num_row_groups)
    ]

    def flat(values: pa.ChunkedArray) -> np.ndarray:
        [chunk] = values.chunks
        if pa.types.is_list(chunk.type):
            return chunk.flatten().to_numpy().reshape(len(chunk), -1)
        return chunk.to_numpy()

    def scan(group: tuple[Path, int]) -> int:
        path, index = group
        table = pq.ParquetFile(path).read_row_group(index, use_threads=False)
        arrays = {name: flat(table[name]) for name in table.column_names}
        return len(arrays["user"])

    def read(_epoch: int) -> Iterable[int]:
        with ThreadPoolExecutor(THREADS) as pool:
            yield from pool.map(scan, groups)

    return read


def stock() -> Read:
    """Petastorm's own batches, one a row group."""
    from petastorm import make_batch_reader

    def read(_epoch: int) -> Iterable[int]:
        with make_batch_reader(ROWS.as_uri(), workers_count=THREADS) as reader:
            for batch in reader:
                yield len(batch.user)

    return read


def stock_dataset() -> Read:
    """Petastorm's own dataset, in batches."""
    from petastorm import make_batch_reader
    from petastorm.tf_utils import make_petastorm_dataset

    def read(_epoch: int) -> Iterable[int]:
        with make_batch_reader(ROWS.as_uri(), workers_count=THREADS) as reader:
            for batch in make_petastorm_dataset(reader).rebatch(BATCH):
                yield int(batch.user.shape[0])

    return read


def arrays() -> Read:
    """This project's row groups as arrays."""
    from esmm.epochs import Piece
    from esmm.plan import make_plan
    from esmm.reader import read_row_groups

    pieces = [Piece(group) for group in make_plan(str(ROWS), None, COLUMNS).row_groups]

    def read(_epoch: int) -> Iterable[int]:
        for group in read_row_groups(pieces, COLUMNS, THREADS):
            yield len(group["user"])

    return read


def batches() -> Read:
    """This project's batches as arrays, shuffled."""
    from esmm.dataset import read_batches
    from esmm.epochs import Epoch, Position
    from esmm.plan import make_plan

    plan = make_plan(str(ROWS), None, COLUMNS)

    def read(epoch: int) -> Iterable[int]:
        reading = Epoch(plan, batch_size=BATCH, seed=1, position=Position(epoch=epoch))
        for batch in read_batches(reading, COLUMNS, threads=THREADS):
            yield int(batch["weight"].sum())

    return read


def dataset() -> Read:
    """This project's dataset, shuffled, as training takes it."""
    from esmm.dataset import to_tf_dataset
    from esmm.epochs import Epoch, Position
    from esmm.plan import make_plan

    plan = make_plan(str(ROWS), None, COLUMNS)

    def read(epoch: int) -> Iterable[int]:
        reading = Epoch(plan, batch_size=BATCH, seed=1, position=Position(epoch=epoch))
        for batch in to_tf_dataset(reading, COLUMNS, threads=THREADS):
            yield int(batch["weight"].numpy().sum())

    return read


READERS = {
    "pyarrow": pyarrow,
    "stock": stock,
    "stock dataset": stock_dataset,
    "arrays": arrays,
    "batches": batches,
    "dataset": dataset,
}


def measure(reader: str, passes: int) -> Figures:
    """Warm up and read some times over, in this process."""
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    warnings.simplefilter("ignore")
    read = READERS[reader]()

    def epoch(number: int) -> None:
        rows = sum(read(number))
        if rows != sample_rows.ROWS:
            raise ValueError(f"{reader}: expected {sample_rows.ROWS} rows, found {rows}")

    epoch(0)
    seconds = sum(harness.timed(lambda number=number: epoch(number)) for number in range(1, passes))  # type: ignore[misc]
    peak = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    figures = {"MiB": int(peak.split()[1]) / 1024}
    return figures | ({"rows/s": (passes - 1) * sample_rows.ROWS / seconds} if passes > 1 else {})


def in_a_process(reader: str, passes: int) -> Callable[[], Figures]:
    """A measurement in a process of its own."""

    def run() -> Figures:
        command = [sys.executable, "-m", "benchmarks.bench_reader", reader, str(passes)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
        return found

    return run


def main() -> None:
    """Measure all readers in turn, three times over."""
    sample_rows.made_in(ROWS)
    readers: dict[str, Callable[[], Figures]] = {
        reader: in_a_process(reader, 1 + PASSES) for reader in READERS
    }
    memory = {"1 epoch": in_a_process("dataset", 1), "10 epochs": in_a_process("dataset", 10)}
    harness.run("reader", readers | memory, ratios=RATIOS, conclude=harness.medians)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
