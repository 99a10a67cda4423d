"""Samples to a model: ESMM, trained by Horovod ranks, and published with its manifest.

spark-submit.sh jobs/train.py --config conf/demo.yaml --from 2026-03-24 --to 2026-03-29 --validate 2026-03-30
.venv/bin/python jobs/train.py --config conf/demo.yaml --hosts localhost:2 --samples build/demo/samples
.venv/bin/horovodrun -np 2 --gloo .venv/bin/python jobs/train.py --config conf/demo.yaml --samples build/demo/samples
.venv/bin/python jobs/train.py --config conf/demo.yaml --samples plan.json
"""

from typing import Annotated

import typer
from pyspark.sql import SparkSession

from esmm import cli, runs, schema, tables
from esmm.distributed import launch, spark_ranks
from esmm.errors import ConfigError
from esmm.plan import make_plan, of_table

Samples = Annotated[
    str | None,
    typer.Option(
        "--samples", help="A table, Parquet files or a reading plan (.json); by default, samples.table."
    ),
]
Validate = Annotated[
    str | None,
    typer.Option(
        "--validate", metavar="DAY|SAMPLES",
        help="What to measure the model on after each epoch: a day of the table, or samples as of --samples.",
    ),
]  # fmt: skip
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Begin anew, where an earlier run's checkpoint would be gone on from.")
]
Hosts = Annotated[
    str | None,
    typer.Option("--hosts", metavar="HOST:SLOTS,…", help="Start the ranks on these hosts, by horovodrun."),
]


def main(
    config_file: cli.ConfigFile,
    overrides: cli.Overrides = None,
    first: cli.First = None,
    last: cli.Last = None,
    samples: Samples = None,
    validate: Validate = None,
    fresh: Fresh = False,
    hosts: Hosts = None,
) -> None:
    """Train on the samples of every day from --from to --to, by default of all that there are; publish the model."""
    config = cli.read_config(config_file, overrides)
    if (first is None) != (last is None):
        raise ConfigError("--from and --to", expected="both or neither", found="one of them")
    days = cli.days(first, last) if first and last else []

    def work(spark: SparkSession | None = None) -> launch.Work:
        table = samples or (tables.samples(config, spark) if config.samples.catalog else config.samples.table)
        columns = schema.training_columns(config)
        plan = make_plan(table, days or None, columns)
        validation = None if validate is None else make_plan(*of_table(validate, table), columns)
        runs.check(config, validation)
        return launch.Work(plan, days, validation)

    def begin() -> None:
        if fresh:  # what an earlier run has left is given up for work that there is, and not for a mistake
            runs.give_up(runs.checkpoints_of(config))

    def begun() -> launch.Work:
        found = work()
        begin()
        return found

    result = None
    if launch.under_spark_submit():
        if hosts is not None:
            raise ConfigError("--hosts", expected="Spark's own executors", found=hosts)
        spark = SparkSession.builder.config(map=cli.spark_settings(config)).getOrCreate()
        try:
            result = spark_ranks.run(spark.sparkContext, config, lambda: work(spark), begin)
        finally:
            spark.stop()
    elif hosts is not None:
        launch.by_horovodrun(config, hosts, begun if fresh else lambda: None)
    else:
        result = launch.in_this_process(config, begun)
    if result is not None:
        print(runs.told(result))


if __name__ == "__main__":
    cli.job(main)()
