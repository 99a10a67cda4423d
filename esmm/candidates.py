"""Pairs to score, to rows with the model's features, as they stood at a time.

    candidates (user, item) ─┐
    logs ─ 02 ─▶ a request a user, as of the time ─ 07, once a list ─▶ 11 ─ 08 ─▶ rows of features

The lists are those of a request at that very time, made by the statements that made the training samples.
A feature of the exposure, which a candidate has not had yet, comes from a column of the candidates if there
is one of its name, else from its at_scoring in the config.
"""

import datetime as dt

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm import features, inputs, schema, statements, views
from esmm.config import Config, IdFeature, SourcedFeature, required
from esmm.days import micros
from esmm.errors import ConfigError, DataError


def described(spark: SparkSession, config: Config, as_of: dt.datetime) -> DataFrame:
    """The candidates with the columns of `esmm.schema` and, in `passthrough`, their own ids and what the config says.

    Raises DataError where the candidates are missing or empty, where one has no user or item, and where their ids
    are of another kind than the logs'; ConfigError where the config has no value for scoring, or one of no use.
    """
    logs = views.open_logs(spark, config)
    views.register_entities(spark, config, logs["exposure"])
    at = micros(as_of)
    views.register_events(spark, config, logs, at, at)
    raw = _raw_candidates(spark, config, logs["exposure"])
    raw.createOrReplaceTempView("raw_candidates")
    users = raw.select("user_id").distinct().withColumn("at", F.lit(at))
    features.with_lists(spark, config, requests(users)).createOrReplaceTempView("user_lists")
    candidates = statements.run(spark, "11_candidates")
    known = features.with_statistics(spark, config, candidates)
    return features.described(spark, config, known, scoring=True)


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
        inputs.feature_struct([]).alias("features"),
        F.array().alias("statistics"),
        F.array().alias("lists"),
        F.lit(None).alias("passthrough"),
    )  # fmt: skip


def _raw_candidates(spark: SparkSession, config: Config, exposures: inputs.Input) -> DataFrame:
    where = "scoring.candidates"
    source = inputs.Input(spark, where, required(config.scoring.candidates, where))
    user, item = source.id("user_id"), source.id("item_id")
    for role in ("user_id", "item_id"):
        source.check_ids(role, exposures, role)
    wanted = inputs.features_of(config, "exposures")
    own = {name for name, feature in wanted.items() if _column(feature) in source.frame.columns}
    fixed = {name: feature for name, feature in wanted.items() if name not in own}
    values = _fixed(spark, source, exposures, fixed)
    made = [
        _own(source, exposures, name, feature) if name in own else values[name]
        for name, feature in wanted.items()
    ]
    frame = source.frame.select(
        user.alias("user_id"),
        item.alias("item_id"),
        inputs.feature_struct(made).alias("features"),
        F.struct(
            F.col(source.column("user_id")).alias("user_id"),
            F.col(source.column("item_id")).alias("item_id"),
            *_passed_through(source, config),
        ).alias("passthrough"),
    )
    if frame.isEmpty():
        raise DataError(where, expected="at least one row", found="no candidates")
    broken = frame.where((F.col("user_id") <= schema.ABSENT) | (F.col("item_id") <= schema.ABSENT)).first()
    if broken is not None:
        raise DataError(where, expected="a user and an item in every row, neither negative",
                        found=str(broken["passthrough"].asDict()))  # fmt: skip
    return frame


def _passed_through(source: inputs.Input, config: Config) -> list[Column]:
    names = config.scoring.pass_through
    for name in names:
        source.kind(name, "scoring.pass_through")  # raises where there is no such column
    return [F.col(name) for name in names]


def _column(feature: SourcedFeature) -> str:
    return feature.source.partition(".")[2]


def _own(source: inputs.Input, exposures: inputs.Input, name: str, feature: SourcedFeature) -> Column:
    """A feature of the exposure that the candidates have a column of their own for."""
    if isinstance(feature, IdFeature):
        column = _column(feature)
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
        column = _column(feature)
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
            kind = exposures.kind(_column(wanted[name]), f"features.{name}.source")
            raise ConfigError(
                f"features.{name}.at_scoring",
                expected=f"a value of the log's type, {kind.simpleString()}",
                found=repr(wanted[name].at_scoring),
            )
    return made
