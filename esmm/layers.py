"""Ids to vectors to logits: hashing, embedding tables, pooling, towers.

Shapes, as the ends of the tensors' names say: b samples of a batch, n entries of a list, m ids that a batch
looks up in one table, u rows of the table that these ids need, d floats a row, i inputs of a tower.

A table that holds the candidate's `seller` and the list `clicked_seller`, in a batch of two samples:

    seller           [7, 9]                    # the rows that 7, 9 and 4 are hashed to are gathered once,
    clicked_seller   [[9, 9, -1], [4, -1, -1]] # [3, d], whatever the number of ids and towers
    pool(rows, places of clicked_seller, [[1.0, 0.5, 0.0], [0.8, 0.0, 0.0]])
    # [1.0 · row of 9 + 0.5 · row of 9, 0.8 · row of 4]

Gradients are taken by the gathered rows, not by the table: that makes a table's gradient one row for each
row in use, already summed over candidates, lists and towers.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from esmm.config import Config, Embedding, IdFeature, Model, NumberFeature
from esmm.schema import ABSENT, list_column, list_weight_column, number_features

EMBEDDING_DEVIATION = 0.05
"""Standard deviation of a new table's entries."""

Batch = Mapping[str, tf.Tensor]
"""Column to tensor, [b] or [b, n]."""


class Rows(NamedTuple):
    """Some rows of a table, each of them once, or a gradient by them."""

    indices_u: tf.Tensor
    """int64 [u]: which rows."""
    values_ud: tf.Tensor
    """[u, d]."""


class LookUp(NamedTuple):
    """What a batch needs of one table."""

    rows: Rows
    places: dict[str, tf.Tensor]
    """Column to int32 [b, n], n = 1 for a scalar: where in `rows` an id's row is, -1 where there is no id."""


def bucket(ids: tf.Tensor, rows: int) -> tf.Tensor:
    """The row of a table of `rows` that each id is hashed to: int64 to int64, any shape; -1 for ids below 0.

    A 64-bit mixer (MurmurHash3's finaliser, its first half): equal on every machine, and quick, where hashing
    the ids as strings would take longer than the towers.
    """
    bits = tf.bitcast(ids, tf.uint64)
    bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(33, tf.uint64)))
    bits *= tf.constant(0xFF51AFD7ED558CCD, tf.uint64)
    bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(33, tf.uint64)))
    rows_hashed_to = tf.cast(tf.math.floormod(bits, tf.constant(rows, tf.uint64)), tf.int64)
    return tf.where(ids < 0, tf.constant(ABSENT, tf.int64), rows_hashed_to)


def pool(values_ud: tf.Tensor, places_bn: tf.Tensor, weights_bn: tf.Tensor) -> tf.Tensor:
    """Each sample's weighted sum of rows, [b, d]: Σₙ weight · row; absent ids and weights of 0 add nothing.

    One product with a sparse [b, u] matrix: the rows are never copied out to [b, n, d], nor is their gradient.
    """
    entries = tf.where((places_bn >= 0) & (weights_bn != 0))
    columns = tf.cast(tf.gather_nd(places_bn, entries), tf.int64)
    matrix_bu = tf.SparseTensor(
        indices=tf.stack([entries[:, 0], columns], axis=1),
        values=tf.gather_nd(weights_bn, entries),
        dense_shape=tf.stack([tf.shape(places_bn, tf.int64)[0], tf.shape(values_ud, tf.int64)[0]]),
    )
    return tf.sparse.sparse_dense_matmul(matrix_bu, values_ud)


class EmbeddingTable(tf.Module):
    """One table, and the columns that share it."""

    def __init__(self, name: str, embedding: Embedding, columns: Sequence[str], seed: int, dtype: tf.DType):
        super().__init__(name=f"table_{name}")
        self.columns = tuple(columns)
        self.size, self.dim = embedding.rows, embedding.dim
        self.weights = new_variable(f"table/{name}", (self.size, self.dim), EMBEDDING_DEVIATION, seed, dtype)

    def look_up(self, batch: Batch) -> LookUp:
        """Gather the rows that a batch's ids need, each once, whatever the columns they come from."""
        ids = [_as_list(batch[column]) for column in self.columns]
        ids_m = tf.concat([tf.reshape(ids_bn, [-1]) for ids_bn in ids], axis=0)
        # With an absent id in front, absence is number 0 of the unique ids, and the rows begin at 1.
        absent_first = tf.concat([[tf.constant(ABSENT, tf.int64)], bucket(ids_m, self.size)], axis=0)
        unique, numbers = tf.unique(absent_first)
        indices_u, places_m = unique[1:], numbers[1:] - 1
        places = tf.split(places_m, [tf.size(ids_bn) for ids_bn in ids])
        shaped = [tf.reshape(part, tf.shape(ids_bn)) for part, ids_bn in zip(places, ids, strict=True)]
        rows = Rows(indices_u, tf.gather(self.weights, indices_u))
        return LookUp(rows, dict(zip(self.columns, shaped, strict=True)))


class Inputs(tf.Module):
    """A batch's features as one vector a sample: what every tower of a model sees.

    The embedded id features, the pooled lists, one vector an entity, and the numbers, in the config's order.
    """

    def __init__(self, config: Config, dtype: tf.DType) -> None:
        super().__init__(name="inputs")
        self.dtype = dtype
        self._numbers = number_features(config)
        ids = {name: feature for name, feature in config.features.items() if isinstance(feature, IdFeature)}
        self._table_of = {name: feature.embedding for name, feature in ids.items()}
        self._weights_of: dict[str, str] = {}
        for name, behaviour in config.lists.items():
            for entity in behaviour.entities:
                column = list_column(name, behaviour, entity).name
                self._table_of[column] = ids[entity].embedding
                self._weights_of[column] = list_weight_column(name, behaviour).name
        self.tables = {
            name: EmbeddingTable(name, embedding, columns, config.seed, dtype)
            for name, embedding in config.embeddings.items()
            if (columns := [column for column, table in self._table_of.items() if table == name])
        }
        self.width = sum(self.tables[table].dim for table in self._table_of.values()) + len(self._numbers)

    def look_up(self, batch: Batch) -> dict[str, LookUp]:
        """What the batch needs of each table."""
        return {name: table.look_up(batch) for name, table in self.tables.items()}

    def __call__(self, batch: Batch, look_ups: Mapping[str, LookUp]) -> tf.Tensor:
        """[b, width]."""
        parts = []
        for column, table in self._table_of.items():
            look_up = look_ups[table]
            places_bn = look_up.places[column]
            if column in self._weights_of:
                weights_bn = tf.cast(batch[self._weights_of[column]], self.dtype)
            else:
                weights_bn = tf.ones(tf.shape(places_bn), self.dtype)
            parts.append(pool(look_up.rows.values_ud, places_bn, weights_bn))
        for name, feature in self._numbers.items():
            parts.append(number(batch[name], feature, self.dtype)[:, tf.newaxis])
        return tf.concat(parts, axis=1)


def number(values_b: tf.Tensor, feature: NumberFeature, dtype: tf.DType) -> tf.Tensor:
    """A numeric feature as its config has it: x / scale, or sign(x) · log(1 + |x|) / scale."""
    values_b = tf.cast(values_b, dtype)
    if feature.transform == "log1p":
        values_b = tf.sign(values_b) * tf.math.log1p(tf.abs(values_b))
    return values_b / feature.scale


class Tower(tf.Module):
    """Hidden layers with ReLU, normalised before it if the config says so, and dropout after it; one logit."""

    def __init__(self, name: str, inputs: int, settings: Model, seed: int, dtype: tf.DType) -> None:
        super().__init__(name=name)
        self.dropout, widths = settings.dropout, settings.towers
        self.kernels, self.biases = [], []
        self.gains: list[tf.Variable] = []
        for layer, (fan_in, fan_out) in enumerate(zip((inputs, *widths), (*widths, 1), strict=True)):
            # He et al. (arXiv 1502.01852) for what a ReLU follows, Glorot and Bengio for the logit.
            deviation = math.sqrt(2 / (fan_in if layer < len(widths) else fan_in + fan_out))
            self.kernels.append(
                new_variable(f"{name}/kernel_{layer}", (fan_in, fan_out), deviation, seed, dtype)
            )
            self.biases.append(tf.Variable(tf.zeros(fan_out, dtype), name=f"{name}/bias_{layer}"))
            if settings.layer_norm and layer < len(widths):
                self.gains.append(tf.Variable(tf.ones(fan_out, dtype), name=f"{name}/gain_{layer}"))

    def __call__(self, x_bi: tf.Tensor, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Logits [b]. `dropout_seed`, int64 [2], is given in training alone: without it nothing is dropped."""
        *hidden, last = zip(self.kernels, self.biases, strict=True)
        for layer, (kernel, bias) in enumerate(hidden):
            x_bi = x_bi @ kernel
            if self.gains:
                x_bi = normalised(x_bi) * self.gains[layer]
            x_bi = tf.nn.relu(x_bi + bias)
            if dropout_seed is not None and self.dropout:
                seed = tf.random.experimental.stateless_fold_in(
                    dropout_seed, _number_of(f"{self.name}/{layer}")
                )
                x_bi = tf.nn.experimental.stateless_dropout(x_bi, self.dropout, seed)
        kernel, bias = last
        return tf.squeeze(x_bi @ kernel + bias, axis=1)


def normalised(x_bi: tf.Tensor) -> tf.Tensor:
    """Each row less its mean and over its deviation (Ba et al. 2016, arXiv 1607.06450): (x - μ) / √(σ² + 1e-5).

    A sample's own row alone counts, so that it is the same in whichever batch, and on whichever rank.
    """
    mean_b1, variance_b1 = tf.nn.moments(x_bi, axes=[1], keepdims=True)
    return (x_bi - mean_b1) * tf.math.rsqrt(variance_b1 + 1e-5)


def new_variable(
    name: str, shape: tuple[int, ...], deviation: float, seed: int, dtype: tf.DType
) -> tf.Variable:
    """A variable of normal entries drawn by the seed and its own name: equal on every rank and in every run."""
    drawn = tf.random.stateless_normal(shape, [seed, _number_of(name)], stddev=deviation, dtype=dtype)
    return tf.Variable(drawn, name=name)


def _number_of(name: str) -> int:
    return zlib.crc32(name.encode())


def _as_list(ids: tf.Tensor) -> tf.Tensor:
    return ids[:, tf.newaxis] if ids.shape.rank == 1 else ids
