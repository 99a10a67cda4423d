"""Metrics of the model as it is on samples that it does not learn from, each rank measuring its share of them.

validate = Validation(config, plan, model, exchange, load)
validate()["ctcvr"]["auc"]                    # the same on every rank: histograms are summed, AUCs never averaged
calibration, facts = validate.calibrate()     # for the model as it is
"""

from collections.abc import Callable
from contextlib import closing
from functools import reduce
from typing import TYPE_CHECKING, Any

import structlog
import tensorflow as tf

from esmm import histograms
from esmm.calibration import Calibration, fit
from esmm.config import Config
from esmm.epochs import Epoch
from esmm.errors import DataError
from esmm.feeding import padding, read
from esmm.histograms import Histograms
from esmm.layers.tables import Batch
from esmm.metrics import Metrics, Result
from esmm.models import Model
from esmm.plan import ReadingPlan
from esmm.reader import Load

if TYPE_CHECKING:
    from esmm.distributed.exchange import Exchange

log = structlog.get_logger()

LABELS = ("click", "purchase", "weight")


class Validation:
    """Reads a plan's samples, in their own order, every time it is called."""

    def __init__(
        self, config: Config, plan: ReadingPlan, model: Model, exchange: "Exchange", load: Load
    ) -> None:
        self._config, self._exchange = config, exchange
        epoch = Epoch(plan, ranks=exchange.size, batch_size=config.training.batch_size)
        self._steps = epoch.steps
        self._batches = read(epoch, config, rank=exchange.rank, load=load)

        @tf.function(autograph=False)
        def predict(batch: Batch) -> dict[str, tf.Tensor]:
            return model.predictions(model(batch, model.look_up(batch)))

        self._predict = predict

    def __call__(self) -> dict[str, Result]:
        """By task, the metrics of all ranks' samples; raises as `measure` does."""
        return self.measure().result()

    def calibrate(self) -> tuple[Calibration, dict[str, Any]]:
        """Maps fitted to the samples, the same on every rank, and what they change, for the model's manifest.

        That is `knots`, how many there are by map, and the metrics `before` and `after`. Raises as `measure` does.
        """
        before = self.measure()
        fitted = fit(before) if self._exchange.rank == 0 else None
        calibration = self._exchange.broadcast_object(fitted)
        assert calibration is not None
        facts = {"before": before.result(), "after": self.measure(calibration).result()}
        if self._exchange.rank == 0:
            pcoc = {f"pcoc_{task}_{when}": f"{facts[when][task]['pcoc']:.3f}"
                    for task in calibration.knots for when in facts}  # fmt: skip
            log.info("calibrated", **pcoc)
        return calibration, {"knots": calibration.knots, **facts}

    def measure(self, calibration: Calibration | None = None) -> Metrics:
        """What all ranks have measured of their samples, of calibrated predictions where a calibration is given.

        Raises DataError, on every rank, where one cannot read.
        """
        measured = Metrics()

        def count(batch: Batch, predictions: Batch) -> None:
            measured.update(**{name: batch[name] for name in LABELS}, **predictions)

        self._predict_all(count, calibration)
        return summed(measured, self._exchange)

    def histograms(self, calibration: Calibration | None = None) -> Histograms:
        """What all ranks' samples look like, by weight, and their predictions; arguments and errors as of `measure`."""
        found: Histograms = {}

        def count(batch: Batch, predictions: Batch) -> None:
            nonlocal found
            rows, made = ({name: each.numpy() for name, each in of.items()} for of in (batch, predictions))
            bins = histograms.binned(self._config, rows, made)
            found = histograms.added(found, histograms.counted(bins, rows["weight"]))

        self._predict_all(count, calibration)
        return reduce(histograms.added, self._exchange.gather_objects(found))

    def _predict_all(self, count: Callable[[Batch, Batch], None], calibration: Calibration | None) -> None:
        """Hand over this rank's batches and their predictions, one after the other."""
        failed, taken = None, 0
        try:
            with closing(iter(self._batches)) as batches:
                for taken, batch in enumerate(self._exchange.awaited(batches), 1):  # noqa: B007, what came of it counts below
                    predictions = self._predict(batch)
                    count(batch, predictions if calibration is None else calibration(predictions))
        except DataError as error:
            failed = error
            # The others look up rows here that this rank has, as often as they have batches.
            for _ in range(taken, self._steps):
                self._predict(padding(self._batches))
        for each in filter(None, self._exchange.gather_objects(failed)):
            raise each


def summed(measured: Metrics, exchange: "Exchange") -> Metrics:
    """What all ranks have measured together."""
    [vector] = exchange.sum([tf.constant(measured.vector)])
    return Metrics(vector.numpy())
