"""What is removed, and above all what is not."""

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pytest
import typer.testing
import yaml
from pyspark.sql import SparkSession

from esmm import cli
from esmm import vacuum as vacuums
from esmm.claims import Claim
from esmm.errors import DataError
from esmm.publish import Table, new_run, part_of
from esmm.vacuum import vacuum
from jobs import vacuum as job
from tests import test_catalog
from tests.test_catalog import database
from tests.test_publish import DAY, publish, read, stage, table

__all__ = ["database", "table"]  # fixtures

OTHER = dt.date(2026, 3, 26)
NOW, WEEK = dt.timedelta(0), dt.timedelta(days=7)


def removed(table: Table, older_than: dt.timedelta = NOW, dry_run: bool = False) -> list[str]:
    found = [item.what for item in vacuum(table, older_than, dry_run=dry_run)]
    return [what.removeprefix(f"{table.root}/").removeprefix(f"{table.path}/") for what in found]


def directories(table: Table) -> set[str]:
    """Run and day of the Parquet files that are there."""
    return {
        path.split("/run=")[1].rpartition("/")[0] for path in table.fs.glob(f"{table.path}/run=*/*/*.parquet")
    }


def test_what_was_replaced_goes_and_what_counts_stays(table: Table) -> None:
    publish(table, "a", [1])
    publish(table, "a", [7], OTHER)
    publish(table, "b", [2])
    stage(table, "killed", [3])
    table.fs.makedirs(f"{table.path}/run=killed/_temporary/0")
    table.fs.pipe_file(f"{table.path}/run=killed/_temporary/0/x", b"")
    expected = [f"run=a/ds={DAY}", f"run=killed/ds={DAY}"]
    assert removed(table, dry_run=True) == expected
    assert directories(table) == {f"a/ds={DAY}", f"a/ds={OTHER}", f"b/ds={DAY}", f"killed/ds={DAY}"}
    assert removed(table) == [*expected, "run=killed"]
    assert directories(table) == {f"a/ds={OTHER}", f"b/ds={DAY}"}
    assert not table.fs.glob(f"{table.path}/run=killed*")
    assert (read(table), read(table, OTHER)) == ([2], [7])
    assert removed(table) == []


def made_old(path: str, age: dt.timedelta) -> None:
    then = (dt.datetime.now() - age).timestamp()
    for file in Path(path).rglob("*"):
        os.utime(file, (then, then))


def test_age_counts_from_when_a_directory_was_replaced(tmp_path: Path) -> None:
    """It was written ten days ago; who began to read it a minute ago has a week to finish."""
    table = Table(str(tmp_path / "table"))
    publish(table, "a", [1])
    stage(table, "killed", [1])
    made_old(table.path, 10 * WEEK / 7)
    publish(table, "b", [2])
    assert removed(table, WEEK) == [f"run=killed/ds={DAY}"]
    assert directories(table) == {f"a/ds={DAY}", f"b/ds={DAY}"}
    made_old(f"{table.path}/run=a", 8 * WEEK / 7)
    assert removed(table, WEEK) == [f"run=a/ds={DAY}"]


def test_a_living_runs_directories_stay(table: Table) -> None:
    publish(table, "a", [1])
    other = Table(table.root)
    with other.claimed([OTHER], "at work"):
        stage(other, "at work", [2], OTHER)
        assert removed(table) == []
    assert removed(table) == [f"run=at work/ds={OTHER}"]


def test_a_part_of_a_living_run_is_alive_as_well(table: Table) -> None:
    """Days that are built one by one are under the claims of the run that builds them."""
    publish(table, "a", [1])
    run = new_run()
    with table.claimed([OTHER], run):
        stage(table, part_of(run, str(OTHER)), [2], OTHER)
        stage(table, part_of(new_run(), str(OTHER)), [2], OTHER)
        [dead] = removed(table, dry_run=True)
        assert not dead.startswith(f"run={run}")
    assert len(removed(table)) == 2


def test_the_claims_of_the_samples_protect_what_the_run_writes_beside_them(table: Table) -> None:
    rejects = Table(f"{table.root}_rejects", claims=table.claims)
    publish(rejects, "a", [1])
    stage(rejects, "at work", [2], OTHER)
    with table.claimed([OTHER], "at work"):
        assert removed(rejects) == []
    assert removed(rejects) == [f"run=at work/ds={OTHER}"]


def test_a_claim_that_cannot_be_read_may_be_anyones(table: Table) -> None:
    publish(table, "a", [1])
    publish(table, "b", [2])
    table.fs.makedirs(f"{table.path}/_claims/{OTHER}")
    table.fs.pipe_file(f"{table.path}/_claims/{OTHER}/000001.json", b"")
    assert removed(table) == []


def test_the_claims_of_dead_runs_go(table: Table) -> None:
    table.claims.add(str(DAY), 1, Claim.of("dead").model_copy(update={"pid": 2**22 + 1}))
    table.claims.add(str(OTHER), 1, Claim.of("living"))
    expected = [f"_claims/{DAY}, claim of run dead, which is dead"]
    assert removed(table, dry_run=True) == expected
    assert removed(table) == expected
    assert table.claims.keys() == [str(OTHER)]


def test_a_run_that_publishes_at_the_last_moment_keeps_its_files(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It moves the pointer and gives up its claim between the look at one and the look at the other."""
    publish(table, "a", [1])
    stage(table, "b", [2])
    real = vacuums._is_claimed

    def looked(table: Table, path: str) -> bool:
        found = real(table, path)
        if "run=b" in path:
            table.publish(DAY, "b", config="digest")
        return found

    monkeypatch.setattr(vacuums, "_is_claimed", looked)
    removed(table)
    assert read(table) == [2]


def test_a_table_without_pointers_is_left_alone(table: Table) -> None:
    publish(table, "a", [1])
    table.fs.rm(f"{table.path}/_manifests", recursive=True)
    assert removed(table) == []
    assert directories(table) == {f"a/ds={DAY}"}


def test_a_pointer_that_cannot_be_read_stops_everything(table: Table) -> None:
    publish(table, "a", [1])
    table.fs.pipe_file(f"{table.path}/_manifests/ds={DAY}.json", b"[]")
    with pytest.raises(DataError, match="expected a manifest"):
        removed(table)
    assert directories(table) == {f"a/ds={DAY}"}


def test_of_a_catalogs_table_the_partitions_count(spark: SparkSession, database: str, tmp_path: Path) -> None:
    """And a config that lost its `catalog` removes nothing that the catalog points at."""
    table = test_catalog.opened(spark, f"{tmp_path}/samples")
    for run in ("a", "b"):
        test_catalog.publish(table, run, value=test_catalog.longs(1))
    without = Table(table.root)
    publish(without, "c", [1], OTHER)
    assert removed(without) == []
    assert removed(table, dry_run=True) == removed(table) == [f"run=a/ds={DAY}"]
    spark.sql("drop table ads.samples")
    assert removed(table) == []
    assert directories(table) == {f"b/ds={DAY}", f"c/ds={OTHER}"}


@pytest.mark.parametrize(
    ("options", "says", "left"),
    [
        ([], "", 2),
        (["--older-than", "0s", "--dry-run"], "would remove {0}/run=a/ds=2026-03-25 (3 files, ", 2),
        (["--older-than", "0s"], "removed {0}/run=a/ds=2026-03-25 (3 files, ", 1),
        (["--set", "retention=0s"], "removed {0}/run=a/ds=2026-03-25 (3 files, ", 1),
    ],
)
def test_the_job_removes_and_says_what(
    values: dict[str, Any], tmp_path: Path, options: list[str], says: str, left: int
) -> None:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(values))
    roots = [values["samples"]["table"], values["samples"]["table"] + "_rejects", values["scoring"]["table"]]
    for root in roots:
        for run in ("a", "b"):
            publish(Table(root), run, [1])
    arguments = ["--config", str(tmp_path / "small.yaml"), *options]
    result = typer.testing.CliRunner().invoke(cli.job(job.main), arguments)
    assert result.exit_code == 0, result.output
    for root in roots:
        assert says.format(root) in result.stdout
        assert len(directories(Table(root))) == left


def test_an_age_that_is_none_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(values))
    arguments = ["--config", str(tmp_path / "small.yaml"), "--older-than", "soon"]
    result = typer.testing.CliRunner().invoke(cli.job(job.main), arguments)
    assert result.exit_code == 2
    assert (
        result.stderr == "error: --older-than: expected a duration such as 90s, 30m, 12h or 7d, found soon\n"
    )
