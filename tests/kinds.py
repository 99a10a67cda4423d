"""A config with every kind of feature, and what its inputs are, in Python and NumPy."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from esmm.config import Config
from esmm.fitted import Fitted
from tests import plain


def with_every_kind(values: dict[str, Any]) -> dict[str, Any]:
    """The small config's values, and beside its hashed ids a vocabulary, buckets, a cross and standardised numbers."""
    values["embeddings"] |= {
        "item": {"rows": 30, "dim": 4, "vocabulary": {"min_count": 3}},
        "band": {"rows": 4, "dim": 3},
        "level": {"rows": 5, "dim": 2},
        "daypart": {"rows": 4, "dim": 2},
        "cross": {"rows": 50, "dim": 5},
    }
    price, hour = {"source": "items.price"}, {"source": "clock.hour", "at_scoring": 20}
    values["features"] |= {
        "price": {"kind": "number", **price, "transform": "log1p", "standardise": True, "scale": 2},
        "band": {"kind": "bucket", **price, "embedding": "band", "quantiles": 4},
        "level": {"kind": "bucket", **price, "embedding": "level", "boundaries": [-0.5, 0.5, 40]},
        "daypart": {"kind": "bucket", **hour, "embedding": "daypart", "boundaries": [6, 12, 18]},
        "taste": {"kind": "cross", "of": ["segment", "category"], "embedding": "cross"},
    }
    values["statistics"] = {"seller": {"by": ["seller"], "days": [7], "standardise": True}}
    return values


def cross(*ids: int) -> int:
    """The id of a combination, -1 where one of them is absent."""
    bits, *others = ids
    for one in others:
        bits ^= bits >> 33
        bits = bits * 0xFF51AFD7ED558CCD % 2**64
        bits = ((bits ^ (bits >> 33)) + one) % 2**64
    return -1 if min(ids) < 0 else bits % 2**63


def inputs(
    config: Config, fitted: Fitted, tables: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
) -> np.ndarray:
    """What the towers see of `with_every_kind`, [b, i], a sample at a time."""
    rows = []
    for number in range(len(batch["weight"])):
        row = {name: values[number] for name, values in batch.items()}
        rows.append(np.concatenate([*_embedded(config, fitted, tables, row), _numbers(config, fitted, row)]))
    return np.stack(rows)


def _embedded(
    config: Config, fitted: Fitted, tables: Mapping[str, np.ndarray], row: Mapping[str, Any]
) -> Any:
    def vector(table: str, place: int) -> np.ndarray:
        return tables[table][place] if place >= 0 else np.zeros(tables[table].shape[1])

    def looked_up(table: str, identifier: int) -> np.ndarray:
        if table != "item":
            return vector(table, plain.bucket(identifier, config.embeddings[table].rows))
        known = fitted.vocabularies["item"].tolist()
        own_row = known.index(identifier) + 1 if identifier in known else 0
        return vector(table, own_row if identifier >= 0 else -1)

    for name, feature in config.features.items():
        if feature.kind == "id":
            yield looked_up(feature.embedding, int(row[name]))
        elif feature.kind == "bucket":
            boundaries = feature.boundaries or fitted.boundaries[name].tolist()
            bucket = sum(boundary <= row[name] for boundary in boundaries)
            yield vector(feature.embedding, bucket if row[name] else -1)
        elif feature.kind == "cross":
            combined = cross(*[int(row[part]) for part in feature.of])
            yield vector("cross", plain.bucket(combined, config.embeddings["cross"].rows))
    for entity in config.lists["clicked"].entities:
        entries = [looked_up(entity, int(each)) for each in row[f"clicked_{entity}"]]
        yield row["clicked_weight"].astype(np.float64) @ np.stack(entries)


def _numbers(config: Config, fitted: Fitted, row: Mapping[str, Any]) -> list[float]:
    price, (mean, deviation) = float(row["price"]), fitted.moments["price"]
    found = [(np.sign(price) * np.log1p(abs(price)) - mean) / deviation / 2]
    for name in (f"seller_{figure}_7d" for figure in ("exposures", "clicks", "purchases", "ctr", "cvr")):
        mean, deviation = fitted.moments[name]
        found.append((float(row[name]) - mean) / deviation)
    return found
