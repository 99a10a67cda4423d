"""Scored pairs to the rows of the table of scores: ranked within each user, the first ones of each.

scored (passthrough, features, pctr, pcvr, pctcvr) ─ scoring.rank_by ─▶ score ─ 12 ─▶ user, item, …, rank

rank_by: pctcvr            # what is likely to be bought
rank_by: pctcvr * price    # what is likely to bring much
"""

import datetime as dt
import math
import re

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm import schema, statements
from esmm.config import Config
from esmm.errors import ConfigError, DataError
from esmm.schema import DAY, PREDICTIONS

_ALL = 2**31 - 1


def needed(config: Config) -> list[str]:
    """The columns of described candidates that ranking takes: what passes through, and the features it ranks by."""
    words = set(re.findall(r"\w+", config.scoring.rank_by)) - {*config.scoring.pass_through}
    features = [column.name for column in schema.feature_columns(config) if column.length is None]
    return ["passthrough", *(name for name in features if name in words)]


def ranked(
    spark: SparkSession, config: Config, scored: DataFrame, *, day: dt.date, as_of: dt.datetime, version: str
) -> DataFrame:
    """The rows of the table of scores.

    Raises ConfigError where `scoring.rank_by` is no expression of what a candidate has.
    """
    settings = config.scoring
    passed = ["user_id", "item_id", *settings.pass_through]
    flat = scored.select("passthrough.*", *(name for name in scored.columns if name != "passthrough"))
    try:
        score = F.expr(settings.rank_by).cast("double")
        # What is no number goes to the front, where `check` finds it, and so does what has no predictions.
        are_numbers = F.abs(score) < float("inf")
        for name in PREDICTIONS:
            are_numbers &= ~F.isnan(name)
        score = F.when(are_numbers, score).otherwise(F.lit(float("nan")))
        made = flat.withColumn("score", score).select(*passed, *PREDICTIONS, "score")
    except (AnalysisException, ParseException) as error:
        first = next(line for line in str(error).splitlines() if line.strip())
        raise ConfigError(
            "scoring.rank_by", expected="an expression of pctr, pcvr, pctcvr, features and what passes through",
            found=" ".join(first.split()),
        ) from None  # fmt: skip
    made.createOrReplaceTempView("scored")
    arguments = {"top": settings.top or _ALL, "model_version": version, "scored_at": as_of, DAY: str(day)}
    return statements.run(spark, "12_ranked", arguments)


def check(written: DataFrame) -> None:
    """Raise DataError, naming the pair, where a written score or prediction is no number."""
    row = written.where(F.isnan("score")).orderBy("user_id", "item_id").first()
    if row is not None:
        where = next((name for name in PREDICTIONS if math.isnan(row[name])), "scoring.rank_by")
        found = f"none for user {row['user_id']} and item {row['item_id']}"
        raise DataError(where, expected="a number for every candidate", found=found)
