"""ESMM-NS: ESMM with nothing shared (Ma et al. 2018, arXiv 1804.07931, section 3)."""

from esmm.models.esmm import Esmm


class EsmmNs(Esmm):
    """ESMM's product and losses; each tower has tables of its own.

    The paper's measure of what sharing is worth: pCVR is still trained on all exposures, but its tables learn
    from purchases alone, not from the clicks that are so many more.
    """

    towers = (("ctr",), ("cvr",))
