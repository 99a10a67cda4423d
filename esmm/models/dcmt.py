"""DCMT, the Direct Entire-Space Causal Multi-Task Framework (Zhu et al. 2023, arXiv 2302.06141)."""

from typing import ClassVar

import tensorflow as tf

from esmm.layers.tables import Batch
from esmm.losses import gap, propensity
from esmm.models.bodies import Logits
from esmm.models.model import Groups, Model


class Dcmt(Model):
    """ESMM, and a second CVR tower that says of what was not clicked that it would not have been bought.

    With o a click, r a purchase, ô = pCTR, r̂ = pCVR and r̂* what the second, counterfactual tower says, the paper adds
    to the losses of CTR and CTCVR

        Σ o / ô · l(r, r̂)  +  Σ (1 - o) / (1 - ô) · l(1 - r, r̂*)  +  λ Σ |1 - (r̂ + r̂*)|,    l the cross-entropy:

    clicked rows teach r̂ that they were bought or not, the others, where r = 0, teach r̂* alone, so that r̂ does not take
    them for sure negatives; and the prior that a row is bought or not bought, r̂ + r̂* = 1, joins the two softly.
    Propensities have no gradient and are at least `propensity_floor`. Of the paper's two forms this is the one whose
    weights are not divided by their sum over the batch (SNIPS): such a sum would differ from rank to rank.
    """

    towers: ClassVar[Groups] = (("ctr", "cvr", "counterfactual"),)

    def losses(self, batch: Batch, logits: Logits) -> dict[str, tf.Tensor]:
        """`ctr`, `ctcvr`, and the three sums above: `cvr`, `counterfactual` and, without λ, `prior`."""
        seen, floor = self.seen(batch, logits), self.settings.propensity_floor
        a, c, other = logits["ctr"], logits["cvr"], logits["counterfactual"]
        clicked, unclicked = seen.click / propensity(a, floor), (1 - seen.click) / propensity(-a, floor)
        return {
            "ctr": seen.entropy(seen.click, a),
            "ctcvr": seen.entropy(seen.purchase, self.ctcvr_logit(logits)),
            "cvr": seen.entropy(seen.purchase, c, times=clicked),
            "counterfactual": seen.entropy(1 - seen.purchase, other, times=unclicked),
            # 1 - σ(c) is σ(-c).
            "prior": seen.sum(gap(-c, other)),
        }
