"""A behaviour list's columns to one vector an entity.

With entities `item` and `category` and a boost of 2 for the category, beside a candidate of category 3:

    clicked_category   [3, 5, 3, -1]
    clicked_weight     [0.9, 0.8, 0.5, 0.0]      # weighs [1.8, 0.8, 1.0, 0.0], whatever entity is pooled
"""

from collections.abc import Mapping

import tensorflow as tf

from esmm.config import BehaviourList
from esmm.layers.grouping import by_row
from esmm.layers.pooling import Attention, as_shares, pool
from esmm.layers.tables import Batch, EmbeddingTable, LookUp
from esmm.schema import list_column, list_weight_column


class List(tf.Module):
    """One behaviour list, pooled as its config says."""

    def __init__(
        self,
        name: str,
        behaviour: BehaviourList,
        tables: Mapping[str, EmbeddingTable],
        seed: int,
        dtype: tf.DType,
    ) -> None:
        """`tables` has the table of each entity of the list."""
        super().__init__(name=name)
        self._pooling, self._boost, self._dtype = behaviour.pooling, behaviour.boost, dtype
        self.meets_candidate = bool(behaviour.boost) or behaviour.pooling == "attention"
        """Whether what the entries pool to depends on the candidate, too: then it is by row in any batch."""
        self._weight = list_weight_column(name, behaviour).name
        self.columns = {entity: list_column(name, behaviour, entity).name for entity in behaviour.entities}
        self._attention = {
            entity: Attention(f"attention/{column}", tables[entity].dim, seed, dtype)
            for entity, column in self.columns.items()
            if behaviour.pooling == "attention"
        }

    def __call__(
        self, batch: Batch, look_ups: Mapping[str, LookUp], candidates: Mapping[str, tf.Tensor]
    ) -> list[tf.Tensor]:
        """By entity, in the config's order, what its entries pool to, [b, d]; all arguments are by entity too."""
        weights_bn, pooled = self.weights(batch), []
        for entity, column in self.columns.items():
            values_ud, places = look_ups[entity].rows.values_ud, look_ups[entity].places[column]
            places_bn = self._met(places, batch)
            if self._pooling == "attention":
                attention = self._attention[entity]
                pooled.append(attention(values_ud, places_bn, weights_bn, candidates[entity]))
            else:
                is_mean = self._pooling == "mean"
                by_entry_bn = as_shares(places_bn, weights_bn) if is_mean else weights_bn
                pooled.append(pool(values_ud, places_bn, by_entry_bn))
        return pooled

    def weights(self, batch: Batch) -> tf.Tensor:
        """What each entry weighs, [b, n]: its recency, times the boost of each entity that it shares.

        Entities are shared where the ids themselves are equal, not the rows that they are hashed to, and where both
        are there: two absent brands are not the same brand.
        """
        weights_bn = tf.cast(self._met(batch[self._weight], batch), self._dtype)
        for entity, times in self._boost.items():
            candidate_b1, entries_bn = (
                batch[entity][:, tf.newaxis],
                self._met(batch[self.columns[entity]], batch),
            )
            is_shared = (entries_bn == candidate_b1) & (entries_bn >= 0)
            weights_bn *= tf.where(is_shared, tf.constant(times, self._dtype), tf.ones((), self._dtype))
        return weights_bn

    def _met(self, entries: tf.Tensor, batch: Batch) -> tf.Tensor:
        """A column of the list, or its places, by row where each candidate has to meet the entries."""
        return by_row(entries, batch) if self.meets_candidate else entries
