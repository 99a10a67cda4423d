"""A batch's columns to what the towers see: one vector a sample."""

from collections.abc import Mapping

import tensorflow as tf

from esmm.config import Config, IdFeature, NumberFeature
from esmm.layers.lists import List
from esmm.layers.pooling import pool
from esmm.layers.tables import Batch, EmbeddingTable, LookUp
from esmm.schema import list_column, number_features


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
        self._table_of_entry = {
            list_column(name, behaviour, entity).name: ids[entity].embedding
            for name, behaviour in config.lists.items()
            for entity in behaviour.entities
        }
        table_of = self._table_of | self._table_of_entry
        self.tables = {
            name: EmbeddingTable(name, embedding, columns, config.seed, dtype)
            for name, embedding in config.embeddings.items()
            if (columns := [column for column, table in table_of.items() if table == name])
        }
        by_entity = {name: self.tables[table] for name, table in self._table_of.items()}
        self._lists = [
            List(name, behaviour, by_entity, config.seed, dtype) for name, behaviour in config.lists.items()
        ]
        self.width = sum(self.tables[table].dim for table in table_of.values()) + len(self._numbers)

    @property
    def dense_variables(self) -> tuple[tf.Variable, ...]:
        """All variables but the tables: those of attention."""
        return tuple(variable for each in self._lists for variable in each.trainable_variables)

    def look_up(self, batch: Batch) -> dict[str, LookUp]:
        """What the batch needs of each table."""
        return {name: table.look_up(batch) for name, table in self.tables.items()}

    def __call__(self, batch: Batch, look_ups: Mapping[str, LookUp]) -> tf.Tensor:
        """[b, width]."""
        by_feature = {name: look_ups[table] for name, table in self._table_of.items()}
        embedded = {name: self._embedded(name, look_up) for name, look_up in by_feature.items()}
        parts = [*embedded.values()]
        for each in self._lists:
            parts += each(batch, by_feature, embedded)
        for name, feature in self._numbers.items():
            parts.append(number(batch[name], feature, self.dtype)[:, tf.newaxis])
        return tf.concat(parts, axis=1)

    def _embedded(self, feature: str, look_up: LookUp) -> tf.Tensor:
        """The row of a feature's id, [b, d]; zeros where there is none."""
        places_b1 = look_up.places[feature]
        return pool(look_up.rows.values_ud, places_b1, tf.ones(tf.shape(places_b1), self.dtype))


def number(values_b: tf.Tensor, feature: NumberFeature, dtype: tf.DType) -> tf.Tensor:
    """A numeric feature as its config has it: x / scale, or sign(x) · log(1 + |x|) / scale."""
    values_b = tf.cast(values_b, dtype)
    if feature.transform == "log1p":
        values_b = tf.sign(values_b) * tf.math.log1p(tf.abs(values_b))
    return values_b / feature.scale
