"""Towers alone: over the features themselves, each for itself, as in ESMM's figure 2."""

from collections.abc import Sequence

import tensorflow as tf

from esmm.config import Config
from esmm.layers.towers import Tower


class Towers(tf.Module):
    """A tower a task, with nothing between it and the features."""

    def __init__(self, inputs: int, towers: Sequence[str], config: Config, dtype: tf.DType) -> None:
        super().__init__(name="towers")
        settings = config.model
        self._towers = {
            name: Tower(
                name, inputs, settings.towers, config.seed, dtype,
                dropout=settings.dropout, layer_norm=settings.layer_norm, precision=settings.precision,
            )
            for name in towers
        }  # fmt: skip

    def __call__(self, x_bi: tf.Tensor, training_seed: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """The towers' logits, [b] each."""
        return {name: tower(x_bi, training_seed) for name, tower in self._towers.items()}
