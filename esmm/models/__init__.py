"""Models: one file a variant, all of them over the same features and trained by the same loop.

    model = make(config)                           # the variant that config.model.variant names
    logits = model(batch, model.look_up(batch))

Another variant is another file here, its line in VARIANTS, and its name and tasks in `esmm.config.model`.
"""

import tensorflow as tf

from esmm.config import Config
from esmm.fitted import NOTHING, Fitted
from esmm.layers.tables import Hold, Whole
from esmm.models.base import Base
from esmm.models.bodies import Logits
from esmm.models.dcmt import Dcmt
from esmm.models.division import Division
from esmm.models.escm2 import Escm2Dr, Escm2Ips
from esmm.models.esmm import Esmm
from esmm.models.esmm_ns import EsmmNs
from esmm.models.model import Model

__all__ = ["VARIANTS", "Logits", "Model", "make"]

VARIANTS: dict[str, type[Model]] = {
    "base": Base,
    "esmm_ns": EsmmNs,
    "esmm": Esmm,
    "escm2_ips": Escm2Ips,
    "escm2_dr": Escm2Dr,
    "dcmt": Dcmt,
    "division": Division,
}


def make(config: Config, dtype: tf.DType = tf.float32, fitted: Fitted = NOTHING, hold: Hold = Whole) -> Model:
    """A new model of the config's variant, its variables drawn by the config's seed.

    Everything is computed in `dtype`; tests of exactness take float64. `fitted` is what `esmm.fitting` has learnt for
    the config, if there is something to learn, and `hold` says where tables are: by default, in this process.
    """
    return VARIANTS[config.model.variant](config, dtype, fitted, hold)
