"""What every job's command line has in common: its options, its log, its exit codes.

app = cli.job(main)      # jobs/NAME.py
if __name__ == "__main__":
    app()
"""

import datetime as dt
import io
import logging
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO, cast
from zoneinfo import ZoneInfo

import pydantic
import structlog
import typer
import typer.core

from esmm import config as configs
from esmm import failures, storage, usage
from esmm.config.fields import Duration
from esmm.errors import ConfigError, JobError

ConfigFile = Annotated[Path, typer.Option("--config", help="The config, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Overrides one key of the config, dotted; repeatable."),
]
"""The options that each job takes first."""

FirstDay = Annotated[
    dt.datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="The first day.", show_default=False)
]
LastDay = Annotated[
    dt.datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The last day.", show_default=False)
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output", metavar="DIRECTORY", help="Where to write, in place of the config's table and catalog."
    ),
]
Date = Annotated[
    dt.datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="The day, where it is one.")
]
First = Annotated[dt.datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="The first day.")]
Last = Annotated[dt.datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="The last day.")]


class OneLine(typer.core.TyperCommand):
    """A command whose mistakes of usage end like all others: in one line, and exit code 2."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as Typer does; what it refuses, in this project's words."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            raise _ended(usage.explained(error, given)) from error


def job(main: Callable[..., None]) -> typer.Typer:
    """A command-line program that runs `main`; a person's mistake ends it in one line and an exit code.

    0: done; 1: the data or the run failed; 2: the command line or the config is wrong; 3: another run is
    doing the same. Bugs keep their traceback; ESMM_TRACEBACK=1 shows where any error came from.
    """

    @wraps(main)
    def run(*args: Any, **kwargs: Any) -> None:
        configure_log()
        try:
            main(*args, **kwargs)
        except Exception as error:
            explained = failures.explained(error)
            if explained is None or os.environ.get("ESMM_TRACEBACK") == "1":
                raise
            raise _ended(explained) from error

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(cls=OneLine)(run)
    return app


def _ended(error: JobError) -> typer.Exit:
    sys.stdout.flush()
    print(f"error: {error}", file=sys.stderr)
    return typer.Exit(error.exit_code)


def configure_log() -> None:
    """Lines on standard error: time, level, event and its values; with ESMM_LOG=json each a JSON object."""
    as_json = os.environ.get("ESMM_LOG") == "json"
    processors = structlog.processors
    renderers: list[Any] = (
        [processors.TimeStamper(fmt="iso", utc=True), processors.JSONRenderer()]
        if as_json
        else [
            processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0),
        ]
    )
    structlog.configure(
        processors=[processors.add_log_level, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _StandardError())),
    )


class _StandardError(io.TextIOBase):
    """Standard error as it is when a line is written: a progress bar puts itself in its place, to stay below."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def read_config(path: Path, overrides: list[str] | None) -> configs.Config:
    """The config that `--config` and `--set` describe."""
    config = configs.load(path, overrides or ())
    storage.configure(config.storage)
    return config


def days(first: dt.datetime, last: dt.datetime) -> list[dt.date]:
    """All days from `--from` to `--to`; raises ConfigError where they are the wrong way round."""
    if last < first:
        raise ConfigError("--to", expected=f"a day not before --from, {first.date()}", found=str(last.date()))
    return [first.date() + dt.timedelta(days=n) for n in range((last - first).days + 1)]


def days_of(date: dt.datetime | None, first: dt.datetime | None, last: dt.datetime | None) -> list[dt.date]:
    """The day of `--date`, or all from `--from` to `--to`; raises ConfigError for anything but one of these."""
    if date is not None and first is None and last is None:
        return [date.date()]
    if date is None and first is not None and last is not None:
        return days(first, last)
    given = [
        name for name, value in (("--date", date), ("--from", first), ("--to", last)) if value is not None
    ]
    raise ConfigError(
        "days", expected="--date, or --from and --to", found=" and ".join(given) or "none of them"
    )


def local_time(time: dt.datetime, config: configs.Config) -> dt.datetime:
    """A time of the command line, which is one of the config's time zone."""
    return time.replace(tzinfo=ZoneInfo(config.time_zone))


def duration(option: str, text: str) -> dt.timedelta:
    """A duration of the command line; raises ConfigError, naming the option, for anything else."""
    try:
        return pydantic.TypeAdapter(Duration).validate_python(text)
    except pydantic.ValidationError:
        raise ConfigError(option, expected="a duration such as 90s, 30m, 12h or 7d", found=text) from None


def written_to(
    config: configs.Config, section: Literal["samples", "scoring"], output: str | None
) -> configs.Config:
    """The config with a section's table where `--output` says, if it says so, and no catalog involved."""
    if output is None:
        return config
    section_there = getattr(config, section).model_copy(update={"table": output, "catalog": None})
    return config.model_copy(update={section: section_there})


def spark_settings(config: configs.Config) -> dict[str, Any]:
    """The settings of a job's SparkSession that its results or its speed depend on, whatever the cluster's defaults."""
    needs_hive = config.uses_catalog or config.reads_catalog
    hive = {"spark.sql.catalogImplementation": "hive"} if needs_hive else {}
    return hive | {
        "spark.app.name": f"esmm-{config.name}",
        # Days and hours are worked out from the config's time zone; the session's must not interfere.
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.legacy.timeParserPolicy": "CORRECTED",
        "spark.sql.ansi.enabled": "false",
        # Both sides of a join by (user, exposure) are already partitioned by user.
        "spark.sql.requireAllClusterKeysForCoPartition": "false",
        # Of more than its 1,000 rows a user Spark would drop none before the shuffle: sql/12_ranked.sql.
        "spark.sql.optimizer.windowGroupLimitThreshold": str(max(1_000, config.scoring.top or 0)),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Ids and times hardly shrink, and trying takes a sixth of the time of what is kept.
        "spark.sql.inMemoryColumnarStorage.compressed": "false",
        "spark.ui.showConsoleProgress": "false",
    }
