"""ESMM, the Entire Space Multi-Task Model (Ma et al. 2018, arXiv 1804.07931)."""

from typing import ClassVar

import tensorflow as tf

from esmm.layers.tables import Batch
from esmm.models.bodies import Logits
from esmm.models.model import Groups, Model


class Esmm(Model):
    """Two towers over shared tables; pCVR is learnt through what it multiplies to.

    With x a sample's features, y whether it was clicked and z whether it was then bought, the paper's
    equation 1 splits what can be observed on every exposure into a product,

        P(y = 1, z = 1 | x)  =  P(y = 1 | x)  ·  P(z = 1 | y = 1, x)
              pCTCVR         =     pCTR       ·        pCVR

    and equation 3 fits both pCTR and pCTCVR to all exposures,

        L(θ) = Σ l(y, pCTR(x; θ)) + Σ l(y & z, pCTR(x; θ) · pCVR(x; θ)),    l the cross-entropy,

    so that pCVR is trained on clicked and unclicked exposures alike: on the space it is used in, where a
    model of purchases fitted to clicked rows would be biased by which rows get clicked.
    """

    towers: ClassVar[Groups] = (("ctr", "cvr"),)

    def losses(self, batch: Batch, logits: Logits) -> dict[str, tf.Tensor]:
        """Equation 3's two sums, `ctr` and `ctcvr`."""
        seen = self.seen(batch, logits)
        return {
            "ctr": seen.entropy(seen.click, logits["ctr"]),
            "ctcvr": seen.entropy(seen.purchase, self.ctcvr_logit(logits)),
        }
