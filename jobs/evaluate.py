"""Held-out days, scored by a model, to its metrics: a table, evaluation.json and evaluation.html; and its promotion.

spark-submit.sh jobs/evaluate.py --config conf/demo.yaml --from 2026-03-31 --to 2026-03-31 --promote
"""

from typing import Annotated

import typer
from pyspark.sql import SparkSession
from rich.console import Console

from esmm import claims, cli, evaluation, gates, nightly, registry, report, room, scoring, versions

Promote = Annotated[
    bool,
    typer.Option("--promote", help="Make the model champion, which scores, where the config's gates hold."),
]
WithoutChampion = Annotated[
    bool, typer.Option("--without-champion", help="Promote without a comparison with the champion.")
]
Version = Annotated[str | None, typer.Option("--model", help="The model's version; by default, the latest.")]


def main(
    config_file: cli.ConfigFile,
    first: cli.FirstDay,
    last: cli.LastDay,
    overrides: cli.Overrides = None,
    version: Version = None,
    promote: Promote = False,
    without_champion: WithoutChampion = False,
) -> None:
    """Measure the model's predictions on the samples of every day from --from to --to."""
    config = cli.read_config(config_file, overrides)
    days = cli.days(first, last)
    models = config.scoring.models
    version = registry.resolve(models, version) if version else registry.latest(models)
    scoring.check_model(config, version)
    champion = registry.champion(models) if promote else None
    rival = None if without_champion else gates.rival(config, version, champion)
    with claims.directory_claimed(config.evaluation.directory, claims.new_run()):
        settings = cli.spark_settings(config)
        settings |= room.settings(config, version, settings, rival)
        spark = SparkSession.builder.config(map=settings).getOrCreate()
        try:
            samples = evaluation.held_out(spark, config, days)
            as_nightly = None
            if nightly.is_wanted(config):
                rows = nightly.with_lists(spark, config, samples, days)
                as_nightly = scoring.with_predictions(rows, config, version)
            found = evaluation.evaluate(
                spark,
                config,
                scoring.with_predictions(samples, config, version),
                model=version,
                days=days,
                popularity_days=evaluation.days_before(spark, config, days[0]),
                nightly=as_nightly,
                calibration=versions.manifest(config.scoring.models, version).facts.get("calibration"),
            )
            page = report.write(config, found)
            theirs = None
            if rival is not None:
                theirs = evaluation.measured(scoring.with_predictions(samples, config, rival))
        finally:
            spark.stop()
    Console().print(report.table(found))
    print(*report.auc_lines(found), page, sep="\n")
    if promote:
        gates.check(config, found, champion=theirs)
        print(f"champion: {registry.promote(models, version, over=champion).version}")


if __name__ == "__main__":
    cli.job(main)()
