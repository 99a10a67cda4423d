"""The whole job on a small log: simulated logs to a table of scores."""

import datetime as dt
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession

from esmm import evaluation, report, samples, schema, scoring, simulate
from esmm.config import parse
from esmm.publish import Table
from tests.test_samples import ZONE

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"days": 4, "users": 300, "items": 150, "exposures_per_day": 4_000}


def test_logs_to_scores(spark: SparkSession, values: dict[str, Any]) -> None:
    """Every part is the real one but for the launcher of ranks, which has tests of its own."""
    from esmm.distributed.exchange import Alone
    from esmm.plan import make_plan
    from esmm.training import train

    values["simulation"] |= SMALL
    values["training"] |= {"epochs": 8, "batch_size": 256}
    values["embeddings"] = {name: {"rows": 1_000, "dim": 8} for name in values["embeddings"]}
    values["statistics"] = {
        "item": {"by": ["item"], "days": [7]},
        "taste": {"by": ["user", "category"], "days": [30]},
    }
    config = parse(values)
    assert config.simulation is not None
    first = config.simulation.start
    days = [first + dt.timedelta(days=n) for n in range(4)]

    written = simulate.simulate(config)
    built = samples.build(spark, config, days[:3])
    assert [manifest.rows for manifest in built] == [4_000] * 3
    truth = spark.read.parquet(f"{config.simulation.directory}/truth")
    within = truth.where(truth["day"] <= str(days[2]))
    totals = within.agg({"click": "sum", "purchase": "sum"}).first()
    assert totals is not None
    # What attribution finds in the dirty logs is what the simulator drew.
    assert sum(manifest.counts["clicked"] for manifest in built) == totals["sum(click)"]
    assert sum(manifest.counts["bought"] for manifest in built) == totals["sum(purchase)"]

    plan = make_plan(config.samples.table, days[:2], schema.training_columns(config))
    result = train(config, plan, Alone(), days[:2])
    assert (result["samples"], result["steps"]) == (8 * 8_000, 8 * 32)

    held_out = evaluation.held_out(spark, config, days[2:3])
    predictions = scoring.with_predictions(held_out, config, result["version"])
    found = evaluation.evaluate(
        spark, config, predictions, model=result["version"], days=days[2:3], popularity_days=days[:2]
    )
    report.write(config, found)
    figures = json.loads((Path(config.evaluation.directory) / "evaluation.json").read_text())
    assert figures["rows"] == 4_000
    # A chance ranking of 4 000 rows, 400 of them clicked, lies within 0.5 ± 0.06 (four standard errors).
    assert 0.56 < figures["ctr"]["auc"] < figures["baselines"]["truth"]["ctr"]["auc"]

    midnight = dt.datetime.combine(days[3], dt.time(), ZONE)
    manifest = scoring.score(spark, config, days[3], midnight, result["version"])
    assert manifest.rows == written["candidates"]
    rows = spark.read.parquet(*Table(config.scoring.table).files(days[3:]))
    assert rows.where("pctr <= 0 or pctr >= 1 or abs(pctcvr - pctr * pcvr) > 1e-6").count() == 0
    assert rows.where("rank = 1").count() == rows.select("user_id").distinct().count()


@pytest.mark.slow
def test_the_commands_with_executors_of_their_own(values: dict[str, Any], tmp_path: Path) -> None:
    """As the README gives them, training and scoring on a local-cluster: JVMs that have no checkout."""
    values["simulation"] |= SMALL
    values["training"] |= {"ranks": 2}
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(values))

    def run(job: str, *options: str, master: str = "local[2]") -> str:
        command = [
            ROOT / "spark-submit.sh",
            "--master",
            master,
            ROOT / "jobs" / job,
            "--config",
            file,
            *options,
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    cluster = "local-cluster[2,1,2048]"
    run("simulate_logs.py")
    run("build_samples.py", "--from", "2026-03-24", "--to", "2026-03-26")
    trained = run("train.py", "--from", "2026-03-24", "--to", "2026-03-25", master=cluster)
    assert "rank=0" in trained
    assert "rank=1" in trained
    assert "8000 samples" in trained
    evaluated = run("evaluate.py", "--from", "2026-03-26", "--to", "2026-03-26")
    assert "CTR AUC 0." in evaluated
    scored = run("score.py", "--date", "2026-03-27", master=cluster)
    assert "model_version" in scored
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["evaluation", "logs", "models", "samples", "samples_rejects", "scores", "small.yaml", "training"]
    )


BAD = {
    "unknown key": (
        "build_samples.py",
        ["--set", "sample.table=x"],
        2,
        "error: sample: expected a known key (nearest: samples)",
    ),
    "no such config": (
        "score.py",
        ["--config", "nowhere.yaml"],
        2,
        "error: nowhere.yaml: expected a readable config file",
    ),
    "no logs": (
        "build_samples.py",
        [],
        1,
        "error: logs.items.path: expected Parquet files, found nothing there",
    ),
    "no model": ("evaluate.py", [], 1, "models: expected a published model, found none"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_and_its_exit_code(values: dict[str, Any], tmp_path: Path, case: str) -> None:
    """Through the real command; nothing but Spark's own lines may stand beside it."""
    job, options, code, line = BAD[case]
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(values))
    days = ["--date", "2026-03-27"] if job == "score.py" else ["--from", "2026-03-24", "--to", "2026-03-24"]
    command = [ROOT / "spark-submit.sh", ROOT / "jobs" / job, "--config", file, *days, *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == code, done.stderr
    # spark-submit passes on all that a job's Python writes on its standard output.
    written = done.stdout + done.stderr
    assert line in written
    assert written.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["small.yaml"]
