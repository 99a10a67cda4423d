"""Exit codes and last words of a job."""

import datetime as dt
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from esmm import cli
from esmm.config import Config, parse
from esmm.errors import ConfigError, ConflictError, DataError, JobError


@pytest.mark.parametrize(("kind", "code"), [(DataError, 1), (ConfigError, 2), (ConflictError, 3)])
def test_an_error_is_one_line_and_its_exit_code(kind: type[JobError], code: int) -> None:
    def main() -> None:
        raise kind("logs.clicks", expected="rows", found="none")

    result = CliRunner().invoke(cli.job(main), [])
    assert result.exit_code == code
    assert result.stderr == "error: logs.clicks: expected rows, found none\n"
    assert result.stdout == ""


def test_success_is_zero() -> None:
    def main(config_file: cli.ConfigFile, overrides: cli.Overrides = None) -> None:
        assert config_file == Path("a.yaml")
        assert overrides == ["x=1", "y.z=2"]

    app = cli.job(main)
    assert CliRunner().invoke(app, ["--config", "a.yaml", "--set", "x=1", "--set", "y.z=2"]).exit_code == 0
    assert "--set" in CliRunner().invoke(app, ["--help"]).stdout


Number = Annotated[int, typer.Option("--number")]
MISUSED = {
    "nothing": ([], "--config: expected a value, found none"),
    "no value": (["--config"], "--config: expected a value, found none"),
    "no day": (["--config", "a", "--from", "today"], "--from: expected YYYY-MM-DD, found 'today'"),
    "no day, by =": (["--config", "a", "--from=2026-3"], "--from: expected YYYY-MM-DD, found '2026-3'"),
    "an unknown option": (
        ["--config", "a", "--fom", "2026-03-24"],
        "--fom: expected an option of this job (nearest: --from), found an unknown one",
    ),
    "too much": (
        ["--config", "a", "--from", "2026-03-24", "2026-03-25"],
        "command line: expected options alone, found 2026-03-25",
    ),
}


@pytest.mark.parametrize("case", MISUSED)
def test_wrong_usage_is_one_line_and_two(case: str) -> None:
    def main(config_file: cli.ConfigFile, first: cli.FirstDay, number: Number = 1) -> None:
        raise AssertionError("not reached")

    arguments, line = MISUSED[case]
    result = CliRunner().invoke(cli.job(main), arguments)
    assert result.exit_code == 2
    assert result.stderr == f"error: {line}\n"
    assert result.stdout == ""


def test_a_number_that_is_none() -> None:
    """The words are pydantic's, whatever they are."""

    def main(number: Number = 1) -> None:
        raise AssertionError("not reached")

    result = CliRunner().invoke(cli.job(main), ["--number", "x"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --number: expected a valid integer")
    assert result.stderr.endswith(", found 'x'\n")


def test_what_the_system_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    def main() -> None:
        (tmp_path / "file/table").mkdir()

    result = CliRunner().invoke(cli.job(main), [])
    assert result.exit_code == 1
    expected = "a path that can be read and written"
    assert result.stderr == f"error: {tmp_path}/file/table: expected {expected}, found Not a directory\n"


@pytest.mark.parametrize("bug", [AssertionError("ranks differ"), TypeError("None"), KeyError("ds")])
def test_a_bug_keeps_its_traceback(bug: Exception) -> None:
    def main() -> None:
        raise bug

    result = CliRunner().invoke(cli.job(main), [])
    assert result.exception is bug
    assert result.stderr == ""


def test_the_traceback_of_a_mistake_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        raise DataError("logs.clicks", expected="rows", found="none")

    monkeypatch.setenv("ESMM_TRACEBACK", "1")
    result = CliRunner().invoke(cli.job(main), [])
    assert isinstance(result.exception, DataError)


def test_days_are_both_ends_and_all_between() -> None:
    first, last = dt.datetime(2026, 2, 27), dt.datetime(2026, 3, 1)
    assert cli.days(first, last) == [dt.date(2026, 2, 27), dt.date(2026, 2, 28), dt.date(2026, 3, 1)]
    with pytest.raises(
        ConfigError, match="--to: expected a day not before --from, 2026-03-01, found 2026-02-27"
    ):
        cli.days(last, first)


def test_times_of_the_command_line_are_local(config: Config) -> None:
    time = cli.local_time(dt.datetime(2026, 3, 29, 4), config)
    assert time is not None
    assert time.astimezone(dt.UTC) == dt.datetime(2026, 3, 29, 2, tzinfo=dt.UTC)


HIVE = "spark.sql.catalogImplementation"
INPUTS = ["logs.exposures", "logs.clicks", "logs.purchases", "logs.items", "logs.users", "scoring.candidates"]


@pytest.mark.parametrize("where", INPUTS)
def test_a_session_that_reads_a_table_of_the_catalog_has_hive(values: dict[str, Any], where: str) -> None:
    section, name = where.split(".")
    assert HIVE not in cli.spark_settings(parse(values))
    del values[section][name]["path"]
    values[section][name]["table"] = "shop.rows"
    assert cli.spark_settings(parse(values))[HIVE] == "hive"
