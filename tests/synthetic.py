"""Samples to train on, made without Spark: random, with labels that can be learnt."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from esmm import schema
from esmm.config import Config, IdFeature
from esmm.publish import Table, new_run

DAY = dt.date(2026, 3, 24)


def columns(config: Config, rows: int, seed: int = 0, ids: int = 50) -> dict[str, np.ndarray]:
    """All columns of a sample, by name: [rows] or [rows, length]; one id in ten is absent.

    Each id of a feature has a taste of its own, and a list's first entry counts where it is the candidate's.
    """
    random = np.random.default_rng(seed)
    tastes = np.random.default_rng(99).normal(size=(2, 20, ids))
    found: dict[str, np.ndarray] = {}
    logits = np.array([-1.0, -0.5])[:, np.newaxis] + np.zeros((2, rows))
    for number, (name, feature) in enumerate(schema.sourced_features(config).items()):
        if isinstance(feature, IdFeature):
            found[name] = random.integers(0, ids, rows)
            logits += 0.7 * tastes[:, number, found[name]]
            found[name][random.random(rows) < 0.1] = schema.ABSENT
        else:
            found[name] = random.normal(size=rows).astype(np.float32)
            logits += 0.3 * found[name]
    for column in schema.statistic_columns(config):
        found[column.name] = random.normal(size=rows).astype(np.float32)
    for name, behaviour in config.lists.items():
        lengths = random.integers(0, behaviour.length + 1, rows)
        is_there = np.arange(behaviour.length) < lengths[:, np.newaxis]
        for entity in behaviour.entities:
            entries = random.integers(0, ids, is_there.shape)
            entries[random.random(rows) < 0.3, 0] = 0
            logits += 0.5 * tastes[:, -1, entries[:, 0]] * is_there[:, 0]
            found[f"{name}_{entity}"] = np.where(is_there, entries, schema.ABSENT)
        weights = np.sort(random.uniform(0.1, 1.0, is_there.shape))[:, ::-1] * is_there
        found[f"{name}_weight"] = weights.astype(np.float32)
    click, purchase = random.random((2, rows)) < 1 / (1 + np.exp(-logits))
    found |= {"click": click.astype(np.int8), "purchase": (click & purchase).astype(np.int8)}
    found["weight"] = np.ones(rows, np.float32)
    found |= {key.name: np.arange(rows) for key in schema.KEYS}
    return {column.name: found[column.name] for column in schema.sample_columns(config)}


def with_training(config: Config, **training: Any) -> Config:
    """The config with other settings of training."""
    return config.model_copy(update={"training": config.training.model_copy(update=training)})


def tensors(batch: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    """What the reader would give the model."""
    return {name: tf.constant(values) for name, values in batch.items()}


def take(batch: Mapping[str, np.ndarray], rows: slice, size: int) -> dict[str, np.ndarray]:
    """Some rows of a batch, filled up with padding to `size`: ids -1, weights and everything else 0."""
    found = {}
    for name, values in batch.items():
        part = values[rows]
        fill = schema.ABSENT if values.dtype == np.int64 else 0
        padding = np.full((size - len(part), *part.shape[1:]), fill, values.dtype)
        found[name] = np.concatenate([part, padding])
    return found


def publish(config: Config, files: list[int], day: dt.date = DAY, seed: int = 0) -> Table:
    """A day of samples in the config's table, in files of so many rows, one row group each."""
    table, run = Table(config.samples.table), new_run()
    directory = f"{table.path}/run={run}/ds={day}"
    table.fs.makedirs(directory)
    for number, rows in enumerate(files):
        write(config, columns(config, rows, seed + number), f"{directory}/part-{number}.parquet")
    table.publish(day, run, config=config.digest())
    return table


def write(config: Config, samples: Mapping[str, np.ndarray], path: str) -> None:
    """A file of samples, one row group."""
    names = schema.arrow_schema(config)
    arrays = [
        pa.array(values.tolist() if values.ndim > 1 else values, field.type)
        for values, field in zip(samples.values(), names, strict=True)
    ]
    pq.write_table(pa.Table.from_arrays(arrays, schema=names), path)
