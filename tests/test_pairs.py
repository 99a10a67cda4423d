"""All items of some values for given users: what is scored is what a table of these pairs would have given."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import Row, SparkSession

from esmm import pairs
from esmm.config import Config, parse
from esmm.days import micros
from esmm.errors import ConfigError, DataError
from tests.brute_force import Event
from tests.test_candidates import MIDNIGHT, described, with_string_ids, write_candidates
from tests.test_samples import MINUTE, write_logs
from tests.test_scoring import AS_OF


@pytest.fixture
def config(values: dict[str, Any]) -> Config:
    """Users 1 and 99, of whom the log knows 1, and items of the categories of items 3 and 4."""
    config = parse(values)
    write_logs(
        config, [Event(1, 1, 7, MIDNIGHT)], [Event(10, 1, 3, MIDNIGHT - MINUTE)], [Event(20, 1, 3, MIDNIGHT)]
    )
    users = Path(values["scoring"]["table"]).with_name("given")
    users.mkdir()
    pq.write_table(pa.table({"user_id": [1, 99], "device": ["desktop", "phone"]}), users / "part-0.parquet")
    values["scoring"]["users"] = {"path": str(users)}
    values["scoring"]["items"] = {"feature": "category", "values": categories(config, 3, 4)}
    values["scoring"]["pass_through"] = ["device"]
    del values["scoring"]["candidates"]
    return parse(values)


def categories(config: Config, *items: int) -> list[Any]:
    """As the log of items has them."""
    log = catalogue(config)
    return sorted({row["category"] for row in log if row["item_id"] in items})


def catalogue(config: Config) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(config.logs.items.source).to_pylist()
    return found


def test_all_items_of_the_categories_for_each_user(spark: SparkSession, config: Config) -> None:
    items = [row["item_id"] for row in catalogue(config) if row["category"] in config.scoring.items.values]
    found = described(spark, config)
    assert [(row["user_id"], row["item_id"]) for row in found] == [
        (user, item) for user in (1, 99) for item in sorted(items)
    ]
    assert 1 < len(items) < len(catalogue(config))
    as_table = config.scoring.model_dump() | {"users": None, "items": None, "candidates": None}
    scoring = config.scoring.model_validate(
        as_table | {"candidates": {"path": f"{config.scoring.table}_pairs"}}
    )
    listed = config.model_copy(update={"scoring": scoring})
    devices = {1: "desktop", 99: "phone"}
    write_candidates(
        listed, user_id=[1] * len(items) + [99] * len(items), item_id=items * 2,
        device=[devices[1]] * len(items) + [devices[99]] * len(items),
    )  # fmt: skip
    assert described(spark, listed) == found


def test_who_is_unknown_is_counted(spark: SparkSession, config: Config) -> None:
    items = {row["item_id"] for row in described(spark, config)}
    assert pairs.counts(spark, config, micros(AS_OF)) == {
        "candidates": 2 * len(items), "users": 2, "unknown_users": 1, "items": len(items), "unknown_items": 0,
    }  # fmt: skip


def test_ids_of_text_come_back_as_they_are(spark: SparkSession, config: Config) -> None:
    logs = config.logs
    for log in (logs.exposures, logs.clicks, logs.purchases, logs.items, logs.users, config.scoring.users):
        with_string_ids(Path(log.source) / "part-0.parquet")
    found = described(spark, config)
    assert {row["passthrough"]["user_id"] for row in found} == {"1", "99"}
    assert {"3", "4"} < {row["passthrough"]["item_id"] for row in found}


class TestBadInput:
    def refused(self, values: dict[str, Any], section: str, keys: dict[str, Any]) -> str:
        values[section] = values[section] | keys
        with pytest.raises(ConfigError) as caught:
            parse(values)
        return str(caught.value)

    def test_of_both_ways_one(self, values: dict[str, Any]) -> None:
        users = {"users": {"path": "users"}}
        items = {"items": {"feature": "category", "values": [1]}}
        expected = "scoring: expected candidates, or users and items, found "
        assert self.refused(values, "scoring", users) == f"{expected}candidates and users"
        assert self.refused(values, "scoring", items) == f"{expected}candidates and users and items"
        assert self.refused(values, "scoring", {"candidates": None, "users": None}) == f"{expected}items"

    @pytest.mark.parametrize("feature", ["price", "segment", "item", "nothing"])
    def test_a_feature_that_items_do_not_go_by(self, values: dict[str, Any], feature: str) -> None:
        keys = {"candidates": None, "users": {"path": "users"}, "items": {"feature": feature, "values": [1]}}
        message = self.refused(values, "scoring", keys)
        expected = "an id feature of items (seller, brand, category, subcategory)"
        assert message == f"scoring.items.feature: expected {expected}, found '{feature}'"

    @pytest.mark.parametrize("value", ["shoes", -5])
    def test_a_value_that_no_item_can_have(
        self, spark: SparkSession, config: Config, value: int | str
    ) -> None:
        line = rf"^scoring.items.values: expected values of the log's type, bigint, none negative, found {value!r}$"
        with pytest.raises(ConfigError, match=line):
            self.described(spark, config, feature="seller", values=(value,))

    def test_values_that_no_item_has(self, spark: SparkSession, config: Config) -> None:
        with pytest.raises(
            DataError, match=r"^scoring.users: expected at least one row, found no candidates$"
        ):
            self.described(spark, config, values=("none",))

    def described(self, spark: SparkSession, config: Config, **keys: Any) -> list[Row]:
        items = config.scoring.items.model_copy(update=keys)
        return described(
            spark, config.model_copy(update={"scoring": config.scoring.model_copy(update={"items": items})})
        )
