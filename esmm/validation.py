"""Metrics of the model as it is on samples that it does not learn from, each rank measuring its share of them.

validate = Validation(config, plan, model, exchange, load)
validate()["ctcvr"]["auc"]       # the same on every rank: histograms are summed, AUCs never averaged
"""

from typing import TYPE_CHECKING

import tensorflow as tf

from esmm.config import Config
from esmm.dataset import Load
from esmm.epochs import Epoch
from esmm.errors import DataError
from esmm.feeding import read
from esmm.layers.tables import Batch
from esmm.metrics import Metrics, Result
from esmm.models import Model
from esmm.plan import ReadingPlan

if TYPE_CHECKING:
    from esmm.distributed.exchange import Exchange

LABELS = ("click", "purchase", "weight")


class Validation:
    """Reads a plan's samples, in their own order, every time it is called."""

    def __init__(
        self, config: Config, plan: ReadingPlan, model: Model, exchange: "Exchange", load: Load
    ) -> None:
        self._exchange = exchange
        epoch = Epoch(plan, ranks=exchange.size, batch_size=config.training.batch_size)
        self._batches = read(epoch, config, rank=exchange.rank, load=load)

        @tf.function(autograph=False)
        def predict(batch: Batch) -> dict[str, tf.Tensor]:
            return model.predictions(model(batch, model.look_up(batch)))

        self._predict = predict

    def __call__(self) -> dict[str, Result]:
        """By task, the metrics of all ranks' samples; raises DataError, on every rank, where one cannot read."""
        measured, failed = Metrics(), None
        try:
            for batch in self._batches:
                measured.update(**{name: batch[name] for name in LABELS}, **self._predict(batch))
        except DataError as error:
            failed = error
        # Ranks meet only here, so that one that cannot read keeps none of the others waiting.
        for each in filter(None, self._exchange.gather_objects(failed)):
            raise each
        return summed(measured, self._exchange).result()


def summed(measured: Metrics, exchange: "Exchange") -> Metrics:
    """What all ranks have measured together."""
    [vector] = exchange.sum([tf.constant(measured.vector)])
    return Metrics(vector.numpy())
