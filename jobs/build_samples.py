"""Raw logs to samples: labels and behaviour lists of each day's exposures, one partition a day.

spark-submit.sh jobs/build_samples.py --config conf/demo.yaml --from 2026-03-24 --to 2026-03-31
"""

import datetime as dt
from typing import Annotated

import typer
from pyspark.sql import SparkSession
from rich.console import Console

from esmm import cli, funnel, samples
from esmm.outline import outline

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
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be read and written, and do neither.")
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
    output: cli.Output = None,
    dry_run: DryRun = False,
) -> None:
    """Build the samples of --date, or of every day from --from to --to, and publish them."""
    config = cli.written_to(cli.read_config(config_file, overrides), "samples", output)
    days = cli.days_of(date, first, last)
    spark = SparkSession.builder.config(map=cli.spark_settings(config)).getOrCreate()
    end = cli.local_time(logs_until, config) if logs_until else None
    try:
        if dry_run:
            for part in outline(spark, config, days, end):
                Console(width=max(Console().width, 160)).print(part)
            return
        built = samples.build(
            spark,
            config,
            days,
            logs_until=end,
            allow_immature=allow_immature,
            all_exposures=all_exposures,
        )
    finally:
        spark.stop()
    if built.published:
        console = Console(width=max(Console().width, 60 + 14 * len(built.published)))
        console.print(funnel.table(built.published, built.funnels))
        rows = sum(manifest.rows for manifest in built.published)
        console.print(f"{rows:,} samples of {len(built.published)} days in {config.samples.table}")
    built.or_raise()


if __name__ == "__main__":
    cli.job(main)()
