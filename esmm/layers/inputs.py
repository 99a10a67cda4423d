"""A batch's columns to what the towers see: one vector a sample."""

from collections.abc import Mapping

import tensorflow as tf

from esmm.config import Config, IdFeature, NumberFeature
from esmm.layers.pooling import pool
from esmm.layers.tables import Batch, EmbeddingTable, LookUp
from esmm.schema import list_column, list_weight_column, number_features


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
