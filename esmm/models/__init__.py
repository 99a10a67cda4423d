"""Models: one file a variant, all of them over the same inputs and trained by the same loop.

    model = make(config)                           # the variant that config.model.variant names
    logits = model(batch, model.inputs.look_up(batch))

Another variant is another file here, and a line in `make`.
"""

from collections.abc import Sequence
from typing import Protocol

import tensorflow as tf

from esmm.config import Config
from esmm.layers.inputs import Inputs
from esmm.layers.tables import Batch, LookUp
from esmm.models.esmm import Esmm, Logits


class Model(Protocol):
    """What training and export ask of a variant."""

    inputs: Inputs
    """The features and the tables."""

    @property
    def variables(self) -> Sequence[tf.Variable]:
        """All of its variables, in the same order on every rank."""

    @property
    def dense_variables(self) -> Sequence[tf.Variable]:
        """All of them but the tables."""

    def __call__(
        self, batch: Batch, look_ups: dict[str, LookUp], dropout_seed: tf.Tensor | None = None
    ) -> Logits:
        """The towers' logits; with a seed, as in training."""

    def losses(self, batch: Batch, logits: Logits) -> dict[str, tf.Tensor]:
        """Each task's loss, summed by weight over the batch."""

    def predictions(self, logits: Logits) -> dict[str, tf.Tensor]:
        """`pctr`, `pcvr` and `pctcvr`, [b] each."""


def make(config: Config, dtype: tf.DType = tf.float32) -> Model:
    """A new model of the config's variant, its variables drawn by the config's seed.

    Everything is computed in `dtype`; tests of exactness take float64.
    """
    variants = {"esmm": Esmm}
    return variants[config.model.variant](config, dtype)
