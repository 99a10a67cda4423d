"""The tables of a config, opened: where their files are, and what says which of them count.

    table = tables.samples(config, spark)    # a Table with its pointers in files, or in samples.catalog
    table = tables.rejects(config, spark)    # the rows that could not be used, beside it
    table = tables.scores(config, spark)

Without a `catalog` in the config no session is needed. A run that builds samples writes its rejects too, so that
one claim covers both tables.
"""

from collections.abc import Mapping

from pyspark.sql import SparkSession

from esmm import schema
from esmm.catalog import CatalogClaims, CatalogPointers
from esmm.config import Config, required
from esmm.errors import ConfigError
from esmm.publish import Table

_SAMPLES = {
    "exposure_id": "the exposure's id, hashed where the log has text",
    "user_id": "the user's id, hashed where the log has text",
    "item_id": "the item's id, hashed where the log has text",
    "exposed_at": "microseconds since 1970-01-01 UTC",
    "click": "1 where a click is credited to the exposure",
    "purchase": "1 where a purchase is credited to that click",
    "weight": "what the row counts in the loss: above 1 where others were left out",
}
_REJECTS = {
    "log": "what the row is of: exposures, clicks or purchases, or the file that it was imported from",
    "reason": "why it cannot be used",
    "original": "the row, in JSON",
}
_SCORES = {
    "user_id": "the user, as the candidates name it",
    "item_id": "the item, as the candidates name it",
    "pctr": "probability of a click when shown",
    "pcvr": "probability of a purchase once clicked",
    "pctcvr": "probability of a click and a purchase when shown",
    "score": "what scoring.rank_by makes of it",
    "rank": "1 is the user's highest score",
    "model_version": "the model that scored it",
    "scored_at": "the time as of which it was scored: what was known then",
}


def samples(config: Config, spark: SparkSession | None = None) -> Table:
    """The table of samples.

    Raises ConfigError where the config names a table of the catalog, and there is no session or its catalog
    is one of its own.
    """
    columns = {column.name: column.spark for column in schema.sample_columns(config)}
    section = config.samples
    return _opened("samples", section.table, section.catalog, spark, _sample_comments(config), columns)


def rejects(config: Config, spark: SparkSession | None = None) -> Table:
    """The table of rows that could not be used; raises ConfigError as `samples` does."""
    section = config.samples
    catalog = f"{section.catalog}_rejects" if section.catalog else None
    columns = dict.fromkeys(_REJECTS, "string")
    table = _opened("samples", f"{section.table}_rejects", catalog, spark, _REJECTS, columns)
    return Table(table.root, table.pointers, samples(config, spark).claims)


def scores(config: Config, spark: SparkSession | None = None) -> Table:
    """The table of scores, whose ids are of the candidates' types; raises ConfigError as `samples` does."""
    section = config.scoring
    return _opened("scoring", required(section.table, "scoring.table"), section.catalog, spark, _SCORES, None)


def check(config: Config, spark: SparkSession) -> None:
    """Raise DataError where samples or rejects cannot be published, as far as that is plain before the work."""
    for table in (samples(config, spark), rejects(config, spark)):
        table.pointers.check()


def _opened(
    section: str,
    root: str,
    catalog: str | None,
    spark: SparkSession | None,
    comments: Mapping[str, str],
    columns: Mapping[str, str] | None,
) -> Table:
    table = Table(root)
    if catalog is None:
        return table
    if spark is None:
        raise ConfigError(f"{section}.catalog", expected="spark-submit.sh, or --samples DIRECTORY or PLAN.json, "
                          "since the catalog says which files count", found="neither")  # fmt: skip
    kind = spark.conf.get("spark.sql.catalogImplementation")
    if kind != "hive":
        raise ConfigError(f"{section}.catalog", expected="a session with a Hive metastore", found=f"{kind}")
    pointers = CatalogPointers(spark, catalog, table.url(), comments, columns)
    return Table(root, pointers, CatalogClaims(spark, catalog, table.url()))


def _sample_comments(config: Config) -> dict[str, str]:
    """What the catalog says of each column of the samples."""
    found = dict(_SAMPLES)
    for name, feature in schema.sourced_features(config).items():
        found[name] = f"{feature.source}, -1 where it is absent" if feature.kind == "id" else feature.source
    for name, statistic in config.statistics.items():
        by = " and ".join(statistic.by)
        for days in statistic.days:
            for figure in schema.STATISTICS:
                kind = figure if figure in ("ctr", "cvr") else f"log(1 + {figure})"
                column = schema.statistic_column(name, figure, days).name
                found[column] = f"{kind} by {by}, {days} days up to the day before"
    for name, behaviour in config.lists.items():
        what = f"last {behaviour.length} events ({behaviour.event}) before the exposure, latest first"
        for entity in behaviour.entities:
            found[schema.list_column(name, behaviour, entity).name] = (
                f"{entity} of the {what}, -1 where there is none"
            )
        found[schema.list_weight_column(name, behaviour).name] = (
            f"recency of the {what}, 0 where there is none"
        )
    for name, bag in config.bags.items():
        ids, weights = schema.bag_columns(name, bag)
        found[ids.name] = f"{bag.source}, the {bag.length} that weigh most, -1 where there is none"
        found[weights.name] = f"what each of {name} weighs, 0 where there is none"
    return found
