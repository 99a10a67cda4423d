"""Candidates: the same features as a sample of that moment, from the same statements."""

import datetime as dt
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import Row, SparkSession

from esmm import candidates, samples, schema
from esmm.config import Config, parse
from esmm.days import day_start
from esmm.errors import ConfigError, DataError
from esmm.publish import Table
from tests.brute_force import Event
from tests.test_samples import DAYS, MINUTE, ZONE, write_logs

MIDNIGHT = day_start(DAYS[1], ZONE)


def write_candidates(config: Config, **columns: list[Any]) -> None:
    path = Path(config.scoring.candidates.source)
    path.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path / "part-0.parquet")


def described(spark: SparkSession, config: Config, as_of: dt.datetime | None = None) -> list[Row]:
    at = as_of or dt.datetime.combine(DAYS[1], dt.time(), ZONE)
    rows = candidates.described(spark, config, at).collect()
    return sorted(rows, key=lambda row: (row["user_id"], row["item_id"]))


@pytest.fixture
def logs(config: Config) -> None:
    """User 1 clicked items 3 and 4 before midnight, and 5 at midnight."""
    clicks = [
        Event(10, 1, 3, MIDNIGHT - 2 * MINUTE),
        Event(11, 1, 4, MIDNIGHT - MINUTE),
        Event(12, 1, 5, MIDNIGHT),
    ]
    write_logs(config, [Event(1, 1, 7, MIDNIGHT)], clicks, [Event(20, 1, 3, MIDNIGHT)])


@pytest.mark.usefixtures("logs")
def test_a_candidate_has_the_features_of_a_sample_of_that_moment(spark: SparkSession, config: Config) -> None:
    """Exposure 1 shows item 7 to user 1 at midnight: but for the clock and the device, the same row."""
    samples.build(spark, config, DAYS[1:2], allow_immature=True)
    [sample] = spark.read.parquet(*Table(config.samples.table).files(DAYS[1:2])).collect()
    write_candidates(config, user_id=[1], item_id=[7])
    [candidate] = described(spark, config)
    assert candidate["clicked_item"] == [4, 3, -1, -1, -1]
    for column in schema.feature_columns(config):
        if column.name != "hour":
            assert candidate[column.name] == sample[column.name], column.name
    assert (sample["hour"], candidate["hour"]) == (0, 20)


@pytest.mark.usefixtures("logs")
def test_as_of_a_later_time_later_clicks_are_known(spark: SparkSession, config: Config) -> None:
    write_candidates(config, user_id=[1], item_id=[7])
    later = dt.datetime.combine(DAYS[1], dt.time(0, 1), ZoneInfo("Europe/Paris"))
    [candidate] = described(spark, config, later)
    assert candidate["clicked_item"] == [5, 4, 3, -1, -1]


@pytest.mark.usefixtures("logs")
def test_unknown_users_and_items_are_there_with_absent_features(spark: SparkSession, config: Config) -> None:
    write_candidates(config, user_id=[1, 99_999], item_id=[88_888, 7])
    known, unknown = described(spark, config)
    assert (known["item"], known["seller"], known["price"]) == (88_888, -1, 0.0)
    assert unknown["clicked_item"] == [-1] * 5
    assert unknown["clicked_weight"] == [0.0] * 5
    assert unknown["segment"] == -1


@pytest.mark.usefixtures("logs")
def test_a_pair_that_comes_twice_is_there_once(spark: SparkSession, config: Config) -> None:
    write_candidates(config, user_id=[1, 1, 1], item_id=[7, 7, 8])
    assert [row["item_id"] for row in described(spark, config)] == [7, 8]


@pytest.mark.usefixtures("logs")
def test_a_column_of_the_candidates_goes_before_the_configs_value(
    spark: SparkSession, config: Config
) -> None:
    write_candidates(config, user_id=[1], item_id=[7])
    [fixed] = described(spark, config)
    write_candidates(config, user_id=[1], item_id=[7], device=["desktop"])
    [own] = described(spark, config)
    assert fixed["device"] != own["device"]


@pytest.mark.usefixtures("logs")
def test_string_ids_come_back_as_they_are(spark: SparkSession, config: Config) -> None:
    write_candidates(config, user_id=["u1"], item_id=["i1"])
    [row] = described(spark, config)
    assert row["passthrough"].asDict() == {"user_id": "u1", "item_id": "i1"}
    assert row["user_id"] > 0


@pytest.mark.usefixtures("logs")
class TestBadInput:
    def refused(
        self, spark: SparkSession, config: Config, kind: type[Exception], **columns: list[Any]
    ) -> str:
        write_candidates(config, **columns)
        with pytest.raises(kind) as caught:
            described(spark, config)
        return str(caught.value)

    def test_no_candidates(self, spark: SparkSession, config: Config) -> None:
        message = self.refused(
            spark, config, DataError, user_id=pa.array([], pa.int64()), item_id=pa.array([], pa.int64())
        )
        assert message == "scoring.candidates: expected at least one row, found no candidates"

    def test_null_user(self, spark: SparkSession, config: Config) -> None:
        message = self.refused(spark, config, DataError, user_id=[1, None], item_id=[7, 8])
        assert message == (
            "scoring.candidates: expected a user and an item in every row, neither negative, "
            "found {'user_id': None, 'item_id': 8}"
        )

    def test_missing_column(self, spark: SparkSession, config: Config) -> None:
        message = self.refused(spark, config, DataError, user_id=[1], item=[7])
        assert message.startswith("scoring.candidates.columns.item_id: expected a column of ")

    def test_feature_without_a_value_for_scoring(self, spark: SparkSession, values: dict[str, Any]) -> None:
        del values["features"]["device"]["at_scoring"]
        message = self.refused(spark, parse(values), ConfigError, user_id=[1], item_id=[7])
        assert message.startswith(
            "features.device.at_scoring: expected a value for scoring, found none, and "
        )
