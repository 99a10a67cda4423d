"""Candidates to the day's partition of the table of scores.

spark-submit.sh jobs/score.py --config conf/demo.yaml --date 2026-04-01
"""

import datetime as dt
from typing import Annotated

import typer
from pyspark.sql import SparkSession

from esmm import cli, registry, room, scoring, tables

Date = Annotated[
    dt.datetime, typer.Option("--date", formats=["%Y-%m-%d"], help="The day to score.", show_default=False)
]
AsOf = Annotated[
    dt.datetime | None,
    typer.Option(
        "--as-of", help="What is known: everything before this local time; by default, the day's start."
    ),
]
Version = Annotated[
    str | None,
    typer.Option("--model", help="The model's version; by default, the champion, else the latest."),
]


def main(
    config_file: cli.ConfigFile,
    date: Date,
    overrides: cli.Overrides = None,
    as_of: AsOf = None,
    version: Version = None,
    output: cli.Output = None,
) -> None:
    """Score every candidate and publish the day's scores."""
    config = cli.written_to(cli.read_config(config_file, overrides), "scoring", output)
    version = registry.resolve(config.scoring.models, version)
    time = cli.local_time(as_of or date, config)
    settings = cli.spark_settings(config)
    settings |= room.settings(config, version, settings)
    spark = SparkSession.builder.config(map=settings).getOrCreate()
    try:
        manifest = scoring.score(spark, config, date.date(), time, version)
        table = tables.scores(config, spark)
        for log in ("users", "items"):
            unknown = manifest.counts.get(f"unknown_{log}", "?")
            print(f"{manifest.counts[log]} {log}, {unknown} of them unknown")
        print(f"{manifest.rows} rows in {config.scoring.table} for {manifest.day}; the first:")
        spark.read.parquet(*table.files([manifest.day])).orderBy("user_id", "rank").show(10, truncate=False)
    finally:
        spark.stop()


if __name__ == "__main__":
    cli.job(main)()
