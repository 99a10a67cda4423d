"""Scores as others see them while jobs are killed: the old partition or the new one, each row once."""

import contextlib
import datetime as dt
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from esmm import export, histograms, models, simulate
from esmm.config import Config, parse
from esmm.publish import Table
from tests import killed_score
from tests.conftest import ROOT, small

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

DAY = dt.date(2026, 3, 27)
JOB = [str(ROOT / "jobs/score.py")]
SEEN = {"pctr": {-1: 1.0, 0: 2.0}, "price": {85: 1.0, 90: 1.0}, "clicked": {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}}
"""What the models' own samples are said to look like: the indices of drift tell how often each row was counted."""
LOCAL, CLUSTER = "local[2]", "local-cluster[2,1,1536]"


class Night(NamedTuple):
    """A day that the old model has scored, and is to be scored by the new one."""

    config: Config
    file: Path
    old: str
    new: str

    @property
    def table(self) -> Table:
        return Table(str(self.config.scoring.table))

    def command(self, program: list[str], version: str, master: str) -> list[str]:
        return [
            str(ROOT / "spark-submit.sh"), "--master", master, "--driver-memory", "1g",
            "--conf", "spark.ui.enabled=false", "--conf", "spark.sql.execution.arrow.maxRecordsPerBatch=20",
            *program, "--config", str(self.file), "--date", str(DAY), "--model", version,
        ]  # fmt: skip

    def run(
        self, program: list[str], version: str, master: str = LOCAL
    ) -> "subprocess.CompletedProcess[str]":
        command = self.command(program, version, master)
        return subprocess.run(command, capture_output=True, text=True, timeout=600)

    def killed(self, who: str, when: str, master: str = LOCAL) -> "subprocess.CompletedProcess[str]":
        """The new model's job, of which one process is killed."""
        program, marker = self.file.with_name("killed.py"), self.file.with_name(f"{who} {when}")
        program.write_text(killed_score.PROGRAM)
        done = self.run([str(program), who, when, str(marker)], self.new, master)
        assert who == "driver" or marker.exists(), f"nobody died: {done.stdout}\n{done.stderr}"
        marker.unlink(missing_ok=True)
        return done

    def rows(self) -> pd.DataFrame:
        parts = [pq.read_table(file.removeprefix("file://")).to_pandas() for file in self.table.files([DAY])]
        found = pd.concat(parts).sort_values(["user_id", "rank"], ignore_index=True)
        assert not found.duplicated(["user_id", "item_id"]).any()
        return found


def written(values: dict[str, Any], directory: Path) -> tuple[Config, Path]:
    """The config, and its file in a directory."""
    file = directory / "small.yaml"
    file.write_text(yaml.safe_dump(values))
    return parse(values), file


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Night]:
    """Logs, two models and a day of the first one's scores, which no test touches; and the config's values."""
    directory = tmp_path_factory.mktemp("night")
    values = small(directory)
    values["simulation"] |= {"users": 50, "exposures_per_day": 300}
    config, file = written(values, directory)
    simulate.simulate(config)
    versions = []
    for seed in (1, 2):
        made = models.make(config.model_copy(update={"seed": seed}))
        versions.append(export.export(made, config, config.scoring.models, {histograms.FACT: SEEN}))
    found = Night(config, file, *versions)
    done = found.run(JOB, found.old)
    assert done.returncode == 0, done.stderr
    assert set(found.rows()["model_version"]) == {found.old}
    return values, found


@pytest.fixture
def night(scored: tuple[dict[str, Any], Night], tmp_path: Path) -> Night:
    """A copy of the table, in a directory of the test's own."""
    values, first = scored
    table = tmp_path / "scores"
    shutil.copytree(first.table.path, table)
    here = {**values, "scoring": {**values["scoring"], "table": str(table)}}
    return Night(*written(here, tmp_path), first.old, first.new)


READER = """
import datetime, json, os, pathlib, sys
import pyarrow.parquet as pq
from esmm.publish import Table

os.nice(19)  # it would take a core to itself
table, day = Table(sys.argv[1]), datetime.date.fromisoformat(sys.argv[2])
while not pathlib.Path(sys.argv[3]).exists():
    rows = [row for file in table.files([day]) for row in pq.read_table(
        file.removeprefix("file://"), columns=["model_version", "user_id", "item_id"]).to_pylist()]
    print(json.dumps([sorted({row["model_version"] for row in rows}), len(rows),
                      len({(row["user_id"], row["item_id"]) for row in rows})]), flush=True)
"""


@contextlib.contextmanager
def read(night: Night, versions: list[str]) -> Iterator[None]:
    """Query the day in a loop, in another process, while the block runs: one model's rows after the other's, all of
    them, each once."""
    done, rows = night.file.with_name("done"), len(night.rows())
    command = [sys.executable, "-c", READER, night.table.root, str(DAY), str(done)]
    with night.file.with_name("seen").open("w+") as seen:
        reader = subprocess.Popen(command, stdout=seen, cwd=ROOT)
        try:
            yield
        finally:
            done.touch()
            code = reader.wait(60)
        assert code == 0, "a query failed"
        seen.seek(0)
        answers: list[Any] = [json.loads(line) for line in seen]
    assert len(answers) > 20
    assert {tuple(counts) for _, *counts in answers} == {(rows, rows)}
    in_turn = [answers[0][0]]
    for of_models, *_ in answers[1:]:
        in_turn += [of_models] if of_models != in_turn[-1] else []
    assert in_turn == [[version] for version in versions]


def check_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, rtol=0, atol=1e-6)


def test_a_driver_that_is_killed(night: Night) -> None:
    """Beside its publication's last step; the one to die after the pointer has moved leaves the new partition.

    The other phases are of `tests.test_publication`: the table is published by the same code.
    """
    old = night.rows()
    with read(night, [night.old, night.new]):
        for phase in ("before the pointer", "after the pointer"):
            done = night.killed("driver", phase)
            assert done.returncode == 128 + signal.SIGKILL, f"{phase}: {done.stdout}\n{done.stderr}"
            if phase != "after the pointer":
                check_same(night.rows(), old)
        new = night.rows()
        assert night.run(JOB, night.new).returncode == 0
        check_same(night.rows(), new)
    assert set(new["model_version"]) == {night.new}
    assert len(new) == len(old)
    assert night.table.claims.keys() == []


def test_a_worker_that_is_killed_on_one_machine(night: Night) -> None:
    """There a task has one try: the job ends in one line and leaves the day as it was."""
    old = night.rows()
    with read(night, [night.old, night.new]):
        for moment in ("later rows", "ranked rows"):
            done = night.killed("worker", moment)
            assert done.returncode == 1, f"{moment}: {done.stdout}\n{done.stderr}"
            lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("error: ")]
            assert len(lines) == 1, done.stdout + done.stderr
            assert "Python worker exited unexpectedly" in lines[0]
            check_same(night.rows(), old)
        assert len(list(Path(night.table.path).glob("run=*"))) == 1, "what was staged is gone"
        assert night.run(JOB, night.new).returncode == 0
    assert len(night.rows()) == len(old)


def test_who_is_killed_on_a_cluster_is_replaced(night: Night) -> None:
    """The day is the one that nobody was killed on, and what was scored twice is counted once."""
    assert night.run(JOB, night.new).returncode == 0
    expected, facts = night.rows(), night.table.manifest(DAY).facts
    assert min(facts["drift"].values()) > 0
    assert night.run(JOB, night.old).returncode == 0
    deaths = (("worker", "later rows"), ("executor", "ranked rows"))
    with read(night, [night.old, night.new]):
        for who, moment in deaths:
            done = night.killed(who, moment, CLUSTER)
            assert done.returncode == 0, f"{who}, {moment}: {done.stdout}\n{done.stderr}"
            check_same(night.rows(), expected)
            assert night.table.manifest(DAY).facts == facts


def test_of_two_jobs_on_one_day_one_publishes(night: Night) -> None:
    command = night.command(JOB, night.new, LOCAL)
    with read(night, [night.old, night.new]):
        jobs = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        outputs = [job.communicate(timeout=600) for job in jobs]
        codes = [job.returncode for job in jobs]
        assert sorted(codes) == [0, 3], outputs
    said = "".join(outputs[codes.index(3)])
    assert f"/{DAY}: expected no other run, found " in said
    assert len(list(Path(night.table.path).glob(f"run=*/ds={DAY}/_manifest.json"))) == 2
    assert night.table.claims.keys() == []
