"""Requests to rows with the model's columns: behaviour lists, and what the logs say of user, item and exposure.

A request is whatever a row is wanted for: an exposure (`esmm.samples`), or a pair to score
(`esmm.candidates`). Both come through here, so that a list means the same in training and in scoring:

    requests ─ 06 ─ 07, once a list ─▶ requests with both ─ 08 ─▶ the columns of esmm.schema
"""

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm import schema, statements
from esmm.config import BehaviourList, Config, IdFeature, SourcedFeature, Statistic
from esmm.days import micros
from esmm.views import KINDS

# Of float32: the smallest normal number, since a real entry weighs more than padding, and the largest below 1.
_SMALLEST_WEIGHT, _LARGEST_WEIGHT = 1.1754944e-38, 0.99999994


def with_statistics(spark: SparkSession, config: Config, requests: DataFrame) -> DataFrame:
    """Requests with each statistic of the config, in order, in their `statistics`: 15 numbers each."""
    if not config.statistics:
        return requests
    of_what = F.inline(
        F.array(
            *[
                F.struct(
                    F.lit(number).alias("statistic"),
                    F.array(*[_key(config, name) for name in statistic.by]).alias("key"),
                    F.lit(statistic.strength).alias("strength"),
                )
                for number, statistic in enumerate(config.statistics.values())
            ]
        )
    )
    events = _with_item(spark, spark.table("events"), "event_at")
    events.select("kind", _local_day("event_at", config).alias("day"), of_what).createOrReplaceTempView(
        "keyed_events"
    )
    request = ["exposure_id", "user_id", "item_id"]
    keyed = _with_item(spark, requests, "known_until")
    keyed.select(*request, _local_day("exposed_at", config).alias("day"), of_what).createOrReplaceTempView(
        "keyed_requests"
    )
    known = statements.run(spark, "06_statistics")
    return requests.drop("statistics").join(known, request).select(*requests.columns)


def with_lists(spark: SparkSession, config: Config, requests: DataFrame) -> DataFrame:
    """Requests with each list of the config, in order, appended to their `lists`: most recent first."""
    for behaviour in config.lists.values():
        requests.createOrReplaceTempView("requests")
        arguments = {
            "kind": KINDS[behaviour.event],
            "length": behaviour.length,
            "look_back": micros(behaviour.look_back),
        }
        requests = statements.run(spark, "07_lists", arguments)
    return requests


def described(
    spark: SparkSession, config: Config, requests: DataFrame, *, scoring: bool = False
) -> DataFrame:
    """Requests with lists to rows: the columns of `esmm.schema`, the day, and what passes through.

    Lists are as long as they are, ids that are not known null, and so are numbers in rows to score that are none:
    `esmm.padding` does the rest.
    """
    requests.createOrReplaceTempView("requests")
    joined = statements.run(spark, "08_samples", {"time_zone": config.time_zone})
    made = {
        name: _feature(name, feature, scoring) for name, feature in schema.sourced_features(config).items()
    }
    for index, (name, statistic) in enumerate(config.statistics.items()):
        made |= _statistic(index, name, statistic)
    for index, (name, behaviour) in enumerate(config.lists.items()):
        made |= _list(config, index, name, behaviour)
    columns = [
        made.get(column.name, F.col(column.name)).cast(column.spark).alias(column.name)
        for column in schema.sample_columns(config)
    ]
    return joined.select(*columns, schema.DAY, "passthrough")


def _feature(name: str, feature: SourcedFeature, scoring: bool) -> Column:
    """One feature of a row that 08_samples has joined; absent, or 0, where the join found nothing.

    A number that the log has and that is none, NaN here, is 0 in samples. In rows to score it is null, which the model
    takes for 0 and which `scoring.rank_by` is not to take for one.
    """
    if feature.source in ("exposures.user_id", "exposures.item_id"):
        return F.col(feature.column)
    if feature.log == "clock":
        fixed = scoring and feature.at_scoring is not None
        return F.lit(feature.at_scoring) if fixed else F.col(f"clock.{feature.column}")
    found = F.col(f"{feature.log}.{name}")
    if isinstance(feature, IdFeature):
        return F.coalesce(found, F.lit(schema.ABSENT))
    return F.when(F.isnan(found), F.lit(None if scoring else 0.0)).otherwise(F.coalesce(found, F.lit(0.0)))


def _local_day(time: str, config: Config) -> Column:
    return F.unix_date(F.to_date(F.from_utc_timestamp(F.timestamp_micros(time), config.time_zone)))


def _with_item(spark: SparkSession, rows: DataFrame, time: str) -> DataFrame:
    """Rows with the features of their item, as they were at the row's time, in `item`."""
    items = spark.table("items").withColumnRenamed("features", "item")
    at = F.col(time)
    held = (
        (F.col("item_id") == F.col("entity_id")) & (at >= F.col("valid_from")) & (at < F.col("valid_until"))
    )
    return rows.join(items, held, "left")


def _key(config: Config, name: str) -> Column:
    feature = schema.sourced_features(config)[name]
    if feature.source in ("exposures.user_id", "exposures.item_id"):
        return F.col(feature.column)
    return F.coalesce(F.col(f"item.{name}"), F.lit(schema.ABSENT))


def _statistic(index: int, name: str, statistic: Statistic) -> dict[str, Column]:
    """The columns of one statistic, of the days that the config asks for."""
    first = {days: at * len(schema.STATISTICS) for at, days in enumerate((1, 7, 30))}
    return {
        schema.statistic_column(name, figure, days).name: F.col("statistics")[index][first[days] + place]
        for days in statistic.days
        for place, figure in enumerate(schema.STATISTICS)
    }


def _list(config: Config, index: int, name: str, behaviour: BehaviourList) -> dict[str, Column]:
    """The columns of one list: most recent first, as long as it is."""
    entries = F.element_at("lists", index + 1)

    def recency(at: Column) -> Column:
        return F.pow(F.lit(2.0), (at - F.col("known_until")) / F.lit(micros(behaviour.half_life)))

    def weight(at: Column) -> Column:
        # What is not strictly earlier weighs 1 or more, which sql/checks/lists.sql looks for.
        earlier = F.greatest(F.least(recency(at), F.lit(_LARGEST_WEIGHT)), F.lit(_SMALLEST_WEIGHT))
        return F.when(at < F.col("known_until"), earlier).otherwise(recency(at))

    # Spark interprets what it does to each entry: it does less of it where neither end of a list meets a limit.
    latest, oldest = F.element_at(entries, 1)["at"], F.element_at(entries, -1)["at"]
    is_plain = (recency(latest) <= _LARGEST_WEIGHT) & (recency(oldest) >= _SMALLEST_WEIGHT)
    weights = F.when(is_plain, F.transform(entries["at"], recency)).otherwise(
        F.transform(entries["at"], weight)
    )
    columns = {schema.list_weight_column(name, behaviour).name: weights}
    for entity in behaviour.entities:
        of_event = schema.sourced_features(config)[entity].source == "exposures.item_id"
        column = schema.list_column(name, behaviour, entity)
        columns[column.name] = entries["item_id"] if of_event else entries["item"][entity]
    return columns
