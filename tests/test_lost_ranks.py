"""Ranks that die, freeze or raise: named, ended everywhere, and started again from the last checkpoint."""

import contextlib
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import horovod.spark
import numpy as np
import psutil
import pytest
import yaml
from horovod.runner import gloo_run
from horovod.runner.common.util.timeout import TimeoutException
from pyspark.sql import SparkSession

from esmm import export, schema, versions
from esmm.config import Checkpoints, Config, Model, Optimizer, Training
from esmm.distributed import joining, spark_ranks, supervised
from esmm.distributed.exchange import STARTING
from esmm.distributed.heartbeats import Limits, Lost
from esmm.distributed.joining import joined
from esmm.distributed.launch import Work
from esmm.distributed.monitor import Monitor
from esmm.distributed.restarts import restarting
from esmm.errors import DataError, RankLostError, StorageError
from esmm.plan import ReadingPlan, make_plan
from esmm.runs import RunResult
from tests import synthetic
from tests.test_heartbeats import until

ROOT = Path(__file__).resolve().parent.parent
HOST = platform.node()
EPOCHS = 30


def test_a_run_is_started_again_as_often_as_the_config_says() -> None:
    tried: list[tuple[int, int]] = []

    def attempt(ranks: int, restart: int) -> str:
        tried.append((ranks, restart))
        if len(tried) == 1:
            raise RankLostError("rank 1 on h", expected="all ranks to go on", found="its process ended")
        if len(tried) == 2:
            raise StorageError("s3://a", expected="a readable Parquet file", found="Connection reset by peer")
        return "a result"

    settings = Training.model_validate({"directory": "d", "ranks": 4, "failure": {"max_restarts": 2}})
    slots = iter([3, 0])
    assert restarting(attempt, settings, lambda: next(slots)) == "a result"
    assert tried == [(4, 0), (3, 1), (1, 2)]

    tried.clear()
    none = settings.model_copy(update={"failure": settings.failure.model_copy(update={"max_restarts": 1})})
    with pytest.raises(StorageError):
        restarting(attempt, none, lambda: 4)
    assert tried == [(4, 0), (4, 1)]


def test_what_another_try_would_not_mend_is_not_tried_again() -> None:
    def attempt(ranks: int, restart: int) -> str:
        raise DataError("training, step 3", expected="finite losses and gradients", found="others")

    with pytest.raises(DataError, match="step 3"):
        restarting(attempt, Training(directory="d"), lambda: 1 / 0)  # type: ignore[arg-type, return-value]


def test_a_run_begins_once_and_not_before_spark_has_its_tasks(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Horovod's launcher asks for the event that ends its ranks right before it starts them."""
    settings = {"spark.driver.host": "127.0.0.1"}
    spark: Any = SimpleNamespace(master="yarn", getConf=lambda: settings, pythonExec="python")
    begun: list[int] = []
    has_tasks = False

    def run(*_: Any, **__: Any) -> None:
        if not has_tasks:
            raise TimeoutException("Timed out waiting for Spark tasks to start.")
        gloo_run.register_shutdown_event()
        raise RuntimeError("Process name: 0 Exit code: 1")

    monkeypatch.setattr(horovod.spark, "run", run)
    monkeypatch.setattr(spark_ranks, "_slots", lambda _: 0)
    two = with_restarts(synthetic.with_training(config, ranks=2), 2)
    work = Work(ReadingPlan(columns={}, files=()))
    for expected, raised in (([], DataError), ([1], RankLostError)):
        with pytest.raises(raised):
            spark_ranks.run(spark, two, lambda: work, lambda: begun.append(1))
        assert begun == expected
        has_tasks = True


@pytest.mark.parametrize("what", ["HorovodExchange", "set_up_tensorflow"])
def test_a_rank_that_cannot_join_says_why(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no such interface\nand more")

    for name in ("HOROVOD_GLOO_TIMEOUT_SECONDS", "HOROVOD_STALL_CHECK_TIME_SECONDS"):
        monkeypatch.setenv(name, "60")
    monkeypatch.setenv("HOROVOD_RANK", "1")
    monkeypatch.setattr(joining, "HorovodExchange", lambda: SimpleNamespace(local_size=1, last=STARTING))
    monkeypatch.setattr(joining, what, fail)
    settings = Training(directory="d")
    with Monitor(Limits.of(settings.failure), "127.0.0.1") as monitor:
        with pytest.raises(RuntimeError, match="no such interface"), joined(settings, monitor.address):
            pass
        until(lambda: monitor.lost)
    cause = "RuntimeError: no such interface, in step 0 (starting)"
    assert monitor.lost == Lost(who=f"rank 1 on {HOST}", cause=cause)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("has_ranks", [True, False])
def test_a_signal_to_the_driver_ends_its_ranks_for_good(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, has_ranks: bool
) -> None:
    """Horovod's launcher ends its ranks when an event is set; before it has any, it waits for Spark's tasks."""
    before, tries, ended, no_task = signal.getsignal(number), [], [], threading.Event()
    monkeypatch.setattr(supervised, "_PATIENCE", 1.0)

    def launch() -> None:
        waits_for = gloo_run.register_shutdown_event() if has_ranks else no_task
        os.kill(os.getpid(), number)
        ended.append("ranks" if waits_for.wait(5) else "nothing")
        raise RuntimeError("Process name: 0 Exit code: 143")

    def attempt(*_: int) -> None:
        tries.append(1)
        spark: Any = SimpleNamespace(cancelAllJobs=no_task.set)
        supervised.supervised(launch, monitor, spark, lambda: None)

    expected = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    with Monitor(Limits(0.1, 5.0, 5.0), "127.0.0.1", 2) as monitor, pytest.raises(expected):
        restarting(attempt, Training(directory="d"), lambda: 2)
    assert (tries, ended, no_task.is_set()) == ([1], ["ranks"], not has_ranks)
    assert signal.getsignal(number) is before


@pytest.fixture
def long(config: Config) -> Config:
    """Two ranks that train for long enough to be hit, with a checkpoint after every tenth step."""
    synthetic.publish(config, [150, 90])
    values = config.training.model_dump(mode="json") | {
        "ranks": 2, "batch_size": 10, "epochs": EPOCHS, "checkpoints": {"every_steps": 10},
        "failure": {"dead_within": "20s", "frozen_within": "24s", "max_restarts": 0},
    }  # fmt: skip
    return config.model_copy(update={"training": Training.model_validate(values)})


def with_restarts(config: Config, restarts: int) -> Config:
    failure = config.training.failure.model_copy(update={"max_restarts": restarts})
    return synthetic.with_training(config, failure=failure)


def rank_process(rank: int, config: Config) -> psutil.Process | None:
    """The process of a rank, once it runs."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            if (
                environment.get("HOROVOD_RANK") == str(rank)
                and environment.get("ESMM_TEST") == config.training.directory
                and not any(child.environ().get("HOROVOD_RANK") for child in process.children())
            ):
                return process
    return None


def what_runs(rank: psutil.Process) -> list[psutil.Process]:
    """Its parents, up to Spark's worker, which talks to the driver for Horovod."""
    parents = rank.parents()
    is_worker = ["pyspark.daemon" in parent.cmdline() for parent in parents]
    return parents[: is_worker.index(True) + 1]


class Blow(NamedTuple):
    """A rank's process, and when it was struck."""

    process: psutil.Process
    at: float


@contextlib.contextmanager
def struck(
    config: Config, rank: int, blow: signal.Signals, *, at_once: bool = False, host: bool = False
) -> Iterator[list[Blow]]:
    """Strike a rank as soon as there is a new checkpoint, or its process; a list of the one blow, once it is done.

    With `host`, also what there is of its host.
    """
    root = f"{config.training.directory}/checkpoints"
    done: list[Blow] = []
    before = versions.complete(root)[-1:]
    victims: list[psutil.Process] = []
    given_up = threading.Event()

    def strike() -> None:
        while not given_up.wait(0.1):
            is_time = at_once or versions.complete(root)[-1:] != before
            process = rank_process(rank, config) if is_time else None
            if process is not None:
                victims.extend([process, *(what_runs(process) if host else [])])
                for each in victims:
                    each.send_signal(blow)
                done.append(Blow(process, time.monotonic()))
                return

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        yield done
    finally:
        given_up.set()
        thread.join()
        for process in victims:
            with contextlib.suppress(psutil.Error):
                process.kill()


def run_on_spark(spark: SparkSession, config: Config, monkeypatch: pytest.MonkeyPatch) -> RunResult:
    monkeypatch.setenv("ESMM_TEST", config.training.directory)
    plan = make_plan(config.samples.table, None, schema.training_columns(config))
    return spark_ranks.run(spark.sparkContext, config, lambda: Work(plan))


@pytest.mark.slow
def test_a_killed_rank_is_named_and_the_run_goes_on_from_its_checkpoint(
    spark: SparkSession,
    long: Config,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Rank 0, which alone writes the checkpoints."""
    config = with_restarts(long, 1)
    with struck(config, 0, signal.SIGKILL) as done:
        result = run_on_spark(spark, config, monkeypatch)
    assert done
    assert result["samples"] == result["planned"] == EPOCHS * 240
    lines = "".join(capfd.readouterr())
    assert f"rank 0 on {HOST}" in next(line for line in lines.splitlines() if "starting again" in line)
    assert "its process ended" in lines
    assert "resuming" in lines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "where", "named", "seconds"),
    [
        (0, {}, rf"^rank 0 on {HOST}: .* found no sign of life for 12 s, in step", 24 + 15),
        # Before it meets the others; the seconds hold what the other one takes to start, too.
        (1, {"at_once": True}, r"^rank 1: .* found no first sign of life for 12 s", 60),
        # Nothing there answers Horovod's launcher, which waits for ever.
        (1, {"host": True}, rf"^rank 1 on {HOST}: .* found no sign of life for 12 s", 24 + 15),
    ],
    ids=["training", "starting", "with its host"],
)
def test_a_frozen_rank_ends_the_run_in_time_and_is_named(
    spark: SparkSession,
    long: Config,
    monkeypatch: pytest.MonkeyPatch,
    rank: int,
    where: dict[str, bool],
    named: str,
    seconds: float,
) -> None:
    with struck(long, rank, signal.SIGSTOP, **where) as done:
        with pytest.raises(RankLostError, match=named):
            run_on_spark(spark, long, monkeypatch)
        [blow] = done
        assert time.monotonic() - blow.at < seconds  # and what Horovod takes to end its processes
        if not where:
            assert not blow.process.is_running() or blow.process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_a_rank_that_raises_ends_the_run_and_is_named(
    spark: SparkSession, long: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 alone writes: it cannot, where a file is in the way."""
    Path(long.training.directory).write_text("in the way")
    since = time.monotonic()
    with pytest.raises(RankLostError, match=rf"^rank 0 on {HOST}: .* found \w*Error: "):
        run_on_spark(spark, long, monkeypatch)
    assert time.monotonic() - since < 60


def job(config: Config, directory: Path, *launcher: str | Path, **options: Any) -> subprocess.Popen[str]:
    """jobs/train.py, in a process of its own."""
    file = directory / "config.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = [
        *launcher,
        sys.executable,
        ROOT / "jobs/train.py",
        "--config",
        file,
        "--samples",
        config.samples.table,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ESMM_TEST": config.training.directory,
                   "TF_NUM_INTRAOP_THREADS": "1"}  # fmt: skip
    return subprocess.Popen(
        [str(word) for word in [*command, *options.get("arguments", ())]], cwd=directory, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_the_launcher_of_horovodrun_starts_again_too(long: Config, tmp_path: Path) -> None:
    """And comes to the model of a run that nothing happened to."""
    long = long.model_copy(update={
        "model": Model(towers=(8, 4), dropout=0.3),
        "training": long.training.model_copy(update={"deterministic": True}),
    })  # fmt: skip
    config = with_restarts(long, 1)
    with struck(config, 0, signal.SIGKILL) as done:
        process = job(config, tmp_path, arguments=["--hosts", "localhost:2"])
        output, _ = process.communicate(timeout=200)
    assert done
    assert process.returncode == 0, output
    assert f"rank 0 on {HOST}" in next(line for line in output.splitlines() if "starting again" in line)
    assert f"{EPOCHS * 240} samples in" in output
    assert "0 dropped, 0 repeated" in output

    untouched = synthetic.with_training(long, directory=f"{long.training.directory}-elsewhere")
    process = job(untouched, tmp_path, arguments=["--hosts", "localhost:2"])
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    first, second = versions.complete(long.scoring.models)
    rows = synthetic.columns(long, 50)
    ours, theirs = (export.load(long.scoring.models, version)(rows) for version in (first, second))
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["--hosts", "localhost:2"]], ids=["one process", "two ranks"])
def test_a_loss_that_is_not_finite_ends_the_run_with_exit_code_1(
    long: Config, tmp_path: Path, launcher: list[str]
) -> None:
    """The step is named, the checkpoint before it stays, and no other try is made."""
    optimizer = Optimizer(learning_rate=1e35, schedule="constant")
    config = synthetic.with_training(long, optimizer=optimizer, checkpoints=Checkpoints(every_steps=1))
    config = with_restarts(config, 2)
    process = job(config, tmp_path, arguments=launcher)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 1, output
    named = re.search(r"training, step (\d+): expected finite losses and gradients, found others in ", output)
    assert named, output
    assert "starting again" not in output
    kept = versions.complete(f"{config.training.directory}/checkpoints")
    last = versions.manifest(f"{config.training.directory}/checkpoints", kept[-1]).facts["step"]
    assert last == int(named[1]) - 1
    assert not versions.complete(config.scoring.models)


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "blow", "cause"), [
    (1, signal.SIGKILL, "its process ended"), (0, signal.SIGSTOP, "no sign of life"),
])  # fmt: skip
def test_under_a_horovodrun_of_ones_own_the_lost_rank_is_named(
    long: Config, tmp_path: Path, rank: int, blow: signal.Signals, cause: str
) -> None:
    launcher = [Path(sys.executable).with_name("horovodrun"), "-np", "2", "--gloo", "-H", "localhost:2"]
    with struck(long, rank, blow) as done:
        process = job(long, tmp_path, *launcher)
        output, _ = process.communicate(timeout=200)
        assert done, output
        assert time.monotonic() - done[0].at < 24 + 15
    assert process.returncode != 0
    # Who keeps the monitor is named by its rank alone.
    named = "rank 0" if rank == 0 else f"rank {rank} on {HOST}"
    assert [line for line in output.splitlines() if named in line and cause in line], output


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_ranks(long: Config, tmp_path: Path) -> None:
    """From 2 to 1 to 3; that each remaining row is then read once, tests/test_resume_reading.py shows."""
    samples = 0
    for ranks, hosts in ((2, "localhost:2"), (1, "localhost:1")):
        config = synthetic.with_training(long, ranks=ranks)
        with struck(config, 0, signal.SIGKILL) as done:
            process = job(config, tmp_path, arguments=["--hosts", hosts])
            process.communicate(timeout=200)
        assert done
        assert process.returncode == 1
        root = f"{config.training.directory}/checkpoints"
        now = int(versions.manifest(root, versions.complete(root)[-1]).facts["samples"])
        assert now > samples
        samples = now
    config = synthetic.with_training(long, ranks=3)
    process = job(config, tmp_path, arguments=["--hosts", "localhost:3"])
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert "resuming" in output
    assert f"{EPOCHS * 240} samples in" in output
    assert "0 dropped, 0 repeated" in output
