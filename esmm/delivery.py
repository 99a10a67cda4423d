"""What a run ends with: the model, calibrated, and with what its samples look like, published.

    deliver = Delivery(config, model, exchange, load, validation, plan)
    version = deliver(step=1200, facts={"days": ["2026-03-24"], …})     # on every rank, once

On every rank because ranks measure together, and each writes its part of a table that is spread over them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from esmm import calibration, histograms
from esmm.config import Config
from esmm.export import export
from esmm.models import Model
from esmm.plan import ReadingPlan
from esmm.reader import Load
from esmm.validation import Validation

if TYPE_CHECKING:
    from esmm.distributed.exchange import Exchange

LOOKED_AT = 131_072
"""Samples, about, whose histograms a model's manifest has. Of N rows in B bins, chance alone makes an index of drift of
some (B - 1) / N (Yurdakul 2018)."""


class Delivery:
    """Calibrates a model on the validation samples, looks at some samples through it, and exports it.

    Args:
        validation: what to calibrate on; None where there is nothing.
        plan: of what to make histograms: the validation samples, or else those of training.
    """

    def __init__(
        self,
        config: Config,
        model: Model,
        exchange: "Exchange",
        load: Load,
        validation: Validation | None,
        plan: ReadingPlan,
    ) -> None:
        self._config, self._model, self._exchange, self._load = config, model, exchange, load
        self._validation, self._plan = validation, plan

    def __call__(self, step: int, facts: Mapping[str, Any]) -> str | None:
        """Publish the model in `scoring.models`, its manifest stating `facts` and what is found here.

        Returns:
            Its version; None on a rank that has no part in writing it.
        """
        maps, calibrated = self._calibrate(step)
        seen = self._histograms(step, maps)
        self._exchange.at(step, "exporting")
        if self._exchange.rank and not self._model.shards:
            return None
        facts = {**facts, "calibration": calibrated, histograms.FACT: seen}
        return export(self._model, self._config, self._config.scoring.models, facts, maps, self._exchange)

    def _calibrate(self, step: int) -> tuple[calibration.Calibration | None, dict[str, Any] | None]:
        """The maps, and what the manifest states of them."""
        if not self._config.training.calibrate or self._validation is None:
            return None, None
        self._exchange.at(step, "calibrating")
        return self._validation.calibrate()

    def _histograms(self, step: int, maps: calibration.Calibration | None) -> histograms.Histograms | None:
        """What the samples look like to the model; None where it cannot score, and drift is nothing to it."""
        if self._config.logs is None:
            return None
        self._exchange.at(step, "looking at samples")
        plan = self._plan.some(LOOKED_AT)
        return Validation(self._config, plan, self._model, self._exchange, self._load).histograms(maps)
