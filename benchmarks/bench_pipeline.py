"""Each stage of the main job, from the command to its end: seconds, and rows a second.

A smaller market than the demo's, so that starting Spark and TensorFlow is a good part of each stage, as it is
where one day is built or scored at a time.
"""

import datetime as dt
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import yaml

from benchmarks.harness import ROOT, Figures, run, timed
from esmm import config as configs
from esmm import tables

DIRECTORY = ROOT / "build/bench/pipeline"
DAYS = 5
MARKET = {"days": DAYS, "users": 2_000, "items": 1_000, "exposures_per_day": 20_000}


def write_config(path: Path) -> configs.Config:
    """The demo's config on the smaller market, everything below this benchmark's own directory."""
    values = yaml.safe_load((ROOT / "conf/demo.yaml").read_text().replace("build/demo", str(path.parent)))
    values["simulation"] |= MARKET
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return configs.load(path)


def main() -> None:
    """Run all stages in order, three times over, each time from an empty directory."""
    file = DIRECTORY / "config.yaml"
    config = write_config(file)
    assert config.simulation is not None  # the demo's config has one
    first = config.simulation.start
    days = [first + dt.timedelta(days=n) for n in range(DAYS)]
    # The last day is scored; the day before it is held out.
    *training, held_out, scored = days
    built = [*training, held_out]
    samples, scores = tables.samples(config), tables.scores(config)

    def stage(job: str, *options: object, rows: Callable[[], int]) -> Callable[[], Figures]:
        command = [str(ROOT / "spark-submit.sh"), str(ROOT / f"jobs/{job}.py"), "--config", str(file)]

        def measure() -> Figures:
            seconds = timed(lambda: subprocess.run([*command, *map(str, options)], cwd=ROOT, check=True))
            return {"s": seconds, "rows/s": rows() / seconds}

        return measure

    def sample_rows(days: list[dt.date]) -> int:
        return sum(samples.manifest(day).rows for day in days)

    def simulated() -> Figures:
        shutil.rmtree(DIRECTORY)
        write_config(file)
        return simulate()

    simulate = stage("simulate_logs", rows=lambda: DAYS * MARKET["exposures_per_day"])
    run(
        "pipeline",
        {
            "simulate_logs": simulated,
            "build_samples": stage(
                "build_samples", "--from", built[0], "--to", built[-1], rows=lambda: sample_rows(built)
            ),
            "train": stage(
                "train", "--from", training[0], "--to", training[-1],
                rows=lambda: config.training.epochs * sample_rows(training),
            ),
            "evaluate": stage(
                "evaluate", "--from", held_out, "--to", held_out, rows=lambda: sample_rows([held_out])
            ),
            "score": stage("score", "--date", scored, rows=lambda: scores.manifest(scored).rows),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
