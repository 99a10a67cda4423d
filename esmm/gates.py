"""The gates before a promotion: what a model has to be worth on held-out days, and beside the champion.

refusals(config.evaluation.gates, {"ctr": {"auc": 0.741, …}, …}, {"ctr": {"auc": 0.748, …}, …})
# ["ctr.auc: expected at least 0.743, 0.005 below the champion's, found 0.7410"]
"""

from collections.abc import Mapping

from esmm import scoring
from esmm.config import Config, Gates
from esmm.errors import DataError
from esmm.evaluation import Evaluation
from esmm.metrics import Metrics, Result
from esmm.registry import Champion


def rival(config: Config, version: str, champion: Champion | None) -> str | None:
    """The champion's version, where a gate compares the model with it; None too where it is the model itself.

    Raises DataError where it cannot score the config's samples: it takes columns that these lack, or was changed.
    """
    if champion is None or champion.version == version or not config.evaluation.gates.max_auc_drop:
        return None
    try:
        scoring.check_model(config, champion.version, may_lack=True)
    except DataError as error:
        # Whoever has taken a feature away cannot give it back to the champion: so there has to be a way on.
        expected = f"{error.expected} as champion, or --without-champion"
        raise DataError(error.where, expected=expected, found=error.found) from None
    return champion.version


def check(config: Config, found: Evaluation, champion: Metrics | None) -> None:
    """Raise DataError, naming every gate that does not hold, where a model may not be promoted.

    `champion` is what the champion is worth on the same rows; None where there is none, or it is the model itself.
    """
    refused = refusals(
        config.evaluation.gates, found.metrics.result(), None if champion is None else champion.result()
    )
    if refused:
        where = f"{config.scoring.models}/{found.model}"
        raise DataError(where, expected="a model that passes evaluation.gates", found="; ".join(refused))


def refusals(gates: Gates, model: Mapping[str, Result], champion: Mapping[str, Result] | None) -> list[str]:
    """The gates that do not hold, a line each; none where the model may be promoted.

    Args:
        gates: the config's.
        model: by task, `esmm.metrics.Metrics.result` of the model.
        champion: the same of the champion on the same rows; None where there is none, or it is the model itself.

    What is not defined, such as the AUC of rows of one label, is not good enough.
    """
    found = []
    for task, least in gates.min_auc.items():
        if not _at_least(model[task]["auc"], least):
            found.append(f"{task}.auc: expected at least {least:g}, found {_shown(model[task]['auc'])}")
    for task, drop in gates.max_auc_drop.items():
        theirs = champion[task]["auc"] if champion else None
        if theirs is not None and not _at_least(model[task]["auc"], theirs - drop):
            expected = f"at least {theirs - drop:.4f}, {drop:g} below the champion's"
            found.append(f"{task}.auc: expected {expected}, found {_shown(model[task]['auc'])}")
    for task, (least, most) in gates.pcoc.items():
        pcoc = model[task]["pcoc"]
        if pcoc is None or not least <= pcoc <= most:
            found.append(f"{task}.pcoc: expected {least:g} to {most:g}, found {_shown(pcoc)}")
    return found


def _at_least(value: float | None, least: float) -> bool:
    return value is not None and value >= least


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
