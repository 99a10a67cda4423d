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
from esmm.config import Config, Feature
from esmm.days import micros
from esmm.errors import ConfigError, DataError


def described(spark: SparkSession, config: Config, as_of: dt.datetime) -> DataFrame:
    """The candidates with the columns of `esmm.schema` and, in `passthrough`, their own user_id and item_id.

    Raises DataError where the candidates are missing or empty, or where one has no user or item.
    """
    views.register_entities(spark, config)
    logs = views.open_logs(spark, config)
    at = micros(as_of)
    views.register_events(spark, config, logs, at, at)
    raw = _raw_candidates(spark, config)
    raw.createOrReplaceTempView("raw_candidates")
    requests = raw.select("user_id").distinct().select(
        F.col("user_id").alias("exposure_id"),
        "user_id",
        F.lit(schema.ABSENT).cast("bigint").alias("item_id"),
        F.lit(at).alias("exposed_at"),
        F.lit(at).alias("known_until"),
        F.lit(0).cast("tinyint").alias("click"),
        F.lit(0).cast("tinyint").alias("purchase"),
        F.lit(1.0).cast("float").alias("weight"),
        inputs.feature_struct([]).alias("features"),
        F.array().alias("statistics"),
        F.array().alias("lists"),
        F.lit(None).alias("passthrough"),
    )  # fmt: skip
    features.with_lists(spark, config, requests).createOrReplaceTempView("user_lists")
    candidates = statements.run(spark, "11_candidates")
    known = features.with_statistics(spark, config, candidates)
    return features.described(spark, config, known, scoring=True)


def _raw_candidates(spark: SparkSession, config: Config) -> DataFrame:
    where = "scoring.candidates"
    source = inputs.Input(spark, where, config.scoring.candidates)
    exposures = views.open_log(spark, config, "exposures")
    user, item = source.id("user_id"), source.id("item_id")
    made = [
        _feature(source, exposures, name, feature)
        for name, feature in inputs.features_of(config, "exposures").items()
    ]
    frame = source.frame.select(
        user.alias("user_id"),
        item.alias("item_id"),
        inputs.feature_struct(made).alias("features"),
        F.struct(
            F.col(source.column("user_id")).alias("user_id"), F.col(source.column("item_id")).alias("item_id")
        ).alias("passthrough"),
    )
    if frame.isEmpty():
        raise DataError(where, expected="at least one row", found="no candidates")
    broken = frame.where((F.col("user_id") <= schema.ABSENT) | (F.col("item_id") <= schema.ABSENT)).first()
    if broken is not None:
        raise DataError(where, expected="a user and an item in every row, neither negative",
                        found=str(broken["passthrough"].asDict()))  # fmt: skip
    return frame


def _feature(source: inputs.Input, exposures: inputs.Input, name: str, feature: Feature) -> Column:
    """A feature of the exposure: the candidates' own, else the config's value for scoring."""
    column = feature.source.partition(".")[2]
    if column in source.frame.columns:
        return source.feature(name, feature)
    if feature.at_scoring is None:
        found = f"none, and {source.log.source} has no column '{column}'"
        raise ConfigError(f"features.{name}.at_scoring", expected="a value for scoring", found=found)
    # In the type of the log's column: a string hashes otherwise than the number that it spells.
    kind = exposures.kind(column, f"features.{name}.source")
    return inputs.contract_value(F.lit(feature.at_scoring).cast(kind), kind, name, feature).alias(name)
