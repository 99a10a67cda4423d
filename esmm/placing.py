"""Which table is held in which way (`esmm.layers.ways`), and what that makes ranks send.

    ways = chosen(config, plan, exchange, fitted)       # {"item": "sharded", "seller": "sparse", "hour": "dense"}
    traffic = Traffic(model, ways, ranks=4)
    traffic.add(stepped.rows)                           # after each step
    traffic.summary()["seller"]                         # {"way": "sparse", "rows": 5120.4, "bytes": 2_088_960}

What the config leaves open is decided by a table's size and, among several ranks, by how many of its rows the first
batch uses: equal config, samples and number of ranks decide alike, also when a run goes on.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
import tensorflow as tf

from esmm import optimizers, rowgroups, schema
from esmm.buffers import Arrays
from esmm.config import Config, CrossFeature
from esmm.errors import DataError
from esmm.fitted import Fitted
from esmm.layers.ways import sent
from esmm.models import Model
from esmm.plan import ReadingPlan

if TYPE_CHECKING:
    from esmm.distributed.exchange import Exchange

log = structlog.get_logger()

_GIB = 2**30
_FLOAT = 4
"""Bytes of a number."""


def chosen(config: Config, plan: ReadingPlan, exchange: "Exchange", fitted: Fitted) -> dict[str, str]:
    """Each table's way, the same on every rank, and a line of the log for each.

    Raises DataError, on every rank, where the first samples of the plan cannot be read.
    """
    found: dict[str, str] | DataError | None = None
    if exchange.rank == 0:
        try:
            exchange.at(0, "placing tables")
            used = rows_in_use(config, _first_batch(config, plan, exchange)) if exchange.size > 1 else {}
            found = _chosen(config, used, exchange.size, fitted)
        except DataError as error:
            found = error
    found = exchange.broadcast_object(found)
    if isinstance(found, DataError):
        raise found
    assert found is not None
    return found


def _chosen(config: Config, used: Mapping[str, int], ranks: int, fitted: Fitted) -> dict[str, str]:
    copies = 1 + len(optimizers.KINDS[config.training.optimizer.name].SLOTS)
    ways: dict[str, str] = {}
    for name in dict.fromkeys(schema.tables_of(config).values()):
        embedding = config.embeddings[name]
        rows = len(fitted.vocabularies[name]) + 1 if embedding.vocabulary else embedding.rows
        gib, in_use = _FLOAT * rows * embedding.dim * copies / _GIB, min(used.get(name, 0), rows)
        way: str | None = embedding.held
        if way is None and gib > config.training.shard_above_gib:
            way = "sharded"
        if ranks == 1 and way != "sharded":
            way = "whole"
        ways[name] = way or min(
            "sparse", "dense", key=lambda way: sent(way, ranks, rows, embedding.dim, in_use)
        )
        log.info("table", name=name, rows=rows, floats=embedding.dim, gib=f"{gib:.3f}", held=ways[name])
    return ways


def rows_in_use(config: Config, batch: Arrays) -> dict[str, int]:
    """By table, how many ids a batch has of it, each counted once; of what is cut into buckets, values."""
    ids: dict[str, list[np.ndarray]] = {}
    for column, table in schema.tables_of(config).items():
        feature = config.features.get(column)
        parts = feature.of if isinstance(feature, CrossFeature) else (column,)
        ids.setdefault(table, []).append(np.stack([batch[part].ravel() for part in parts], axis=1))
    return {
        table: sum(
            len(np.unique(together[(together != schema.ABSENT).all(axis=1)], axis=0))
            for together in _by_width(found)
        )
        for table, found in ids.items()
    }


def _by_width(ids: list[np.ndarray]) -> list[np.ndarray]:
    """Ids of the same kind together: [m, 1] those of one column, [m, k] those of a cross of k."""
    widths = {each.shape[1] for each in ids}
    return [np.concatenate([each for each in ids if each.shape[1] == width]) for width in sorted(widths)]


def _first_batch(config: Config, plan: ReadingPlan, exchange: "Exchange") -> Arrays:
    """As many of the first samples as a rank's batch has; none of an empty plan."""
    columns = schema.feature_columns(config)
    parts, rows = [], 0
    for part in exchange.awaited(rowgroups.load(group, columns) for group in plan.row_groups):
        parts.append(part)
        rows += len(part[columns[0].name])
        if rows >= config.training.batch_size:
            break
    if not parts:
        return {column.name: np.zeros(0, column.type) for column in columns}
    size = config.training.batch_size
    return {column.name: np.concatenate([part[column.name] for part in parts])[:size] for column in columns}


Summary = dict[str, dict[str, Any]]
"""By table, its way, and the mean over steps of rows in use and of bytes that a rank sends."""


class Traffic:
    """Counts the rows that a rank's batches use of each table."""

    def __init__(self, model: Model, ways: Mapping[str, str], ranks: int) -> None:
        self._tables, self._ways, self._ranks = model.tables, ways, ranks
        self._steps = 0
        self._rows = dict.fromkeys(model.tables, 0)

    def add(self, rows: Mapping[str, tf.Tensor]) -> None:
        """Take note of a step's."""
        self._steps += 1
        for name, used in rows.items():
            self._rows[name] += int(used)

    def summary(self) -> Summary:
        """What this process's steps used and sent."""
        found = {}
        for name, table in self._tables.items():
            way, in_use = self._ways[name.rpartition("/")[2]], self._rows[name] / max(self._steps, 1)
            sends = sent(way, self._ranks, table.size, table.dim, in_use)
            found[name] = {"way": way, "rows": round(in_use, 1), "bytes": round(sends)}
        return found


def log_traffic(tables: Summary) -> None:
    """A line of the log for each table, and one for all."""
    for name, found in tables.items():
        log.info(
            "table sent", name=name, held=found["way"], rows_a_step=found["rows"], bytes_a_step=found["bytes"]
        )
    log.info("tables sent", bytes_a_step=sum(found["bytes"] for found in tables.values()))
