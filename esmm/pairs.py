"""All items of some values for given users, as an input that candidates can be read from; and who of them is unknown.

    scoring:
      users: {path: logs/users}                                # one row a user; its columns may pass through
      items: {feature: category, values: [shoes, boots]}       # all that have one of them at the time of scoring

A user's row comes once with every item: the join is Spark's, and nothing but the values is ever on the driver.
"""

from collections.abc import Iterable, Mapping

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm import inputs, log_rows, schema, statements, views
from esmm.config import Config, IdFeature, SourcedFeature, required
from esmm.errors import ConfigError
from esmm.inputs import Input
from esmm.sources import named


def every_item(spark: SparkSession, config: Config, at: int, columns: Iterable[str] = ()) -> Input:
    """`scoring.users` with a column `item_id`: a row a user and item of `scoring.items`, as of a time (microseconds).

    `columns` are those of the users that may be asked for. Raises DataError where users or items are missing,
    ConfigError where a value is none of the items'.
    """
    where, chosen = "scoring.users", required(config.scoring.items, "scoring.items")
    log = required(config.scoring.users, where)
    users = Input(spark, where, log, config.time_zone, roles=("user_id",), columns=columns)
    items = views.open_log(spark, config, "items")
    own_id = named(items.column("item_id")).alias("own_id")
    items.frame.select(items.id("item_id").alias("item_id"), own_id).createOrReplaceTempView("named_items")
    value = F.col(f"features.{chosen.feature}").alias("value")
    valued = _versions(
        spark, items, "item_id", {chosen.feature: schema.sourced_features(config)[chosen.feature]}
    )
    valued.select("*", value).createOrReplaceTempView("valued_items")
    users.frame.drop("item_id").createOrReplaceTempView("given_users")
    _wanted(spark, config, items).createOrReplaceTempView("wanted_values")
    users.frame = statements.run(spark, "pairs", {"at": at})
    return users


def counts(spark: SparkSession, config: Config, at: int) -> dict[str, int]:
    """How many users and items are scored, and how many of them their log has no row of at a time (microseconds).

    And the `candidates`: rows, a pair as often as it comes. Takes the view raw_candidates. `unknown_users` is not there
    where the config has no log of users.
    """
    has_users = required(config.logs, "logs").users is not None
    items = _versions(spark, views.open_log(spark, config, "items"), "item_id", {})
    items.createOrReplaceTempView("known_items")
    users = items.where(F.lit(False))
    if has_users:
        users = _versions(spark, views.open_log(spark, config, "users"), "user_id", {})
    users.createOrReplaceTempView("known_users")
    found: dict[str, int] = {}
    for row in statements.run(spark, "unknown", {"at": at}).collect():
        found |= {
            row["log"]: row["ids"],
            f"unknown_{row['log']}": row["unknown_ids"],
            "candidates": row["rows"],
        }
    if not has_users:
        del found["unknown_users"]
    return dict(sorted(found.items()))


def _versions(
    spark: SparkSession, source: Input, role: str, features: Mapping[str, SourcedFeature]
) -> DataFrame:
    """A row a version of an item or user, as 01_entities gives them."""
    log_rows.entities(source, role, features).createOrReplaceTempView("raw_versions")
    return statements.run(spark, "01_entities", {"raw": "raw_versions"})


def _wanted(spark: SparkSession, config: Config, items: Input) -> DataFrame:
    """The values of `scoring.items` as the samples hold them: of those of the log's own type."""
    chosen = required(config.scoring.items, "scoring.items")
    feature = config.features[chosen.feature]
    assert isinstance(feature, IdFeature)  # the config has checked that
    kind = items.kind(feature.column, f"features.{chosen.feature}.source")
    typed = [F.lit(value).cast(kind) for value in chosen.values]
    one_row = spark.sql("select 1")
    [row] = one_row.select(F.array(*typed)).collect()  # nothing runs for it: Spark folds it while it plans
    for given, own in zip(chosen.values, row[0], strict=True):
        # An id below 0 is held as -1: it would stand for all items of which the value is not known.
        if own is None or (isinstance(own, int) and own < schema.ABSENT):
            expected = f"values of the log's type, {kind.simpleString()}, none negative"
            raise ConfigError("scoring.items.values", expected=expected, found=repr(given))
    held = [inputs.contract_value(each, kind, chosen.feature, feature) for each in typed]
    return one_row.select(F.explode(F.array(*held)).alias("value"))
