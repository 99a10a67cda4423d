"""A batch's columns to what the towers see: one vector a sample."""

from collections.abc import Mapping

import tensorflow as tf

from esmm.config import BucketFeature, Config, CrossFeature, NumberFeature
from esmm.fitted import NOTHING, Fitted, Moments
from esmm.layers.buckets import bucketised
from esmm.layers.grouping import Grouped, by_row
from esmm.layers.hashing import cross
from esmm.layers.lists import List
from esmm.layers.pooling import pool
from esmm.layers.rules import Hashed, Numbered, Rule, Vocabulary
from esmm.layers.tables import Batch, EmbeddingTable, Hold, LookUp, Whole
from esmm.schema import USER_OF_ROW, bag_columns, number_features, tables_of, user_columns, user_features


class Inputs(tf.Module):
    """A batch's features as one vector a sample: what every tower of a model sees.

    The embedded features, the pooled lists, one vector an entity, the pooled bags, and the numbers, each in the
    config's order.
    """

    def __init__(self, config: Config, dtype: tf.DType, fitted: Fitted = NOTHING, hold: Hold = Whole) -> None:
        super().__init__(name="inputs")
        self.dtype, self._features, self._fitted = dtype, config.features, fitted
        self._numbers = number_features(config)
        table_of = tables_of(config)
        self._table_of = {name: table for name, table in table_of.items() if name in config.features}
        self.tables = {
            name: EmbeddingTable(
                name, embedding, columns, config.seed, dtype, _rule(config, name, fitted), hold
            )
            for name, embedding in config.embeddings.items()
            if (columns := [column for column, table in table_of.items() if table == name])
        }
        by_entity = {name: self.tables[table] for name, table in self._table_of.items()}
        self._lists = [
            List(name, behaviour, by_entity, config.seed, dtype) for name, behaviour in config.lists.items()
        ]
        self._bags = config.bags
        met = {column for each in self._lists if each.meets_candidate for column in each.columns.values()}
        self._of_user = {*user_features(config), *(column.name for column in user_columns(config))} - met
        self.width = sum(self.tables[table].dim for table in table_of.values()) + len(self._numbers)

    @property
    def dense_variables(self) -> tuple[tf.Variable, ...]:
        """All variables but the tables: those of attention."""
        return tuple(variable for each in self._lists for variable in each.trainable_variables)

    def look_up(self, batch: Batch) -> dict[str, LookUp]:
        """What the batch needs of each table."""
        batch = {**batch, **self._made(batch)}
        return {name: table.look_up(batch) for name, table in self.tables.items()}

    def __call__(self, batch: Batch, look_ups: Mapping[str, LookUp]) -> "tf.Tensor | Grouped":
        """[b, width]; `esmm.layers.grouping` says how a batch may be grouped by user."""
        by_feature = {name: look_ups[table] for name, table in self._table_of.items()}
        embedded = {name: self._embedded(name, look_up) for name, look_up in by_feature.items()}
        parts = dict(embedded)
        for each in self._lists:
            pooled = each(batch, by_feature, embedded)
            parts |= zip(each.columns.values(), pooled, strict=True)
        for name, bag in self._bags.items():
            ids, weights = bag_columns(name, bag)
            look_up = look_ups[bag.embedding]
            weights_bn = tf.cast(batch[weights.name], self.dtype)
            parts[name] = pool(look_up.rows.values_ud, look_up.places[ids.name], weights_bn)
        for name, feature in self._numbers.items():
            moments = self._fitted.moments.get(name)
            parts[name] = number(batch[name], feature, self.dtype, moments)[:, tf.newaxis]
        if USER_OF_ROW in batch:
            return Grouped(parts, self._of_user, batch[USER_OF_ROW])
        return tf.concat([*parts.values()], axis=1)

    def _embedded(self, feature: str, look_up: LookUp) -> tf.Tensor:
        """The row of a feature's id, [b, d]; zeros where there is none."""
        places_b1 = look_up.places[feature]
        return pool(look_up.rows.values_ud, places_b1, tf.ones(tf.shape(places_b1), self.dtype))

    def _by_row(self, column: str, batch: Batch) -> tf.Tensor:
        """A column by row, whether it is the user's or not."""
        return by_row(batch[column], batch) if column in self._of_user else batch[column]

    def _made(self, batch: Batch) -> dict[str, tf.Tensor]:
        """The ids that are no columns: of crosses, and of buckets in place of what is cut into them."""
        made = {}
        for name, feature in self._features.items():
            if isinstance(feature, CrossFeature):
                alone = name in self._of_user
                made[name] = cross(
                    [batch[part] if alone else self._by_row(part, batch) for part in feature.of]
                )
            elif isinstance(feature, BucketFeature):
                made[name] = bucketised(batch[name], feature.boundaries or self._fitted.boundaries[name])
        return made


def number(
    values_b: tf.Tensor, feature: NumberFeature, dtype: tf.DType, moments: Moments | None = None
) -> tf.Tensor:
    """A numeric feature as its config has it: transformed, standardised, and divided by its scale."""
    values_b = transformed(tf.cast(values_b, dtype), feature)
    if feature.standardise:
        assert moments is not None
        values_b = (values_b - moments.mean) / moments.deviation
    return values_b / feature.scale


def transformed(values_b: tf.Tensor, feature: NumberFeature) -> tf.Tensor:
    """x, or sign(x) · log(1 + |x|)."""
    if feature.transform == "log1p":
        return tf.sign(values_b) * tf.math.log1p(tf.abs(values_b))
    return values_b


def _rule(config: Config, table: str, fitted: Fitted) -> Rule:
    """How a table's ids find their rows."""
    embedding = config.embeddings[table]
    if embedding.vocabulary is not None:
        return Vocabulary(fitted.vocabularies[table])
    of_buckets = [each.embedding for each in config.features.values() if isinstance(each, BucketFeature)]
    return Numbered(embedding.rows) if table in of_buckets else Hashed(embedding.rows)
