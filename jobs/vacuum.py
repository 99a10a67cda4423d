"""Removes what nothing points at any more: directories of replaced and of dead runs, and dead claims.

spark-submit.sh jobs/vacuum.py --config conf/demo.yaml --dry-run    # without a catalog python does too
"""

from typing import Annotated

import typer
from pyspark.sql import SparkSession

from esmm import cli, tables
from esmm.vacuum import vacuum

OlderThan = Annotated[
    str | None,
    typer.Option(
        "--older-than", metavar="DURATION", help="As 12h or 7d; by default, the config's retention."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and leave it there.")]


def main(
    config_file: cli.ConfigFile,
    overrides: cli.Overrides = None,
    older_than: OlderThan = None,
    dry_run: DryRun = False,
) -> None:
    """Remove what the tables of samples, rejects and scores do not need, and print it."""
    config = cli.read_config(config_file, overrides)
    age = config.retention if older_than is None else cli.duration("--older-than", older_than)
    spark = None
    if config.uses_catalog:
        spark = SparkSession.builder.config(map=cli.spark_settings(config)).getOrCreate()
    try:
        scores = [] if config.scoring.table is None else [tables.scores]
        for opened in (tables.samples, tables.rejects, *scores):
            for removed in vacuum(opened(config, spark), age, dry_run=dry_run):
                print("would remove" if dry_run else "removed", removed)
    finally:
        if spark is not None:
            spark.stop()


if __name__ == "__main__":
    cli.job(main)()
