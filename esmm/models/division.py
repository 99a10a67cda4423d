"""DIVISION: pCVR as a ratio of two models (Ma et al. 2018, arXiv 1804.07931, section 3)."""

from typing import ClassVar

import tensorflow as tf

from esmm.layers.tables import Batch
from esmm.models.bodies import Logits
from esmm.models.model import Groups, Model


class Division(Model):
    """Two models apart, both of all exposures: of clicks, and of clicks that led to a purchase.

    With y a click and z a purchase after it,

        L(θ) = Σ l(y, pCTR(x; θ₁)) + Σ l(y & z, pCTCVR(x; θ₂)),    l the cross-entropy,

    and pCVR = pCTCVR / pCTR, by equation 1 of the paper turned round. Nothing keeps the ratio of two estimates below
    1, and where pCTR is small their errors make it large. Here it is cut at 1, and pCTCVR with it at pCTR, so that
    pCTCVR = pCTR · pCVR holds as for all variants.
    """

    towers: ClassVar[Groups] = (("ctr",), ("ctcvr",))

    def losses(self, batch: Batch, logits: Logits) -> dict[str, tf.Tensor]:
        """`ctr` and `ctcvr`, both over all rows."""
        seen = self.seen(batch, logits)
        return {
            "ctr": seen.entropy(seen.click, logits["ctr"]),
            "ctcvr": seen.entropy(seen.purchase, logits["ctcvr"]),
        }

    def predictions(self, logits: Logits) -> dict[str, tf.Tensor]:
        """`pctr`, `pcvr` = min(1, σ(ctcvr) / σ(ctr)) and their product `pctcvr`."""
        log_ratio = tf.math.log_sigmoid(logits["ctcvr"]) - tf.math.log_sigmoid(logits["ctr"])
        pctr, pcvr = tf.sigmoid(logits["ctr"]), tf.exp(tf.minimum(log_ratio, 0))
        return {"pctr": pctr, "pcvr": pcvr, "pctcvr": pctr * pcvr}
