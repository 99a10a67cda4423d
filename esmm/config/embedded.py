"""What features and bags may ask of tables, and of each other: what no section of the config can tell alone."""

from collections.abc import Mapping

from esmm.config.features import (
    Bag,
    BucketFeature,
    CrossFeature,
    Embedding,
    Feature,
    IdFeature,
    NumberFeature,
)
from esmm.errors import ConfigError


def check(
    features: Mapping[str, Feature], bags: Mapping[str, Bag], embeddings: Mapping[str, Embedding]
) -> None:
    """Raise ConfigError where one names a table that is not there or cannot serve it, or no ids to cross."""
    of_buckets = [each.embedding for each in features.values() if isinstance(each, BucketFeature)]
    for name, bag in bags.items():
        if bag.embedding not in embeddings or bag.embedding in of_buckets:
            known = [table for table in embeddings if table not in of_buckets]
            raise ConfigError(f"bags.{name}.embedding", expected=f"one of {', '.join(known)}",
                              found=repr(bag.embedding))  # fmt: skip
    for name, feature in features.items():
        if isinstance(feature, NumberFeature):
            continue
        where = f"features.{name}"
        if feature.embedding not in embeddings:
            raise ConfigError(f"{where}.embedding", expected=f"one of {', '.join(embeddings)}",
                              found=repr(feature.embedding))  # fmt: skip
        if isinstance(feature, CrossFeature):
            _check_cross(where, feature, features, embeddings[feature.embedding])
        if isinstance(feature, BucketFeature):
            _check_buckets(where, feature, features, embeddings[feature.embedding])


def _check_cross(
    where: str, feature: CrossFeature, features: Mapping[str, Feature], table: Embedding
) -> None:
    ids = [name for name, each in features.items() if isinstance(each, IdFeature)]
    for number, name in enumerate(feature.of):
        if name not in ids:
            raise ConfigError(f"{where}.of", expected=f"id features ({', '.join(ids)})", found=repr(name))
        if name in feature.of[:number]:
            raise ConfigError(f"{where}.of", expected="different features", found=f"{name!r} twice")
    if table.vocabulary is not None:
        raise ConfigError(f"{where}.embedding", expected="a table without a vocabulary, to hash into",
                          found=repr(feature.embedding))  # fmt: skip


def _check_buckets(
    where: str, feature: BucketFeature, features: Mapping[str, Feature], table: Embedding
) -> None:
    if (feature.boundaries is None) == (feature.quantiles is None):
        found = "neither" if feature.boundaries is None else "both"
        raise ConfigError(where, expected="either boundaries or quantiles", found=found)
    buckets = feature.quantiles or len(feature.boundaries or ()) + 1
    if buckets > table.rows:
        raise ConfigError(f"embeddings.{feature.embedding}.rows", found=str(table.rows),
                          expected=f"at least {buckets}, one a bucket of {where}")  # fmt: skip
    for name, other in features.items():
        is_mixed = (
            not isinstance(other, NumberFeature | BucketFeature) and other.embedding == feature.embedding
        )
        if is_mixed or table.vocabulary is not None:
            found = f"one that features.{name} uses" if is_mixed else "one with a vocabulary"
            raise ConfigError(f"{where}.embedding", expected="a table of buckets alone", found=found)
