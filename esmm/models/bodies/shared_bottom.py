"""Shared-bottom (Caruana 1997): hidden layers that all tasks learn together, and a tower a task on top of them."""

from collections.abc import Sequence

import tensorflow as tf

from esmm.config import Config
from esmm.layers.towers import Hidden
from esmm.models.bodies.towers import Towers


class SharedBottom(tf.Module):
    """h = bottom(x), and the logit of a task t is towerₜ(h)."""

    def __init__(self, inputs: int, towers: Sequence[str], config: Config, dtype: tf.DType) -> None:
        super().__init__(name="shared_bottom")
        settings = config.model
        self._bottom = Hidden(
            "bottom", inputs, settings.bottom, config.seed, dtype,
            dropout=settings.dropout, layer_norm=settings.layer_norm, precision=settings.precision,
        )  # fmt: skip
        self._towers = Towers(self._bottom.width, towers, config, dtype)

    def __call__(self, x_bi: tf.Tensor, training_seed: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """The towers' logits, [b] each."""
        return self._towers(self._bottom(x_bi, training_seed), training_seed)
