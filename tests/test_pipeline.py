"""The whole job on a small log: simulated logs to a table of scores."""

import datetime as dt
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession

from esmm import evaluation, report, samples, schema, scoring, simulate
from esmm.config import Config, parse
from esmm.days import day_start
from esmm.publish import Table
from tests.test_samples import DAYS, ZONE, Event, write_logs

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
    built = samples.build(spark, config, days[:3]).or_raise()
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
        "error: logs.exposures.path: expected Parquet files, found nothing there",
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
    assert line in last_words(tmp_path, job, [*days, *options], code)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["small.yaml"]


def last_words(directory: Path, job: str, options: list[str], code: int) -> str:
    """The one line that a job ends with."""
    command = [ROOT / "spark-submit.sh", ROOT / "jobs" / job, "--config", directory / "small.yaml", *options]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=240, env=os.environ)
    # spark-submit passes on all that a job's Python writes on its standard output.
    written = done.stdout + done.stderr
    assert done.returncode == code, written
    lines = [line for line in written.splitlines() if not re.match(r"\d\d:\d\d:\d\d \[warn\] ", line)]
    assert len(lines) == 1, written
    assert lines[0].startswith("error: ")
    return lines[0]


def nothing(config: Config) -> None:
    """The logs stay as they are."""


def unreadable(config: Config) -> None:
    Path(config.logs.clicks.source, "part-0.parquet").write_text("no Parquet at all")


def a_column_too_few(config: Config) -> None:
    Path(config.logs.clicks.source, "part-0.parquet").unlink()
    text = "click_id,user_id,item_id,clicked_at\n2,1,1,2026-03-28 00:01:00\n3,1,1\n"
    Path(config.logs.clicks.source, "a.csv").write_text(text)


SET_CSV = [
    f"--set=logs.clicks.{key}"
    for key in ("format=csv", "time_unit=text", "types={click_id: bigint, user_id: bigint, item_id: bigint}")
]
NO_TABLE = ["--set=logs.purchases.path=null", "--set=logs.purchases.table=nowhere.purchases"]
SPOILT: list[Any] = [
    # What happens to the logs, the job's options (of two, the last counts), the exit code, the line.
    pytest.param(unreadable, [], 1, "clicks/part-0.parquet: expected a path that can be read", id="unreadable file"),
    pytest.param(
        a_column_too_few, SET_CSV, 1, "clicks/a.csv: expected rows of click_id bigint, user_id bigint, ",
        id="CSV with a column too few", marks=pytest.mark.slow,
    ),
    pytest.param(
        nothing, NO_TABLE, 1, "logs.purchases.table: expected a table of the catalog, found nothing there",
        id="catalog table that is not there",
    ),
    pytest.param(
        nothing, ["--set=time_zone=Europe/Pariss"], 2, "time_zone: expected a time zone of the IANA database",
        id="time zone that does not exist",
    ),
    pytest.param(
        nothing, ["--set=lists.clicked.length=0"], 2, "lists.clicked.length: expected greater than 0, found 0",
        id="N = 0",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "options", "code", "line"), SPOILT)
def test_spoilt_input_is_one_line_and_nothing_published(
    values: dict[str, Any],
    tmp_path: Path,
    spoil: Callable[[Config], None],
    options: list[str],
    code: int,
    line: str,
) -> None:
    config = parse(values)
    start = day_start(DAYS[0], ZONE)
    write_logs(config, [Event(1, 1, 1, start)], [Event(2, 1, 1, start)], [Event(3, 1, 1, start)])
    spoil(config)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(values))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    given = ["--date=2026-03-28", "--logs-until=2026-04-10", *options]
    assert line in last_words(tmp_path, "build_samples.py", given, code)
    assert Table(config.samples.table).days() == []
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_beats_item_popularity(tmp_path: Path) -> None:
    """conf/demo.yaml at its real size, by the commands of `make demo`, in a directory of its own."""
    text = (ROOT / "conf/demo.yaml").read_text()
    assert text.count("build/demo/") > 5, "relative to where the jobs start"
    (tmp_path / "demo.yaml").write_text(text)
    for line in re.findall(r"jobs/(\S+) --config conf/demo.yaml *(.*)", (ROOT / "Makefile").read_text()):
        job, options = line
        if job != "score.py":
            command = [
                ROOT / "spark-submit.sh",
                ROOT / "jobs" / job,
                "--config",
                "demo.yaml",
                *options.split(),
            ]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400)
            assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "build/demo/evaluation/evaluation.json").read_text())
    assert figures["rows"] == 50_000
    assert figures["ctr"]["auc"] > figures["baselines"]["popularity"]["ctr"]["auc"] + 0.03
