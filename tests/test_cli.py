"""Exit codes and last words of a job."""

import datetime as dt
from pathlib import Path

import pytest
from typer.testing import CliRunner

from esmm import cli
from esmm.config import Config
from esmm.errors import ConfigError, ConflictError, DataError, JobError


@pytest.mark.parametrize(("kind", "code"), [(DataError, 1), (ConfigError, 2), (ConflictError, 3)])
def test_an_error_is_one_line_and_its_exit_code(kind: type[JobError], code: int) -> None:
    def main() -> None:
        raise kind("logs.clicks", expected="rows", found="none")

    result = CliRunner().invoke(cli.job(main), [])
    assert result.exit_code == code
    assert result.stderr == "error: logs.clicks: expected rows, found none\n"
    assert result.stdout == ""


def test_success_is_zero_and_wrong_usage_is_two() -> None:
    def main(config_file: cli.ConfigFile, overrides: cli.Overrides = None) -> None:
        assert config_file == Path("a.yaml")
        assert overrides == ["x=1", "y.z=2"]

    app = cli.job(main)
    assert CliRunner().invoke(app, ["--config", "a.yaml", "--set", "x=1", "--set", "y.z=2"]).exit_code == 0
    assert CliRunner().invoke(app, []).exit_code == 2
    assert CliRunner().invoke(app, ["--config", "a.yaml", "--nope"]).exit_code == 2
    assert "--set" in CliRunner().invoke(app, ["--help"]).stdout


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
