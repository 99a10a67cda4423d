"""ESMM, the Entire Space Multi-Task Model (Ma et al. 2018, arXiv 1804.07931).

    model = Esmm(config)
    logits = model(batch, model.inputs.look_up(batch))
    model.predictions(logits)["pctcvr"]      # [b]

What the model looks up is an argument, since a training step takes gradients by it.
"""

from typing import NamedTuple

import tensorflow as tf

from esmm import losses
from esmm.config import Config
from esmm.layers.inputs import Inputs
from esmm.layers.tables import Batch, LookUp
from esmm.layers.towers import Tower


class Logits(NamedTuple):
    """What the two towers say of a batch, [b] each."""

    ctr: tf.Tensor
    """a: P(click | shown) = σ(a)."""
    cvr: tf.Tensor
    """c: P(purchase | clicked, shown) = σ(c)."""


class Esmm(tf.Module):
    """Two towers over one input, and so over shared tables; pCVR is learnt through what it multiplies to.

    With x a sample's features, y whether it was clicked and z whether it was then bought, the paper's
    equation 1 splits what can be observed on every exposure into a product,

        P(y = 1, z = 1 | x)  =  P(y = 1 | x)  ·  P(z = 1 | y = 1, x)
              pCTCVR         =     pCTR       ·        pCVR

    and equation 3 fits both pCTR and pCTCVR to all exposures,

        L(θ) = Σ l(y, pCTR(x; θ)) + Σ l(y & z, pCTR(x; θ) · pCVR(x; θ)),    l the cross-entropy,

    so that pCVR is trained on clicked and unclicked exposures alike: on the space it is used in, where a
    model of purchases fitted to clicked rows would be biased by which rows get clicked.
    """

    def __init__(self, config: Config, dtype: tf.DType = tf.float32) -> None:
        super().__init__(name="esmm")
        self.inputs = Inputs(config, dtype)
        self.settings = config.model
        self.ctr = Tower("ctr", self.inputs.width, config.model, config.seed, dtype)
        self.cvr = Tower("cvr", self.inputs.width, config.model, config.seed, dtype)

    @property
    def dense_variables(self) -> tuple[tf.Variable, ...]:
        """Both towers' kernels, biases and gains."""
        return (*self.ctr.trainable_variables, *self.cvr.trainable_variables)

    def __call__(
        self, batch: Batch, look_ups: dict[str, LookUp], dropout_seed: tf.Tensor | None = None
    ) -> Logits:
        """The logits of a batch, given what it needs of the tables."""
        x_bi = self.inputs(batch, look_ups)
        return Logits(self.ctr(x_bi, dropout_seed), self.cvr(x_bi, dropout_seed))

    def losses(self, batch: Batch, logits: Logits) -> dict[str, tf.Tensor]:
        """The sums of equation 3, `ctr` and `ctcvr`, by weight over the batch."""
        return losses.esmm(
            logits.ctr, logits.cvr, batch["click"], batch["purchase"], batch["weight"],
            stop_gradient=self.settings.stop_gradient,
        )  # fmt: skip

    def predictions(self, logits: Logits) -> dict[str, tf.Tensor]:
        """The probabilities of equation 1: pctr, pcvr and their product pctcvr, [b] each."""
        pctr, pcvr = tf.sigmoid(logits.ctr), tf.sigmoid(logits.cvr)
        return {"pctr": pctr, "pcvr": pcvr, "pctcvr": pctr * pcvr}
