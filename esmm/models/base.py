"""BASE: what a CVR model is without ESMM (Ma et al. 2018, arXiv 1804.07931, section 3)."""

from typing import ClassVar

import tensorflow as tf

from esmm.layers.tables import Batch
from esmm.models.bodies import Logits
from esmm.models.model import Groups, Model


class Base(Model):
    """Two models apart: of clicks, on all exposures, and of purchases, on clicked exposures alone.

    With y a click and z a purchase after it,

        L(θ) = Σ l(y, pCTR(x; θ₁)) + Σ y · l(z, pCVR(x; θ₂)),    l the cross-entropy.

    pCVR is used on all exposures, but fitted to those that were clicked, which are others: the paper's sample
    selection bias. As there, the two share nothing, and pCTCVR is their product.
    """

    towers: ClassVar[Groups] = (("ctr",), ("cvr",))

    def losses(self, batch: Batch, logits: Logits) -> dict[str, tf.Tensor]:
        """`ctr` over all rows and `cvr` over the clicked ones."""
        seen = self.seen(batch, logits)
        return {
            "ctr": seen.entropy(seen.click, logits["ctr"]),
            "cvr": seen.entropy(seen.purchase, logits["cvr"], times=seen.click),
        }
