"""Ali-CCP's files to the table of samples, the training set as one day and the test set as the next.

spark-submit.sh jobs/import_aliccp.py --config conf/aliccp.yaml --data ali-ccp
"""

from pathlib import Path
from typing import Annotated

import typer
from pyspark.sql import SparkSession
from rich.console import Console

from esmm import aliccp, cli, funnel

Data = Annotated[Path, typer.Option("--data", help="The folder of the files.", show_default=False)]


def main(config_file: cli.ConfigFile, data: Data, overrides: cli.Overrides = None) -> None:
    """Import the samples of both sets in place of earlier ones."""
    config = cli.read_config(config_file, overrides)
    spark = SparkSession.builder.config(map=cli.spark_settings(config)).getOrCreate()
    try:
        built = aliccp.import_samples(spark, config, data)
    finally:
        spark.stop()
    console = Console(width=max(Console().width, 100))
    console.print(funnel.table(built.published, built.funnels))
    rows = sum(manifest.rows for manifest in built.published)
    console.print(f"{rows:,} samples of {len(built.published)} days in {config.samples.table}")


if __name__ == "__main__":
    cli.job(main)()
