"""Candidates: the same features as a sample of that moment, from the same statements."""

import datetime as dt
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, Row, SparkSession

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


def joined(spark: SparkSession, config: Config, as_of: dt.datetime) -> DataFrame:
    """The candidates with all columns of `esmm.schema`, as rows of samples, and `passthrough`."""
    users, rows = candidates.by_user(spark, config, as_of)
    names = [column.name for column in schema.sample_columns(config)]
    return rows.join(users, "user_id").select(*names, schema.DAY, "passthrough")


def described(spark: SparkSession, config: Config, as_of: dt.datetime | None = None) -> list[Row]:
    at = as_of or dt.datetime.combine(DAYS[1], dt.time(), ZONE)
    rows = joined(spark, config, at).collect()
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
    samples.build(spark, config, DAYS[1:2], allow_immature=True).or_raise()
    [sample] = spark.read.parquet(*Table(config.samples.table).files(DAYS[1:2])).collect()
    write_candidates(config, user_id=[1], item_id=[7])
    [candidate] = described(spark, config)
    assert candidate["clicked_item"] == [4, 3]
    assert sample["clicked_item"] == [4, 3, -1, -1, -1]
    for column in schema.feature_columns(config):
        value = candidate[column.name]
        if column.length is not None:
            padding = 0.0 if column.name.endswith("weight") else -1
            value = value + [padding] * (column.length - len(value))
        if column.name != "hour":
            assert value == sample[column.name], column.name
    assert (sample["hour"], candidate["hour"]) == (0, 20)


@pytest.mark.usefixtures("logs")
def test_as_of_a_later_time_later_clicks_are_known(spark: SparkSession, config: Config) -> None:
    write_candidates(config, user_id=[1], item_id=[7])
    later = dt.datetime.combine(DAYS[1], dt.time(0, 1), ZoneInfo("Europe/Paris"))
    [candidate] = described(spark, config, later)
    assert candidate["clicked_item"] == [5, 4, 3]


@pytest.mark.usefixtures("logs")
def test_unknown_users_and_items_are_there_with_absent_features(spark: SparkSession, config: Config) -> None:
    write_candidates(config, user_id=[1, 99_999], item_id=[88_888, 7])
    known, unknown = described(spark, config)
    assert (known["item"], known["seller"], known["price"]) == (88_888, -1, 0.0)
    assert unknown["clicked_item"] == unknown["clicked_weight"] == []
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
@pytest.mark.parametrize("neutral", [1, -1])
@pytest.mark.slow
def test_a_position_is_learnt_from_and_scored_as_the_neutral_one(
    spark: SparkSession, values: dict[str, Any], neutral: int
) -> None:
    """Shown at position 3; a candidate is scored as if it were first, or at none."""
    feature = {"kind": "id", "source": "exposures.position", "embedding": "context", "at_scoring": neutral}
    values["features"]["position"] = feature
    config = parse(values)
    file = Path(config.logs.exposures.source, "part-0.parquet")
    shown = pq.read_table(file)
    pq.write_table(shown.append_column("position", pa.array([3] * len(shown), pa.int32())), file)
    samples.build(spark, config, DAYS[1:2], allow_immature=True).or_raise()
    [sample] = spark.read.parquet(*Table(config.samples.table).files(DAYS[1:2])).collect()
    write_candidates(config, user_id=[1], item_id=[7])
    [candidate] = described(spark, config)
    assert (sample["position"], candidate["position"]) == (3, neutral)


def test_string_ids_come_back_as_they_are(spark: SparkSession, config: Config) -> None:
    write_logs(config, [Event(1, 1, 7, MIDNIGHT)], [Event(10, 1, 3, MIDNIGHT)], [Event(20, 1, 3, MIDNIGHT)])
    for log in (
        config.logs.exposures,
        config.logs.clicks,
        config.logs.purchases,
        config.logs.items,
        config.logs.users,
    ):
        assert log is not None
        with_string_ids(Path(log.source) / "part-0.parquet")
    write_candidates(config, user_id=["u1"], item_id=["i1"])
    [row] = described(spark, config)
    assert row["passthrough"].asDict() == {"user_id": "u1", "item_id": "i1"}
    assert row["user_id"] > 0


def with_string_ids(file: Path) -> None:
    """Rewrite a log's users and items as strings."""
    table = pq.read_table(file)
    for place, name in enumerate(table.column_names):
        if name in ("user_id", "item_id"):
            table = table.set_column(place, name, table[name].cast(pa.string()))
    pq.write_table(table, file)


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

    @pytest.mark.parametrize("column", ["user_id", "item_id"])
    def test_ids_of_another_kind(self, spark: SparkSession, config: Config, column: str) -> None:
        ids: dict[str, list[Any]] = {"user_id": [1], "item_id": [7]}
        message = self.refused(spark, config, DataError, **(ids | {column: ["x"]}))
        expected = f"integers, as logs.exposures has in {column}"
        assert message == f"scoring.candidates.columns.{column}: expected {expected}, found strings"

    def test_a_feature_of_another_kind(self, spark: SparkSession, config: Config) -> None:
        message = self.refused(spark, config, DataError, user_id=[1], item_id=[7], device=[3])
        assert message == (
            "scoring.candidates: expected strings in 'device', as logs.exposures has, found integers"
        )

    def test_a_value_for_scoring_that_the_logs_column_cannot_hold(
        self, spark: SparkSession, config: Config
    ) -> None:
        """The log's devices are numbers: `phone` is none, and would silently be no device at all."""
        file = Path(config.logs.exposures.source) / "part-0.parquet"
        table = pq.read_table(file)
        place = table.column_names.index("device")
        pq.write_table(table.set_column(place, "device", pa.array([3])), file)
        message = self.refused(spark, config, ConfigError, user_id=[1], item_id=[7])
        expected = "a value of the log's type, bigint"
        assert message == f"features.device.at_scoring: expected {expected}, found 'phone'"
