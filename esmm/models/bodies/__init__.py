"""Bodies: what lies between a sample's features and its logits, one file each.

    body = make(inputs=120, towers=["ctr", "cvr"], config=config, dtype=tf.float32)
    body(x_bi)["cvr"]       # [b]

Another body is another file here, its line in BODIES, and its name in `esmm.config.model`; CONTRIBUTING.md shows one.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import tensorflow as tf

from esmm.config import Config
from esmm.models.bodies.shared_bottom import SharedBottom
from esmm.models.bodies.towers import Towers

Logits = dict[str, tf.Tensor]
"""By tower, [b] each."""


class Body(Protocol):
    """What a model asks of one."""

    @property
    def trainable_variables(self) -> Sequence[tf.Variable]:
        """All of its variables, in the same order on every rank; a tf.Module has this."""

    def __call__(self, x_bi: tf.Tensor, training_seed: tf.Tensor | None = None) -> Logits:
        """The towers' logits; with a seed, int64 [2], as in training: dropped out by it, in the config's precision."""


BODIES: dict[str, Callable[..., Body]] = {"towers": Towers, "shared_bottom": SharedBottom}


def make(inputs: int, towers: Sequence[str], config: Config, dtype: tf.DType) -> Body:
    """A new body of the kind that the config names, for vectors of so many inputs."""
    return BODIES[config.model.body](inputs, towers, config, dtype)
