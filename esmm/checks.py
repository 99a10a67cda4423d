"""The data checks of sql/checks, on samples that are written and not published yet."""

import datetime as dt
import math
from collections.abc import Iterator

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm import schema, statements
from esmm.config import Config
from esmm.errors import DataError
from esmm.schema import DAY


def broken(spark: SparkSession, config: Config, written: DataFrame) -> dict[dt.date, DataError]:
    """The days with rows that break a check, with the first of these rows."""
    lowest = F.least("user_id", "item_id", *_id_features(config))
    written.withColumn("lowest_id", lowest).createOrReplaceTempView("samples")
    failures: dict[dt.date, DataError] = {}
    for check in statements.checks():
        for arguments in _lists(config, written) if check == "checks/lists" else [{}]:
            rows = statements.run(spark, check, arguments)
            # Without an order Spark looks at one file first, and then at the others: the same work with one core idle.
            shown = rows.orderBy(DAY, "exposure_id").limit(5).collect()
            if shown:
                found = "; ".join(str(row.asDict()) for row in shown)
                error = DataError(f"sql/{check}.sql", expected="no rows that break it", found=found)
                for row in rows.select(DAY).distinct().collect():
                    failures.setdefault(dt.date.fromisoformat(str(row[DAY])), error)
    return failures


def _id_features(config: Config) -> list[str]:
    columns = schema.feature_columns(config)
    return [column.name for column in columns if column.type == "int64" and column.length is None]


def _lists(config: Config, written: DataFrame) -> Iterator[dict[str, float]]:
    """Each list and bag of the samples as the view sample_lists; its length, and what none of its weights reaches."""

    def register(ids: list[str], weights: str) -> None:
        lists = [F.array(*ids).alias("ids"), F.col(weights).alias("weights")]
        written.select(DAY, "exposure_id", *lists).createOrReplaceTempView("sample_lists")

    for name, behaviour in config.lists.items():
        ids = [schema.list_column(name, behaviour, entity).name for entity in behaviour.entities]
        register(ids, schema.list_weight_column(name, behaviour).name)
        # The weight of an event that was not strictly before the exposure.
        yield {"length": behaviour.length, "weights_below": 1.0}
    for name, bag in config.bags.items():
        of_bag, weights = schema.bag_columns(name, bag)
        register([of_bag.name], weights.name)
        yield {"length": bag.length, "weights_below": math.inf}
