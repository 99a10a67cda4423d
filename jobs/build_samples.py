"""Raw logs to samples: labels and behaviour lists of each day's exposures, one partition a day.

spark-submit.sh jobs/build_samples.py --config conf/demo.yaml --from 2026-03-24 --to 2026-03-31
"""

import datetime as dt
from typing import Annotated

import structlog
import typer
from pyspark.sql import SparkSession

from esmm import cli, samples

LogsUntil = Annotated[
    dt.datetime | None,
    typer.Option("--logs-until", help="Where the logs end (local time); by default, at the latest event."),
]
AllowImmature = Annotated[
    bool, typer.Option("--allow-immature", help="Build days whose labels may still change, and mark them.")
]


def main(
    config_file: cli.ConfigFile,
    first: cli.FirstDay,
    last: cli.LastDay,
    overrides: cli.Overrides = None,
    logs_until: LogsUntil = None,
    allow_immature: AllowImmature = False,
) -> None:
    """Build the samples of every day from --from to --to and publish them."""
    config = cli.read_config(config_file, overrides)
    days = cli.days(first, last)
    until = cli.local_time(logs_until, config) if logs_until else None
    spark = SparkSession.builder.config(map=cli.spark_settings(config)).getOrCreate()
    try:
        built = samples.build(spark, config, days, logs_until=until, allow_immature=allow_immature)
    finally:
        spark.stop()
    for manifest in built:
        structlog.get_logger().info(
            "published", table=config.samples.table, day=str(manifest.day), rows=manifest.rows,
            files=len(manifest.files), immature=manifest.immature,
        )  # fmt: skip


if __name__ == "__main__":
    cli.job(main)()
