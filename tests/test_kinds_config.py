"""Kinds of features in the config: their columns, and what is refused, with which words."""

from typing import Any

import pytest

from esmm import schema
from esmm.config import parse
from esmm.errors import ConfigError
from tests import kinds

IDS = "user, item, seller, brand, category, subcategory, segment, device, hour"
TABLES = "user, item, seller, brand, category, subcategory, context, band, level, daypart, cross"

REFUSED: dict[str, tuple[str, Any, str]] = {
    "a cross into no table": (
        "features.taste.embedding", "crosses",
        f"features.taste.embedding: expected one of {TABLES}, found 'crosses'",
    ),
    "buckets of no table": (
        "features.band.embedding", "price",
        f"features.band.embedding: expected one of {TABLES}, found 'price'",
    ),
    "a cross of something unknown": (
        "features.taste.of", ["segment", "categry"],
        f"features.taste.of: expected id features ({IDS}), found 'categry'",
    ),
    "a cross of a number": (
        "features.taste.of", ["price", "segment"],
        f"features.taste.of: expected id features ({IDS}), found 'price'",
    ),
    "a cross of a cross": (
        "features.taste.of", ["segment", "taste"],
        f"features.taste.of: expected id features ({IDS}), found 'taste'",
    ),
    "a cross with itself": (
        "features.taste.of", ["segment", "hour", "segment"],
        "features.taste.of: expected different features, found 'segment' twice",
    ),
    "a cross into a vocabulary": (
        "features.taste.embedding", "item",
        "features.taste.embedding: expected a table without a vocabulary, to hash into, found 'item'",
    ),
    "boundaries that do not increase": (
        "features.level.boundaries", [0, 2, 2],
        "features.level.boundaries: expected numbers that increase, found [0, 2, 2]",
    ),
    "boundaries that are no numbers": (
        "features.level.boundaries", [0.5, float("nan")],
        "features.level.boundaries: expected numbers that increase, found [0.5, nan]",
    ),
    "boundaries and quantiles": (
        "features.level.quantiles", 3, "features.level: expected either boundaries or quantiles, found both",
    ),
    "neither boundaries nor quantiles": (
        "features.band.quantiles", None, "features.band: expected either boundaries or quantiles, found neither",
    ),
    "more buckets than rows": (
        "features.band.quantiles", 5,
        "embeddings.band.rows: expected at least 5, one a bucket of features.band, found 4",
    ),
    "more boundaries than rows": (
        "embeddings.level.rows", 3,
        "embeddings.level.rows: expected at least 4, one a bucket of features.level, found 3",
    ),
    "buckets in a table of ids": (
        "features.band.embedding", "context",
        "features.band.embedding: expected a table of buckets alone, found one that features.segment uses",
    ),
    "buckets in a table of crosses": (
        "features.taste.embedding", "band",
        "features.band.embedding: expected a table of buckets alone, found one that features.taste uses",
    ),
    "buckets in a vocabulary": (
        "embeddings.band.vocabulary", {"min_count": 2},
        "features.band.embedding: expected a table of buckets alone, found one with a vocabulary",
    ),
    "a floor of nothing": (
        "embeddings.item.vocabulary.min_count", 0,
        "embeddings.item.vocabulary.min_count: expected greater than 0, found 0",
    ),
    "a list of crosses": (
        "lists.clicked.entities", ["taste"],
        "lists.clicked.entities: expected id features of the item (item, seller, brand, category, subcategory), "
        "found 'taste'",
    ),
    "a source of a cross": (
        "features.taste.source", "items.a",
        "features.taste.source: expected a known key (nearest: of), found an unknown one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(values: dict[str, Any], case: str) -> None:
    key, value, message = REFUSED[case]
    values = kinds.with_every_kind(values)
    section = values
    *parents, last = key.split(".")
    for parent in parents:
        section = section[parent]
    section[last] = value
    with pytest.raises(ConfigError) as caught:
        parse(values)
    assert str(caught.value) == message


def test_a_bucket_is_a_column_of_numbers_and_a_cross_is_none(values: dict[str, Any]) -> None:
    before = {column.name: column for column in schema.sample_columns(parse(values))}
    config = parse(kinds.with_every_kind(values))
    after = {column.name: column for column in schema.sample_columns(config)}
    figures = [f"seller_{figure}_7d" for figure in schema.STATISTICS]
    assert sorted(set(after) - set(before)) == sorted(["band", "daypart", "level", *figures])
    assert {after[name].type for name in ("band", "daypart", "level")} == {"float32"}
    assert {name: after[name] for name in before} == before


def test_columns_are_looked_up_where_the_config_says(values: dict[str, Any]) -> None:
    tables = schema.tables_of(parse(kinds.with_every_kind(values)))
    assert [(name, tables[name]) for name in ("item", "clicked_item", "device", "band", "taste")] == [
        ("item", "item"), ("clicked_item", "item"), ("device", "context"), ("band", "band"), ("taste", "cross"),
    ]  # fmt: skip
    assert "price" not in tables
    assert "clicked_weight" not in tables
