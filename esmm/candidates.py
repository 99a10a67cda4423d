"""Pairs to score, to the model's features, as they stood at a time: the user's once a user, all others once a pair.

    candidates (user, item) ─┬─▶ a request a user ─ 07, once a list ─ 08 ─▶ users, the columns of schema.user_columns
                             └─▶ 11, a request a pair ─ 08 ─▶ rows, all others

The lists are those of a request at that very time, made by the statements that made the training samples.
The pairs are given, or all items of some values for given users (`esmm.pairs`).
A feature of the exposure, which a candidate has not had yet, comes from a column of the candidates if there
is one of its name, else from its at_scoring in the config.
"""

import datetime as dt
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm import features, inputs, log_rows, pairs, schema, statements, views
from esmm.config import Config, IdFeature, SourcedFeature, required
from esmm.days import micros
from esmm.errors import ConfigError, DataError
from esmm.sources import named


class Candidates(NamedTuple):
    """What there is to score."""

    users: DataFrame
    """A row a user: `user_id`, and the columns of `esmm.schema.user_columns`."""
    rows: DataFrame
    """A row a pair: all other columns of `esmm.schema`, `user_id` among them, and, in `passthrough`, its own ids and
    what the config says."""


def by_user(spark: SparkSession, config: Config, as_of: dt.datetime) -> Candidates:
    """The candidates, and their users beside them.

    Raises DataError where the candidates are missing or empty, where one has no user or item, and where their ids
    are of another kind than the logs'; ConfigError where the config has no value for scoring, or one of no use.
    """
    at = micros(as_of)
    logs = views.open_logs(spark, config, at, at)
    views.register_events(spark, config, logs, at, at)
    raw = _raw_candidates(spark, config, logs["exposure"], at)
    raw.createOrReplaceTempView("raw_candidates")
    of_users, of_rows = _parts(config)

    views.register_entities(spark, of_users, logs["exposure"])
    users = requests(raw.select("user_id").distinct().withColumn("at", F.lit(at)))
    users = features.with_statistics(spark, of_users, features.with_lists(spark, of_users, users))
    users = features.described(spark, of_users, users, scoring=True)

    views.register_entities(spark, of_rows, logs["exposure"])
    rows = statements.run(spark, "11_candidates", {"as_of": at})
    rows = features.with_statistics(spark, of_rows, rows)
    rows = features.described(spark, of_rows, rows, scoring=True)
    own = [column.name for column in schema.user_columns(config)]
    return Candidates(users.select("user_id", *own), rows.drop(*own))


def requests(users: DataFrame) -> DataFrame:
    """A request a row of `user_id` and `at`: for what is known of the user strictly before that time."""
    return users.select(
        F.col("user_id").alias("exposure_id"),
        "user_id",
        F.lit(schema.ABSENT).cast("bigint").alias("item_id"),
        F.col("at").alias("exposed_at"),
        F.col("at").alias("known_until"),
        F.lit(0).cast("tinyint").alias("click"),
        F.lit(0).cast("tinyint").alias("purchase"),
        F.lit(1.0).cast("float").alias("weight"),
        log_rows.feature_struct([]).alias("features"),
        F.array().alias("statistics"),
        F.array().alias("lists"),
        F.lit(None).alias("passthrough"),
    )  # fmt: skip


def _parts(config: Config) -> tuple[Config, Config]:
    """The config of what users have, and that of what pairs have: neither computes what only the other needs."""
    of_user, sources = schema.user_statistics(config), schema.sourced_features(config)
    others = {name: statistic for name, statistic in config.statistics.items() if name not in of_user}
    entities = {entity for behaviour in config.lists.values() for entity in behaviour.entities}
    users = {name: sources[name] for name in sources if name in schema.user_features(config) | entities}
    rows = {name: feature for name, feature in sources.items() if feature.log != "users"}
    logs = required(config.logs, "logs").model_copy(update={"users": None})
    return (
        config.model_copy(update={"features": users, "statistics": of_user}),
        config.model_copy(update={"features": rows, "statistics": others, "lists": {}, "logs": logs}),
    )


def _raw_candidates(spark: SparkSession, config: Config, exposures: inputs.Input, at: int) -> DataFrame:
    where = "scoring.candidates"
    wanted = inputs.features_of(config, "exposures")
    columns = [*(feature.column for feature in wanted.values()), *config.scoring.pass_through]
    if config.scoring.users is None:
        log, roles = required(config.scoring.candidates, where), ("user_id", "item_id")
        source = inputs.Input(spark, where, log, config.time_zone, roles=roles, columns=columns)
    else:
        source = pairs.every_item(spark, config, at, columns)
    user, item = source.id("user_id"), source.id("item_id")
    for role in ("user_id", "item_id"):
        source.check_ids(role, exposures, role)
    own = {name for name, feature in wanted.items() if feature.column in source.frame.columns}
    fixed = {name: feature for name, feature in wanted.items() if name not in own}
    values = _fixed(spark, source, exposures, fixed)
    made = [
        _own(source, exposures, name, feature) if name in own else values[name]
        for name, feature in wanted.items()
    ]
    frame = source.frame.select(
        user.alias("user_id"),
        item.alias("item_id"),
        log_rows.feature_struct(made).alias("features"),
        F.struct(
            named(source.column("user_id")).alias("user_id"),
            named(source.column("item_id")).alias("item_id"),
            *_passed_through(source, config),
        ).alias("passthrough"),
    )
    if frame.isEmpty():
        raise DataError(source.name, expected="at least one row", found="no candidates")
    broken = frame.where((F.col("user_id") <= schema.ABSENT) | (F.col("item_id") <= schema.ABSENT)).first()
    if broken is not None:
        raise DataError(source.name, expected="a user and an item in every row, neither negative",
                        found=str(broken["passthrough"].asDict()))  # fmt: skip
    return frame


def _passed_through(source: inputs.Input, config: Config) -> list[Column]:
    names = config.scoring.pass_through
    for name in names:
        kind = source.kind(name, "scoring.pass_through").simpleString()
        if "map<" in kind:  # of two rows of a pair, no one could say which goes first
            raise DataError(
                "scoring.pass_through", expected="columns that can be sorted", found=f"{kind} in '{name}'"
            )
    return [F.col(name) for name in names]


def _own(source: inputs.Input, exposures: inputs.Input, name: str, feature: SourcedFeature) -> Column:
    """A feature of the exposure that the candidates have a column of their own for."""
    if isinstance(feature, IdFeature):
        column = feature.column
        theirs, own = (
            inputs.kind_of_ids(log.kind(column, f"features.{name}.source")) for log in (exposures, source)
        )
        if own != theirs:
            expected = f"{theirs} in '{column}', as {exposures.name} has"
            raise DataError(source.name, expected=expected, found=own)
    return source.feature(name, feature)


def _fixed(
    spark: SparkSession, source: inputs.Input, exposures: inputs.Input, wanted: dict[str, SourcedFeature]
) -> dict[str, Column]:
    """Features of the exposure that the candidates lack: the config's values for scoring.

    In the type of the log's column: a string hashes otherwise than the number that it spells.
    """
    typed, made = {}, {}
    for name, feature in wanted.items():
        column = feature.column
        if feature.at_scoring is None:
            found = f"none, and {source.log.source} has no column '{column}'"
            raise ConfigError(f"features.{name}.at_scoring", expected="a value for scoring", found=found)
        kind = exposures.kind(column, f"features.{name}.source")
        typed[name] = F.lit(feature.at_scoring).cast(kind).alias(name)
        made[name] = inputs.contract_value(typed[name], kind, name, feature).alias(name)
    # Nothing runs for this one row: Spark folds it while it plans.
    [row] = spark.sql("select 1").select(*typed.values()).collect()
    for name, value in row.asDict().items():
        if value is None:
            kind = exposures.kind(wanted[name].column, f"features.{name}.source")
            raise ConfigError(
                f"features.{name}.at_scoring",
                expected=f"a value of the log's type, {kind.simpleString()}",
                found=repr(wanted[name].at_scoring),
            )
    return made
