"""A table larger than a rank should hold: 40 million rows of 16 floats, trained by two ranks, resumed by three, scored.

    make bench-shards

Two ranks train until a checkpoint is there and are killed; three go on from it and export the model; a process loads it
and scores the rows. Into build/bench/shards.json: the memory that each of them held at its peak, in GiB, without and
with the pages of files that it has mapped, as ranks map a checkpoint; beside it what the table takes with its
optimizer's state, and the sizes of checkpoint and model.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks import harness, sample_rows
from benchmarks.harness import GIB, ROOT
from esmm import config as configs
from esmm import versions
from esmm.runs import checkpoints_of

ROWS, DIM = 40_000_000, 16
DIRECTORY = ROOT / "build/bench/shards"
OVERRIDES = [
    f"embeddings.product={{rows: {ROWS}, dim: {DIM}}}", f"training.directory={DIRECTORY}/training",
    f"scoring.models={DIRECTORY}/models", "training.checkpoints={every_steps: 20, keep: 1}",
]  # fmt: skip
SETTINGS = [word for override in OVERRIDES for word in ("--set", override)]
PATIENCE, INTERVAL = 900.0, 0.3
"""Seconds."""

Peak = dict[str, float]


def main() -> None:
    """Do it once: what is measured here is memory."""
    sample_rows.made_in(ROOT / "build/bench/rows")
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    config = configs.load(ROOT / "benchmarks/reference.yaml", OVERRIDES)
    checkpoints = checkpoints_of(config)
    two = train(2, until=lambda: bool(versions.complete(checkpoints)))
    checkpoint = size_of(Path(checkpoints) / versions.complete(checkpoints)[-1])
    three = train(3)
    version = versions.complete(config.scoring.models)[-1]
    facts = versions.manifest(config.scoring.models, version).facts
    scorers = watched([sys.executable, "-m", "benchmarks.bench_shards", "score", version], "pyspark")
    found = {
        "table_with_state_gib": ROWS * DIM * 4 * 2 / GIB,
        "two_ranks_gib": two,
        "three_ranks_gib": three,
        "scorers_gib": scorers,
        "checkpoint_gib": checkpoint,
        "model_gib": size_of(Path(config.scoring.models) / version),
        "stated_gib": facts["bytes"] / GIB,
        "tables": facts["tables"],
        "samples": facts["samples"],
        "planned": facts["planned"],
        "commit": harness.commit(),
        "machine": harness.machine(),
    }
    (ROOT / "build/bench").mkdir(parents=True, exist_ok=True)
    (ROOT / "build/bench/shards.json").write_text(json.dumps(found, indent=2) + "\n")
    Console().print_json(json.dumps(found))


def train(ranks: int, until: Callable[[], bool] = lambda: False) -> list[Peak]:
    """Train with so many ranks, to the end or until something is so; what each held at its peak."""
    command = [
        sys.executable, "jobs/train.py", "--config", "benchmarks/reference.yaml", "--samples", "build/bench/rows",
        "--hosts", f"localhost:{ranks}", *SETTINGS, "--set", f"training.ranks={ranks}",
    ]  # fmt: skip
    return watched(command, "jobs/train.py", until)


def watched(command: list[str], name: str, until: Callable[[], bool] = lambda: False) -> list[Peak]:
    """Run a command to its end, or kill it and all that it has started; GiB at the peak of those with a name.

    `own` is without the pages of mapped files, which are the kernel's to drop; `resident` is with them.
    Raises CalledProcessError where it fails, and TimeoutError where it takes too long.
    """
    peaks: dict[int, tuple[int, int]] = {}
    deadline = time.monotonic() + PATIENCE
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as process:
        while process.poll() is None and not until():
            if time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
                raise TimeoutError(f"{command}: more than {PATIENCE:.0f} s")
            for child in _children(process.pid):
                with contextlib.suppress(psutil.Error):
                    if any(name in word for word in child.cmdline()):
                        found = child.memory_info()
                        own, resident = peaks.get(child.pid, (0, 0))
                        peaks[child.pid] = max(own, found.rss - found.shared), max(resident, found.rss)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(INTERVAL)
        is_over = process.poll() is not None
        for child in [] if is_over else _children(process.pid):
            with contextlib.suppress(psutil.Error):
                child.kill()
        process.kill()
    if is_over and process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return [
        {"own": own / GIB, "resident": resident / GIB}
        for own, resident in sorted(peaks.values(), reverse=True)
        if own > GIB
    ]


def _children(process_id: int) -> list[psutil.Process]:
    try:
        return psutil.Process(process_id).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def score(version: str) -> None:
    """Score the rows in Spark's workers, as many at once as there is memory for."""
    from pyspark.sql import SparkSession

    from esmm import cli, room, scoring

    os.environ["PYSPARK_PYTHON"] = sys.executable
    config = configs.load(ROOT / "benchmarks/reference.yaml", OVERRIDES)
    settings = cli.spark_settings(config) | {"spark.master": "local[2]"}
    settings |= room.settings(config, version, settings)
    spark = SparkSession.builder.config(map=settings).getOrCreate()
    try:
        rows = spark.read.parquet(str(ROOT / "build/bench/rows"))
        scored = scoring.with_predictions(rows, config, version, keep=["user"])
        print(scored.selectExpr("count(*)", "avg(pctr)", "avg(pctcvr)").first())
    finally:
        spark.stop()


def size_of(directory: Path) -> float:
    """GiB of a directory's files."""
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) / GIB


if __name__ == "__main__":
    if sys.argv[1:2] == ["score"]:
        score(sys.argv[2])
    else:
        main()
