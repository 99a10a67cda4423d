"""Raw logs to samples: labels and behaviour lists of each day's exposures, one partition a day.

spark-submit.sh jobs/build_samples.py --config conf/demo.yaml --from 2026-03-24 --to 2026-03-31
"""

import datetime as dt
from typing import Annotated

import typer
from pyspark.sql import SparkSession
from rich.console import Console

from esmm import cli, funnel, samples

LogsUntil = Annotated[
    dt.datetime | None,
    typer.Option("--logs-until", help="Where the logs end (local time); by default, at the latest event."),
]
AllowImmature = Annotated[
    bool, typer.Option("--allow-immature", help="Build days whose labels may still change, and mark them.")
]
AllExposures = Annotated[
    bool,
    typer.Option(
        "--all-exposures", help="Leave none out, whatever samples.keep_unclicked: days to evaluate on."
    ),
]


def main(
    config_file: cli.ConfigFile,
    overrides: cli.Overrides = None,
    date: cli.Date = None,
    first: cli.First = None,
    last: cli.Last = None,
    logs_until: LogsUntil = None,
    allow_immature: AllowImmature = False,
    all_exposures: AllExposures = False,
) -> None:
    """Build the samples of --date, or of every day from --from to --to, and publish them."""
    config = cli.read_config(config_file, overrides)
    days = cli.days_of(date, first, last)
    spark = SparkSession.builder.config(map=cli.spark_settings(config)).getOrCreate()
    try:
        built = samples.build(
            spark,
            config,
            days,
            logs_until=cli.local_time(logs_until, config) if logs_until else None,
            allow_immature=allow_immature,
            all_exposures=all_exposures,
        )
    finally:
        spark.stop()
    console = Console(width=max(Console().width, 60 + 14 * len(built)))
    console.print(funnel.table(built))
    rows = sum(manifest.rows for manifest in built)
    console.print(f"{rows:,} samples of {len(built)} days in {config.samples.table}")


if __name__ == "__main__":
    cli.job(main)()
