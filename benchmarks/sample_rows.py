"""The rows that benchmarks of reading and training share, so that ratios mean the same in each.

    directory = made_in(Path("build/bench/rows"))     # made once; COLUMNS says what is in the files

400 thousand samples in five files of row groups of 16,384. Ids are drawn from Zipf's distribution of exponent 1 over
their tables' sizes, in lists too; a list has 12.6 real entries of 20 on average, and none in 12 % of the rows.
"""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from esmm.schema import ABSENT, LABELS, WEIGHT, Column, Role

ROWS, FILES, ROW_GROUP, LENGTH = 400_000, 5, 16_384, 20
ENTITIES = {"product": 1_000_000, "seller": 10_240, "brand": 10_240, "category_1": 10_240, "category_2": 100}
"""Entity to the size of its table; the candidate has an id of each, and so has every entry of the lists."""
CATEGORICALS = {"hour": 24, "region": 201, "device": 9, "campaign": 1_000}
NUMBERS = tuple(f"number_{n}" for n in range(6))

COLUMNS = (
    *LABELS,
    WEIGHT,
    Column("user", "int64", Role.FEATURE),
    *(Column(name, "int64", Role.FEATURE) for name in (*ENTITIES, *CATEGORICALS)),
    *(Column(name, "float32", Role.FEATURE) for name in NUMBERS),
    *(Column(f"clicked_{name}", "int64", Role.FEATURE, LENGTH) for name in ENTITIES),
    *(Column(f"clicked_{name}_weight", "float32", Role.FEATURE, LENGTH) for name in ENTITIES),
)


def made_in(directory: Path, seed: int = 0) -> Path:
    """The directory, with the files in it."""
    if not directory.is_dir():
        unfinished = directory.with_name(f"{directory.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        random = np.random.default_rng(seed)
        for number in range(FILES):
            samples = pa.table(
                {column.name: arrow(values) for column, values in _rows(random, ROWS // FILES)}
            )
            pq.write_table(samples, unfinished / f"part-{number}.parquet", row_group_size=ROW_GROUP)
        unfinished.rename(directory)
    return directory


def _rows(random: np.random.Generator, rows: int) -> list[tuple[Column, np.ndarray]]:
    click = random.random(rows) < 0.04
    is_there = entries(random, rows)
    found = {
        "click": click,
        "purchase": click & (random.random(rows) < 0.02),
        "weight": np.ones(rows),
        "user": zipf(random, 1_000_000, rows),
    }
    for name in NUMBERS:
        found[name] = random.random(rows)
    for name, size in CATEGORICALS.items():
        found[name] = random.integers(0, size, rows)
    for name, size in ENTITIES.items():
        found[name] = zipf(random, size, rows)
        found[f"clicked_{name}"] = np.where(is_there, zipf(random, size, is_there.shape), ABSENT)
        found[f"clicked_{name}_weight"] = is_there * random.uniform(1e-3, 1, is_there.shape)
    return [(column, found[column.name].astype(column.type)) for column in COLUMNS]


def entries(random: np.random.Generator, rows: int) -> np.ndarray:
    """Which of the entries of each row's list are there, bool [rows, LENGTH]."""
    lengths = np.clip(random.normal(14.3, 5, rows).round(), 1, LENGTH) * (random.random(rows) >= 0.12)
    found: np.ndarray = np.arange(LENGTH) < lengths[:, np.newaxis]
    return found


def zipf(random: np.random.Generator, size: int, shape: int | tuple[int, ...]) -> np.ndarray:
    """Ids from 0, of which k is drawn in proportion to 1 / (k + 1)."""
    cumulative = np.cumsum(1 / np.arange(1, size + 1))
    return np.searchsorted(cumulative, random.random(shape) * cumulative[-1])


def arrow(values: np.ndarray) -> pa.Array:
    """An array, or one of lists, as Arrow has it."""
    if values.ndim == 1:
        return pa.array(values)
    offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * values.shape[1])
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))
