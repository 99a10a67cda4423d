"""Samples to a model: ESMM, trained by Horovod ranks, and published with its manifest.

spark-submit.sh jobs/train.py --config conf/demo.yaml --from 2026-03-24 --to 2026-03-30
.venv/bin/horovodrun -np 2 --gloo .venv/bin/python jobs/train.py --config conf/demo.yaml --samples build/demo/samples
.venv/bin/python jobs/train.py --config conf/demo.yaml --samples plan.json
"""

import datetime as dt
from typing import Annotated

import typer
from pyspark.sql import SparkSession

from esmm import cli, schema, tables
from esmm.distributed import launch, spark_ranks
from esmm.errors import ConfigError
from esmm.plan import ReadingPlan, make_plan

Day = dt.datetime | None
First = Annotated[
    Day, typer.Option("--from", formats=["%Y-%m-%d"], help="The first day; by default, all of the table's.")
]
Last = Annotated[Day, typer.Option("--to", formats=["%Y-%m-%d"], help="The last day.")]
Samples = Annotated[
    str | None,
    typer.Option(
        "--samples", help="A table, Parquet files or a reading plan (.json); by default, samples.table."
    ),
]


def main(
    config_file: cli.ConfigFile,
    overrides: cli.Overrides = None,
    first: First = None,
    last: Last = None,
    samples: Samples = None,
) -> None:
    """Train on the samples of every day from --from to --to, and publish the model."""
    config = cli.read_config(config_file, overrides)
    if (first is None) != (last is None):
        raise ConfigError("--from and --to", expected="both or neither", found="one of them")
    days = cli.days(first, last) if first and last else []

    def plan(spark: SparkSession | None = None) -> ReadingPlan:
        source = samples or (
            tables.samples(config, spark) if config.samples.catalog else config.samples.table
        )
        return make_plan(source, days or None, schema.training_columns(config))

    if not launch.under_spark_submit():
        result = launch.in_this_process(config, plan, days)
    else:
        spark = SparkSession.builder.config(map=cli.spark_settings(config)).getOrCreate()
        try:
            result = spark_ranks.run(spark.sparkContext, config, plan(spark), days)
        finally:
            spark.stop()
    if result is not None:
        print(f"model {result['version']}: {result['samples']} samples in {result['steps']} steps")


if __name__ == "__main__":
    cli.job(main)()
