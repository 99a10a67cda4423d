"""How many workers a model leaves room for."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from esmm import room, schema, versions
from esmm.config import Config, parse
from esmm.errors import DataError
from tests.conftest import ROOT

GIB = 2**30
KUBERNETES = {"spark.master": "k8s://https://host:6443", "spark.executor.cores": "8"}


@pytest.fixture
def version(config: Config, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of 3 GiB, as its manifest has it: 4 GiB a worker."""
    return put(config, tmp_path_factory.mktemp("empty"), 3)


def put(config: Config, empty: Path, size: int) -> str:
    """The version of a model of so many GiB, as its manifest has it."""
    versions.put(config.scoring.models, version := versions.new_version(), empty, {"bytes": size * GIB})
    return version


def free_is(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    """So much of this machine's memory."""
    memory = type("Memory", (), {"available": int(gib * GIB)})
    monkeypatch.setattr(room.psutil, "virtual_memory", lambda: memory)


@pytest.mark.parametrize(("given", "cpus"), [
    ({"spark.executor.memoryOverhead": "32g"}, None),
    ({"spark.executor.memoryOverhead": "31g"}, "2"),  # 7 would fit, 4 times 2 cores run
    ({"spark.executor.memoryOverhead": "8192"}, "4"),
    ({"spark.executor.memoryOverhead": "4096m"}, "8"),
    ({"spark.executor.memoryOverhead": "4g", "spark.executor.pyspark.memory": "40g"}, None),
    ({"spark.executor.memoryOverhead": "64g", "spark.task.cpus": "2"}, "2"),
    ({}, None),  # nobody says
])  # fmt: skip
def test_as_many_tasks_at_once_as_fit(
    config: Config, version: str, given: dict[str, str], cpus: str | None
) -> None:
    with capture_logs() as lines:
        found = room.settings(config, version, KUBERNETES | given)
    assert found == ({} if cpus is None else {"spark.task.cpus": cpus})
    assert [line["tasks"] for line in lines] == ([] if cpus is None else [8 // int(cpus)])


@pytest.mark.parametrize(("size", "cpus"), [(1, "4"), (5, "8")])
def test_of_two_models_that_score_after_each_other_the_larger_counts(
    config: Config, version: str, tmp_path: Path, size: int, cpus: str
) -> None:
    """8 GiB hold two workers of 4 GiB or one of 6, and never have to hold both models."""
    (tmp_path / "empty").mkdir()
    rival = put(config, tmp_path / "empty", size)
    given = KUBERNETES | {"spark.executor.memoryOverhead": "8g"}
    assert room.settings(config, version, given, rival) == {"spark.task.cpus": cpus}
    larger, needed = (version, 4) if size < 3 else (rival, 6)
    with pytest.raises(DataError, match=f"{larger}: expected {needed}.0 GiB for a worker, found 1.0 GiB"):
        room.settings(config, version, given | {"spark.executor.memoryOverhead": "1g"}, rival)


@pytest.mark.parametrize(("master", "cpus"), [
    ("local[2]", None), ("local[8]", "4"), ("local[6,3]", "3"), ("local", None), ("local-cluster[1,4,4096]", "4"),
])  # fmt: skip
def test_one_machine_has_what_is_free_without_javas_heap(
    config: Config, version: str, monkeypatch: pytest.MonkeyPatch, master: str, cpus: str | None
) -> None:
    free_is(monkeypatch, 13)
    found = room.settings(config, version, {"spark.master": master, "spark.driver.memory": "4g"})
    assert found == ({} if cpus is None else {"spark.task.cpus": cpus})


@pytest.mark.parametrize(("free", "cpus"), [(4.5, "2"), (3.1, "2"), (8.5, "2"), (12.5, None)])
def test_one_machine_always_runs_one_task(
    config: Config, version: str, monkeypatch: pytest.MonkeyPatch, free: float, cpus: str | None
) -> None:
    """Though Java's 4 GiB would leave less than a worker's 4 of what is free, or less than nothing."""
    free_is(monkeypatch, free)
    with capture_logs() as lines:
        found = room.settings(config, version, {"spark.master": "local[2]", "spark.driver.memory": "4g"})
    assert found == ({} if cpus is None else {"spark.task.cpus": cpus})
    warnings = [line for line in lines if line["log_level"] == "warning"]
    assert [line["free"] for line in warnings] == ([f"{free} GiB"] if free < 8 else [])


def test_a_machine_that_cannot_hold_the_model_is_an_error(
    config: Config, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_is(monkeypatch, 2.9)
    expected = r"3.0 GiB of free memory for the model, or one with fewer rows in `embeddings`, found 2.9 GiB$"
    with pytest.raises(DataError, match=rf"{version}: expected {expected}"):
        room.settings(config, version, {"spark.master": "local[2]", "spark.driver.memory": "4g"})


def test_what_is_left_of_a_machine_is_never_below_nothing(
    config: Config, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_is(monkeypatch, 3)
    given = {"spark.master": "local-cluster[1,2,1024]", "spark.driver.memory": "4g"}
    with pytest.raises(DataError, match=r"expected 4.0 GiB for a worker, found 0.0 GiB$"):
        room.settings(config, version, given)


def test_executors_of_one_machine_share_what_is_free(
    config: Config, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """13 GiB without the driver's 4, by 2, without 1 of each executor's own."""
    free_is(monkeypatch, 13)
    given = {"spark.master": "local-cluster[2,4,1024]", "spark.driver.memory": "4g"}
    with pytest.raises(DataError, match=r"expected 4.0 GiB for a worker, found 3.5 GiB$"):
        room.settings(config, version, given)


def test_how_many_cores_a_standalone_executor_takes_is_not_known(config: Config, version: str) -> None:
    given = {"spark.master": "spark://host:7077", "spark.executor.memoryOverhead": "9g"}
    with capture_logs() as lines:
        assert room.settings(config, version, given) == {}
    assert [line["event"].partition(":")[0] for line in lines] == ["spark.executor.cores is not set"]
    assert room.settings(config, version, given | {"spark.executor.cores": "8"}) == {"spark.task.cpus": "4"}


def test_no_room_for_one_is_an_error(config: Config, version: str) -> None:
    with pytest.raises(DataError, match=rf"{version}: expected 4.0 GiB for a worker, found 3.9 GiB$"):
        room.settings(config, version, KUBERNETES | {"spark.executor.memoryOverhead": "4000m"})


@pytest.mark.parametrize("master", ["k8s://https://host:6443", "local[2]"])
def test_spark_confines_each_worker_by_the_executors_cores(config: Config, version: str, master: str) -> None:
    """As `ulimit -v` in a worker has it, whatever `spark.task.cpus` says: 39 GiB by 8 cores."""
    given = {"spark.master": master, "spark.executor.pyspark.memory": "39g", "spark.task.cpus": "8"}
    expected = r"at least 40.0 GiB, 5.0 GiB for each of 8 cores, found 39.0 GiB$"
    with pytest.raises(DataError, match=rf"^spark.executor.pyspark.memory: expected {expected}"):
        room.settings(config, version, KUBERNETES | given)


@pytest.mark.parametrize(("job", "days"), [
    ("score", ["--date", "2026-03-26"]), ("evaluate", ["--from", "2026-03-26", "--to", "2026-03-26"]),
])  # fmt: skip
def test_jobs_go_by_what_spark_submit_is_given(
    values: dict[str, Any], tmp_path: Path, job: str, days: list[str]
) -> None:
    """The session is never made: there is no such master."""
    config, version = parse(values), versions.new_version()
    columns = {
        column.name: {"type": column.type, "length": column.length}
        for column in schema.feature_columns(config)
    }
    (tmp_path / "empty").mkdir()
    versions.put(config.scoring.models, version, tmp_path / "empty", {"bytes": 3 * GIB, "columns": columns})
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(values))
    command = [
        ROOT / "spark-submit.sh", "--master", "spark://127.0.0.1:1", "--driver-memory", "512m",
        "--conf", "spark.executor.cores=8", "--conf", "spark.executor.memoryOverhead=3g",
        ROOT / f"jobs/{job}.py", "--config", file, "--model", version, *days,
    ]  # fmt: skip
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    error = f"error: {config.scoring.models}/{version}: expected 4.0 GiB for a worker, found 3.0 GiB"
    assert (found.returncode, error in found.stdout + found.stderr) == (1, True), found
