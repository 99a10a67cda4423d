"""One rank, and two with half the batch each: do they end with models that are worth the same?

    make bench-ranks                            # the demo's market
    make bench-ranks DATA=FOLDER                # KuaiRand's logs too

Each trains on the same days with six seeds and is measured on the day after them; `auc_difference` is, by task,
the largest difference between the means over the seeds, and `noise` what the seed alone moves an AUC by. The seconds
are those of the whole command.
"""

import datetime as dt
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.harness import ROOT, Figures, run, timed
from esmm import config as configs
from esmm import versions
from esmm.config import Config
from esmm.metrics import TASKS

DIRECTORY = ROOT / "build/bench/ranks"
SEEDS = 6
"""The seed alone moves the AUC of CVR by 0.003: of six the mean is within 0.0012."""
LIMIT = 0.002
"""What the mean AUCs of one rank and of two may differ by."""


def main() -> None:
    """Train every model six times over; ends with 1 where one rank and two differ by more than the limit."""
    logs = {"demo": demo}
    if os.environ.get("DATA"):
        logs["kuairand"] = kuairand
    measurements = {}
    for name, prepare in logs.items():
        file, days = prepare()
        for ranks in (1, 2):
            measurements[f"{name}, {ranks} rank{'s' * (ranks > 1)}"] = trained(file, days, ranks)
    report = run(
        "ranks", measurements, conclude=lambda report: concluded(report, list(logs)), repetitions=SEEDS
    )
    for name, of_name in report["auc_difference"].items():
        Console().print(name, {task: round(value, 4) for task, value in of_name.items()}, highlight=False)
    if any(value > LIMIT for of_name in report["auc_difference"].values() for value in of_name.values()):
        sys.exit(f"AUCs of one rank and of two: expected to differ by at most {LIMIT}, found more")


def concluded(report: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """How far one rank and two are apart, and two seeds."""
    found: dict[str, dict[str, dict[str, float]]] = {"auc_difference": {}, "noise": {}}
    for name in names:
        one, two = (report["figures"][f"{name}, {ranks}"] for ranks in ("1 rank", "2 ranks"))
        found["auc_difference"][name] = {
            task: abs(statistics.mean(one[task]["values"]) - statistics.mean(two[task]["values"]))
            for task in TASKS
        }
        found["noise"][name] = {task: statistics.stdev(one[task]["values"]) for task in TASKS}
    return found


def trained(file: Path, days: list[dt.date], ranks: int) -> Callable[[], Figures]:
    """Train on all days but the last and measure on that one: AUCs, each time with another seed."""
    config, seeds = configs.load(file), iter(range(1, 100))
    batch = 2 * config.training.batch_size // ranks

    def measure() -> Figures:
        models = f"{DIRECTORY}/models"
        command = [
            sys.executable, "jobs/train.py", "--config", file, "--samples", config.samples.table,
            "--from", days[0], "--to", days[-2], "--validate", days[-1], "--fresh", "--set", f"seed={next(seeds)}",
            "--set", f"training.ranks={ranks}", "--set", f"training.batch_size={batch}",
            "--set", f"scoring.models={models}", "--set", f"training.directory={DIRECTORY}/training",
            *(["--hosts", "localhost:2"] if ranks > 1 else []),
        ]  # fmt: skip
        seconds = timed(lambda: subprocess.run([str(word) for word in command], cwd=ROOT, check=True))
        facts = versions.manifest(models, versions.complete(models)[-1]).facts
        return {"s": seconds} | {task: facts["validation"][task]["auc"] for task in TASKS}

    return measure


def demo() -> tuple[Path, list[dt.date]]:
    """The demo's samples, and its days."""
    file = ROOT / "conf/demo.yaml"
    config = configs.load(file)
    assert config.simulation is not None  # the demo's config has one
    days = [config.simulation.start + dt.timedelta(days=n) for n in range(8)]
    if not built(config, days):
        job("simulate_logs", file)
        job("build_samples", file, "--from", days[0], "--to", days[-1])
    return file, days


def kuairand() -> tuple[Path, list[dt.date]]:
    """KuaiRand's samples, and their days."""
    subprocess.run(["make", "kuairand-logs"], cwd=ROOT, check=True)
    days = [dt.date.fromisoformat(day) for day in (ROOT / "build/kuairand/days").read_text().split()]
    file = ROOT / "conf/kuairand.yaml"
    if not built(configs.load(file), days):
        job("build_samples", file, "--allow-immature", "--from", days[0], "--to", days[-1])
    return file, days


def built(config: Config, days: list[dt.date]) -> bool:
    """Whether all days are published already."""
    return all((ROOT / config.samples.table / f"_manifests/ds={day}.json").exists() for day in days)


def job(name: str, file: Path, *options: object) -> None:
    """Run a job on two cores."""
    command = [ROOT / "spark-submit.sh", ROOT / f"jobs/{name}.py", "--config", file, *options]
    subprocess.run([str(word) for word in command], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
