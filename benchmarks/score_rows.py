"""A million candidates and the model that scores them, for `make bench-score`.

    directory = made_in(Path("build/bench/score"))     # made once
    config_of(directory)                               # the reference model, and where it is

    rows/         every column of every pair, in no order; lists are padded, as those of samples
    candidates/   the same pairs in the same order, without what their users have
    users/        what these have, a row a user; lists are as long as they are
    models/       one version, untrained

Ids, lists and numbers are drawn as those of `benchmarks.sample_rows`.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.sample_rows import (
    CATEGORICALS,
    ENTITIES,
    LENGTH,
    NUMBERS,
    ROW_GROUP,
    arrow,
    entries,
    zipf,
)
from esmm import schema
from esmm.config import Config, parse
from esmm.schema import ABSENT, Column

USERS, CANDIDATES, FILES = 10_000, 100, 5
ROWS = USERS * CANDIDATES

_DIMS = {"product": 64, "seller": 32, "brand": 32, "category_1": 32, "category_2": 10}
_SOURCES = {
    **{name: f"items.{name}" for name in ENTITIES},
    "product": "exposures.item_id",
    "hour": "clock.hour",
    "region": "users.region",
    "device": "exposures.device",
    "campaign": "exposures.campaign",
}


def config_of(directory: Path) -> Config:
    """The reference model: towers of 512, 256 and 128, and a list an entity with weights of its own."""
    embeddings = {name: {"rows": rows, "dim": _DIMS[name]} for name, rows in ENTITIES.items()}
    embeddings |= {name: {"rows": rows, "dim": 8} for name, rows in CATEGORICALS.items()}
    features: dict[str, Any] = {
        name: {"kind": "id", "source": source, "embedding": name} for name, source in _SOURCES.items()
    }
    features |= {name: {"kind": "number", "source": f"items.{name}"} for name in NUMBERS}
    of_clicks = {"event": "click", "length": LENGTH, "half_life": "3d", "look_back": "30d"}
    logs = ("exposures", "clicks", "purchases", "items", "users")
    return parse(
        {
            "name": "bench_score",
            "logs": {log: {"path": "not read"} for log in logs},
            "attribution": {"click_window": "30m", "purchase_window": "1d"},
            "samples": {"table": "not read"},
            "embeddings": embeddings,
            "features": features,
            "lists": {f"clicked_{name}": {**of_clicks, "entities": [name]} for name in ENTITIES},
            "training": {"directory": "not read"},
            "evaluation": {"directory": "not read"},
            "scoring": {"models": str(directory / "models")},
        }
    )


def made_in(directory: Path, seed: int = 0) -> Path:
    """The directory, with everything in it."""
    if not directory.is_dir():
        from esmm import models
        from esmm.export import export

        unfinished = directory.with_name(f"{directory.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        config, random = config_of(unfinished), np.random.default_rng(seed)
        export(models.make(config), config, config.scoring.models, {})
        _write(unfinished, config, random)
        unfinished.rename(directory)
    return directory


def _write(directory: Path, config: Config, random: np.random.Generator) -> None:
    is_there = entries(random, USERS)
    of_user = {column.name: _drawn(random, column, is_there) for column in schema.user_columns(config)}
    by_user = {name: _as_long_as_it_is(values, is_there) for name, values in of_user.items()}
    _write_file(directory / "users/part-0.parquet", {"user_id": pa.array(np.arange(USERS)), **by_user})

    user_of_row = random.permutation(np.repeat(np.arange(USERS), CANDIDATES))
    for number, part in enumerate(np.array_split(user_of_row, FILES)):
        of_row = {"user_id": part, "item_id": np.arange(len(part)) + number * len(part)}
        of_row |= {
            column.name: _drawn(random, column, is_there[part]) for column in schema.row_columns(config)
        }
        everything = of_row | {name: values[part] for name, values in of_user.items()}
        for kind, columns in (("candidates", of_row), ("rows", everything)):
            arrays = {name: arrow(values) for name, values in columns.items()}
            _write_file(directory / kind / f"part-{number}.parquet", arrays)


def _drawn(random: np.random.Generator, column: Column, is_there: np.ndarray) -> np.ndarray:
    """A column of some rows, of whose lists some entries are there."""
    rows, name = len(is_there), column.name
    found: np.ndarray
    if name in NUMBERS:
        found = random.random(rows)
    elif name in CATEGORICALS:
        found = random.integers(0, CATEGORICALS[name], rows)
    elif name in ENTITIES:
        found = zipf(random, ENTITIES[name], rows)
    elif column.type == "float32":
        found = is_there * random.uniform(1e-3, 1, is_there.shape)
    else:
        entity = next(each for each in ENTITIES if name == f"clicked_{each}_{each}")
        found = np.where(is_there, zipf(random, ENTITIES[entity], is_there.shape), ABSENT)
    return found.astype(column.type)


def _as_long_as_it_is(values: np.ndarray, is_there: np.ndarray) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    ends = np.cumsum([0, *is_there.sum(axis=1)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values[is_there]))


def _write_file(path: Path, columns: Mapping[str, pa.Array]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path, row_group_size=ROW_GROUP)
