"""A real standalone cluster, whose master, workers and jobs share a secret, runs the whole job."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.standalone import cluster

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_standalone_cluster_builds_trains_and_scores(values: dict[str, Any], tmp_path: Path) -> None:
    values["simulation"] |= {"days": 4, "users": 200, "items": 100, "exposures_per_day": 2_000}
    values["training"] |= {"ranks": 2}
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(values))

    def run(job: str, *options: str, master: list[str]) -> str:
        command = [ROOT / "spark-submit.sh", *master, ROOT / "jobs" / job, "--config", file, *options]
        done = subprocess.run(
            [str(word) for word in command], cwd=tmp_path, capture_output=True, text=True, timeout=250
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("simulate_logs.py", master=["--master", "local[2]"])
    with cluster(tmp_path, workers=2) as (address, properties):
        master = ["--master", address, "--properties-file", str(properties), "--executor-memory", "1g",
                  "--conf", "spark.sql.shuffle.partitions=2"]  # fmt: skip
        built = run("build_samples.py", "--from", "2026-03-24", "--to", "2026-03-26", master=master)
        assert "exposures" in built
        trained = run("train.py", "--from", "2026-03-24", "--to", "2026-03-25", master=master)
        assert "4000 samples in" in trained
        assert "0 dropped, 0 repeated" in trained
        assert "rank=1" in trained
        assert "not authenticated" not in trained
        evaluated = run("evaluate.py", "--from", "2026-03-26", "--to", "2026-03-26", master=master)
        assert "CTR AUC 0." in evaluated
        assert "with lists as of the day's start" in evaluated
        scored = run("score.py", "--date", "2026-03-27", master=master)
        assert "model_version" in scored
