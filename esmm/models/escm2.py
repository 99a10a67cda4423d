"""ESCM², the Entire Space Counterfactual Multi-Task Model (Wang et al. 2022, arXiv 2204.05125)."""

import tensorflow as tf

from esmm.layers.tables import Batch
from esmm.losses import error, propensity
from esmm.models.bodies import Logits
from esmm.models.esmm import Esmm


class Escm2Ips(Esmm):
    """ESMM and a third loss, which fits pCVR to clicked rows weighed by how unlikely their clicks were.

    With o a click, r a purchase, ô = pCTR, r̂ = pCVR and δ = l(r, r̂) their cross-entropy, the inverse propensity
    score risk

        Σ o δ / ô

    has the expectation of Σ δ over all rows, as if all of them had been clicked, where ô is right. Here as below ô
    has no gradient and is at least `propensity_floor`.
    """

    def losses(self, batch: Batch, logits: Logits) -> dict[str, tf.Tensor]:
        """ESMM's `ctr` and `ctcvr`, and the risk, `cvr`."""
        seen = self.seen(batch, logits)
        clicked = seen.click / propensity(logits["ctr"], self.settings.propensity_floor)
        cvr = seen.entropy(seen.purchase, logits["cvr"], times=clicked)
        return {**super().losses(batch, logits), "cvr": cvr}


class Escm2Dr(Esmm):
    """ESMM and two more losses: the doubly robust risk, and that of the tower which imputes what it lacks.

    With δ̂ an imputation of δ, which is unknown where nothing was clicked, the risk and the imputation's loss are

        Σ δ̂ + o (δ - δ̂) / ô        and        Σ o (δ - δ̂)² / ô,

    and the risk is that of all rows where ô is right or δ̂ is. The third tower gives r*, the purchase that it expects
    of a click, and δ̂ = l(r*, r̂), as in doubly robust joint learning (Wang et al. 2019): a δ̂ that did not depend on r̂
    would have no part in its gradient, which would be that of IPS. Cross-entropy is linear in the label, so the risk
    is that of one label, and δ - δ̂ has no logarithms left: with c the logit of r̂,

        δ̂ + o (δ - δ̂) / ô = l(r* + o (r - r*) / ô, r̂)        and        δ - δ̂ = (r* - r) c.

    Each loss has its own tower: the risk leaves r* alone, the imputation's loss r̂, which it would else draw to ½,
    where all errors are equal.
    """

    towers = (("ctr", "cvr", "imputation"),)

    def losses(self, batch: Batch, logits: Logits) -> dict[str, tf.Tensor]:
        """ESMM's `ctr` and `ctcvr`, the risk, `cvr`, and the imputation's loss, `imputation`."""
        seen, c = self.seen(batch, logits), logits["cvr"]
        clicked = seen.click / propensity(logits["ctr"], self.settings.propensity_floor)
        missed = error(seen.smoothed(seen.purchase), logits["imputation"])  # r - r*
        label = tf.stop_gradient(tf.sigmoid(logits["imputation"]) + clicked * missed)
        return {
            **super().losses(batch, logits),
            "cvr": seen.sum(tf.nn.sigmoid_cross_entropy_with_logits(label, c)),
            "imputation": seen.sum(clicked * (missed * tf.stop_gradient(c)) ** 2),
        }
