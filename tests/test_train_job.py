"""jobs/train.py: each way of starting it, and what a person may get wrong."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.testing
import yaml

from esmm import cli, registry, runs, schema
from esmm import config as configs
from esmm.distributed import launch
from esmm.plan import make_plan
from jobs import train
from tests import synthetic

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def file(values: dict[str, Any], tmp_path: Path) -> Path:
    """The small config in a file, its samples published."""
    values["training"] |= {"batch_size": 50, "ranks": 2}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    synthetic.publish(configs.load(path), [90, 60])
    return path


def started(command: list[str | Path], file: Path, *options: str) -> str:
    """All that a job's process writes, started from a directory of its own."""
    arguments = [*map(str, command), ROOT / "jobs/train.py", "--config", file, *options]
    run = subprocess.run(arguments, cwd=file.parent, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


def test_one_process_trains_on_a_plan(file: Path, tmp_path: Path) -> None:
    config = configs.load(file)
    plan = make_plan(config.samples.table, [synthetic.DAY], schema.training_columns(config))
    plan.dump(str(tmp_path / "plan.json"))
    written = started([sys.executable], file, "--samples", "plan.json", "--set", "training.epochs=2")
    assert f"model {registry.latest(config.scoring.models)}: 300 samples in 6 steps" in written
    assert "one process without horovodrun or Spark" in written


@pytest.mark.parametrize(("planned", "balance"), [
    (300, "0 dropped, 0 repeated"), (310, "10 fewer than planned (without a weight, or dropped)"),
    (290, "10 more than planned (repeated)"),
])  # fmt: skip
def test_the_last_line_says_what_is_known_of_the_samples(planned: int, balance: str) -> None:
    result = runs.RunResult(
        version="v", steps=6, samples=300, planned=planned, losses={}, metrics={}, validation=None
    )
    assert runs.told(result) == f"model v: 300 samples in 6 steps, {balance}"


@pytest.mark.slow
def test_executors_of_their_own_need_no_checkout(file: Path) -> None:
    submit: list[str | Path] = [ROOT / "spark-submit.sh", "--master", "local-cluster[2,1,1024]"]
    written = started(submit, file, "--from", "2026-03-24", "--to", "2026-03-24")
    config = configs.load(file)
    assert f"model {registry.latest(config.scoring.models)}: 150 samples in 2 steps" in written
    lines = re.findall(r"rank=(\d) rows=(\d+) size=2", written)
    assert sorted(rank for rank, _ in lines) == ["0", "1"]
    assert sorted(rows for _, rows in lines) == ["60", "90"]


@pytest.mark.slow
def test_horovodrun_starts_ranks(file: Path) -> None:
    launcher = Path(sys.executable).with_name("horovodrun")
    written = started([launcher, "-np", "2", "--gloo", "-H", "localhost:2", sys.executable], file)
    config = configs.load(file)
    assert f"model {registry.latest(config.scoring.models)}: 150 samples in 2 steps" in written
    assert written.count("samples in") == 1


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (["--from", "2026-03-24"], 2, r"error: --from and --to: expected both or neither, found one of them"),
        (
            ["--from", "2026-03-25", "--to", "2026-03-25"],
            1,
            r"error: .*ds=2026-03-25: expected a published day, found",
        ),
        (
            ["--samples", "nowhere"],
            1,
            r"error: nowhere: expected Parquet files with rows, found no row in 0 files",
        ),
        (
            ["--set", "training.rank=1"],
            2,
            r"error: training.rank: expected a known key \(nearest: ranks\), found",
        ),
        (["--hosts", "localhost"], 2, r"error: --hosts: expected HOST:SLOTS, by commas, found localhost"),
        (["--hosts", "localhost:1"], 2, r"error: --hosts: expected 2 slots, one a rank, found 1"),
        (["--hosts", "one:1,two:x"], 2, r"error: --hosts: expected HOST:SLOTS, by commas, found one:1,two:x"),
    ],
)
def test_a_mistake_ends_in_one_line(file: Path, options: list[str], code: int, line: str) -> None:
    found = typer.testing.CliRunner().invoke(cli.job(train.main), ["--config", str(file), *options])
    assert found.exit_code == code
    errors = [text for text in found.output.splitlines() if text.startswith("error")]
    assert len(errors) == 1
    assert re.match(line, errors[0]), errors


@pytest.mark.parametrize(
    "options",
    [
        ["--from", "2026-03-25", "--to", "2026-03-25"],
        ["--hosts", "localhost:1"],
        ["--hosts", "localhost:2", "--samples", "nowhere"],
        ["--set", "training.calibrate=true", "--set", "training.ranks=1"],
        ["--set", "training.early_stopping={}", "--hosts", "localhost:2"],
    ],
)
def test_a_mistake_gives_up_nothing(file: Path, options: list[str]) -> None:
    """What --fresh begins anew stays, to go on from, where nothing begins."""
    root = runs.checkpoints_of(configs.load(file))
    runs.finish(root, run="a run", model="a model")
    found = typer.testing.CliRunner().invoke(
        cli.job(train.main), ["--config", str(file), "--fresh", *options]
    )
    assert found.exit_code in (1, 2)
    assert runs.finished(root).model == "a model"


def test_fresh_gives_up_what_there_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, by the launcher, before any rank starts."""
    root = runs.checkpoints_of(configs.load(file))
    runs.finish(root, run="a run", model="a model")
    states: list[str] = []
    monkeypatch.setattr(launch, "_horovodrun", lambda *_: states.append(runs.finished(root).model))
    options = ["--hosts", "localhost:2", "--config", str(file)]
    for more in ([], ["--fresh"]):
        found = typer.testing.CliRunner().invoke(cli.job(train.main), [*options, *more])
        assert found.exit_code == 0, found.output
    assert states == ["a model", ""]
