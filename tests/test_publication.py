"""Publication as others see it: readers, rivals and kills, in processes of their own, on a real metastore."""

import datetime as dt
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from esmm import simulate
from esmm.claims import FileClaims
from esmm.config import parse
from esmm.publish import Table, new_run
from esmm.vacuum import vacuum
from tests import killed_job, metastore
from tests.metastore import DAY, ROOT, Session

pytestmark = pytest.mark.timeout(900)

FIRST = dt.date(2026, 3, 24)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("metastore")


@pytest.fixture(scope="module")
def uri(place: Path) -> Iterator[str]:
    with metastore.service(place) as address:
        yield address


@pytest.fixture(scope="module")
def session(uri: str, place: Path) -> Iterator[Session]:
    with Session(uri, place) as opened:
        assert opened.ask("sql", f"create database ads location '{place}/warehouse/ads.db'") == []
        yield opened


@pytest.mark.slow
def test_a_reader_by_sql_sees_ten_publications_whole(
    uri: str, session: Session, place: Path, tmp_path: Path
) -> None:
    root, done = str(tmp_path / "numbers"), tmp_path / "done"
    session.ask("publish", root, 0)
    with Session(uri, place) as reader:
        reader.tell(
            "watch", f"select value, count(*) from ads.numbers where ds = '{DAY}' group by value", str(done)
        )
        seen = [reader.answer()]
        for generation in range(1, 11):
            session.ask("publish", root, generation)
            seen += [reader.answer(), reader.answer()]
        done.touch()
        while (answer := reader.answer()) != "done":
            seen.append(answer)
    assert_whole(seen)


def test_a_reader_by_files_sees_ten_publications_whole(tmp_path: Path) -> None:
    """It goes by the manifest alone, lists the days as well, and knows no Spark; vacuum runs beside it."""
    table, done = Table(str(tmp_path / "numbers")), tmp_path / "done"
    code = (
        "import collections, datetime, json, pathlib, sys\n"
        "import pyarrow.parquet as pq\n"
        "from esmm.publish import Table\n"
        "table, day = Table(sys.argv[1]), datetime.date.fromisoformat(sys.argv[2])\n"
        "while not pathlib.Path(sys.argv[3]).exists():\n"
        "    assert table.days() == [day]\n"
        "    files = table.files([day])\n"
        "    values = [v for file in files for v in pq.read_table(file[7:])['value'].to_pylist()]\n"
        "    print(json.dumps(list(collections.Counter(values).items())), flush=True)\n"
    )
    publish(table, 0)
    command = [sys.executable, "-c", code, table.root, str(DAY), str(done)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as reader:
        assert reader.stdout is not None
        lines = [reader.stdout.readline()]
        for generation in range(1, 11):
            publish(table, generation)
            list(vacuum(table, dt.timedelta(hours=1)))
            lines += [reader.stdout.readline(), reader.stdout.readline()]
        done.touch()
        lines += reader.stdout.readlines()
    assert reader.returncode == 0
    assert_whole([yaml.safe_load(line) for line in lines])


def publish(table: Table, generation: int) -> None:
    run = new_run()
    with table.claimed([DAY], run):
        metastore.stage(Path(table.stage(run).removeprefix("file://")) / f"ds={DAY}", generation)
        table.publish(DAY, run, config="digest")


def assert_whole(seen: list[list[list[int]]]) -> None:
    """Each answer, [[generation, rows], …], is one generation with all its rows, and none is older than the last."""
    assert len(seen) > 20
    for answer in seen:
        assert len(answer) == 1, f"a mixture: {answer}"
        assert answer[0][1] == 4 * (100 + answer[0][0]), "some rows"
    generations = [answer[0][0] for answer in seen]
    assert generations == sorted(generations)
    assert len(set(generations)) > 5


@pytest.fixture
def config_file(values: dict[str, Any], tmp_path: Path) -> Path:
    """The small config, and its logs."""
    values["simulation"] |= {"users": 50, "exposures_per_day": 300}
    values["samples"]["rows_per_file"] = 200
    simulate.simulate(parse(values))
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def command(uri: str, place: Path, mode: str, program: str, config_file: Path, *options: str) -> list[str]:
    """A job, or a program that is one, on the metastore."""
    name = name_of(config_file)
    catalog = ["--set", f"samples.catalog={name}", "--set", f"scoring.catalog={name}_scores"]
    return [
        str(ROOT / "spark-submit.sh"), "--master", "local[2]", "--driver-memory", "1g",
        "--conf", f"spark.hadoop.hive.metastore.uris={uri}", "--conf", "spark.ui.enabled=false",
        "--conf", f"spark.sql.warehouse.dir={place}/warehouse",
        *program.split("|"), "--config", str(config_file), *(catalog if mode == "catalog" else []), *options,
    ]  # fmt: skip


def name_of(config_file: Path) -> str:
    """The samples of a test in the catalog."""
    return "ads.s" + re.sub(r"[^a-z0-9]", "_", config_file.parent.name)


def run(*arguments: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300)


BUILD = str(ROOT / "jobs/build_samples.py")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["files", "catalog"])
def test_of_two_jobs_on_one_day_one_publishes(
    uri: str, session: Session, place: Path, config_file: Path, mode: str
) -> None:
    arguments = command(uri, place, mode, BUILD, config_file, "--date", str(FIRST))
    jobs = [
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [job.communicate(timeout=300) for job in jobs]
    codes = [job.returncode for job in jobs]
    assert sorted(codes) == [0, 3], outputs
    said = outputs[codes.index(3)][0]  # where spark-submit shows what a job writes on standard error, too
    assert re.search(
        rf"^error: \S+/{FIRST}: expected no other run, found (run|one that was) ", said, re.MULTILINE
    )
    assert "300 samples of 1 days" in outputs[codes.index(0)][0]
    table = Table(yaml.safe_load(config_file.read_text())["samples"]["table"])
    assert len(list(Path(table.path).glob(f"run=*/ds={FIRST}/_manifest.json"))) == 1
    assert not list(Path(table.path).glob("_claims/*"))


@pytest.mark.slow
def test_a_killed_job_leaves_the_day_as_it_was_and_run_again_gives_the_same_rows(
    uri: str, session: Session, place: Path, config_file: Path
) -> None:
    """Each run after the first takes over the claim of one that was killed, and is killed one phase later."""
    table = Table(yaml.safe_load(config_file.read_text())["samples"]["table"])

    def rows() -> list[Any]:
        select = (
            f"select to_json(struct(*)) from {name_of(config_file)} where ds = '{FIRST}' order by exposure_id"
        )
        found: list[Any] = session.ask("sql", select)
        return found

    program = config_file.with_name("killed.py")
    program.write_text(killed_job.PROGRAM)
    options = ["--date", str(FIRST)]
    assert run(uri, place, "catalog", BUILD, config_file, *options).returncode == 0
    first = rows()
    assert len(first) == 300
    for phase in ("before the pointer", "after the pointer"):
        killed = run(uri, place, "catalog", f"{program}|{phase}", config_file, *options)
        assert killed.returncode == 128 + signal.SIGKILL, f"{phase}: {killed.stdout}\n{killed.stderr}"
        assert rows() == first, phase
    left = list(Path(table.path).glob("run=*"))
    assert len(left) == 3, "the first, and two that were killed"
    assert run(uri, place, "catalog", BUILD, config_file, *options).returncode == 0
    assert rows() == first
    assert not list(Path(table.path).glob("_claims/*"))

    swept = run(uri, place, "catalog", str(ROOT / "jobs/vacuum.py"), config_file, "--older-than", "0s")
    assert swept.returncode == 0, swept.stderr
    assert swept.stdout.count(f"/ds={FIRST} (") == 3
    assert len(list(Path(table.path).glob("run=*"))) == 1
    assert rows() == first


@pytest.mark.parametrize("phase", killed_job.PHASES)
def test_a_run_that_is_killed_and_run_again_gives_the_same_rows(tmp_path: Path, phase: str) -> None:
    """The same by files, without the job around it."""
    table = Table(str(tmp_path / "numbers"))
    publish(table, 1)
    code = (
        "import sys\n"
        "from tests import killed_job, test_publication\n"
        "from esmm.publish import Table\n"
        "killed_job.kill_at(sys.argv[1])\n"
        "test_publication.publish(Table(sys.argv[2]), 2)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, phase, table.root], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    generation = 2 if phase == "after the pointer" else 1
    assert counted(table) == {generation: 4 * (100 + generation)}
    assert table.claims.keys() == [str(DAY)]
    publish(table, 2)
    assert counted(table) == {2: 408}
    assert table.claims.keys() == []
    list(vacuum(table, dt.timedelta(0)))
    assert counted(table) == {2: 408}
    assert len(list(Path(table.path).glob("run=*"))) == 1


def counted(table: Table) -> dict[int, int]:
    """Generation to rows of the published day."""
    values = [pq.read_table(file.removeprefix("file://"))["value"] for file in table.files([DAY])]
    return dict(Counter(value for part in values for value in part.to_pylist()))


@pytest.mark.slow
def test_the_jobs_go_by_the_catalog(uri: str, session: Session, place: Path, config_file: Path) -> None:
    """Training reads what the partition points at, scores are a table, and --output needs no catalog."""
    days = ["--from", str(FIRST), "--to", str(FIRST)]
    for program, options in [
        (BUILD, days),
        (str(ROOT / "jobs/train.py"), days),
        (str(ROOT / "jobs/score.py"), ["--date", "2026-03-25"]),
    ]:
        done = run(uri, place, "catalog", program, config_file, *options)
        assert done.returncode == 0, done.stderr
    [[scored, users, best]] = session.ask(
        "sql",
        f"select count(*), count(distinct user_id), count_if(rank = 1) from {name_of(config_file)}_scores",
    )
    assert scored > users == best
    comments = {row[0]: row[2] for row in session.ask("sql", f"describe {name_of(config_file)}")}
    assert comments["exposed_at"] == "microseconds since 1970-01-01 UTC"

    # From a table, to where no catalog is involved: the session has to know tables all the same.
    clicks = yaml.safe_load(config_file.read_text())["logs"]["clicks"]["path"]
    table = f"{name_of(config_file)}_clicks"
    session.ask("sql", f"create table {table} using parquet location '{clicks}'")
    session.ask("sql", f"msck repair table {table}")  # its days are partitions
    output = config_file.parent / "elsewhere"
    sets = ("scoring.catalog=null", "logs.clicks.path=null", f"logs.clicks.table={table}")
    options = [*days, "--output", str(output), *(text for key in sets for text in ("--set", key))]
    done = run(uri, place, "catalog", BUILD, config_file, *options)
    assert done.returncode == 0, done.stderr
    assert Table(str(output)).manifest(FIRST).rows == 300
    assert Table(str(output)).manifest(FIRST).catalog is None
    claims = FileClaims(Table(str(output)).fs, f"{output}/_claims")
    assert claims.keys() == []
