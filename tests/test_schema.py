"""The sample's columns, written out by hand for the demo's features and one list."""

from typing import Any

import pyarrow as pa
import pytest

from esmm import schema
from esmm.config import Config, parse
from esmm.errors import ConfigError


def test_columns_of_the_demo(config: Config) -> None:
    ids, floats = pa.list_(pa.int64()), pa.list_(pa.float32())
    assert schema.arrow_schema(config) == pa.schema(
        {
            "exposure_id": pa.int64(),
            "user_id": pa.int64(),
            "item_id": pa.int64(),
            "exposed_at": pa.int64(),
            "click": pa.int8(),
            "purchase": pa.int8(),
            "weight": pa.float32(),
            "user": pa.int64(),
            "item": pa.int64(),
            "seller": pa.int64(),
            "brand": pa.int64(),
            "category": pa.int64(),
            "subcategory": pa.int64(),
            "segment": pa.int64(),
            "device": pa.int64(),
            "hour": pa.int64(),
            "price": pa.float32(),
            "clicked_item": ids,
            "clicked_seller": ids,
            "clicked_brand": ids,
            "clicked_category": ids,
            "clicked_subcategory": ids,
            "clicked_weight": floats,
        }
    )
    lists = [column for column in schema.feature_columns(config) if column.length is not None]
    assert {column.length for column in lists} == {5}
    assert [column.spark for column in lists[-2:]] == ["array<bigint>", "array<float>"]


@pytest.mark.parametrize("name", ["click", "user_id", "ds", "clicked_item"])
def test_a_feature_cannot_take_a_name_that_is_taken(values: dict[str, Any], name: str) -> None:
    values["features"][name] = values["features"]["device"]
    with pytest.raises(ConfigError, match=f"expected columns of different names, found '{name}' twice"):
        schema.sample_columns(parse(values))
