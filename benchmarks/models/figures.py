"""What predictions of held-out rows are worth: AUCs by scikit-learn, and whether pCVR is right on average.

    of(rows.labels(), predictions)
    # {"ctr_auc": 0.741, "cvr_auc": 0.663, "ctcvr_auc": 0.812,
    #  "cvr_all_auc": 0.682, "cvr_all_pcoc": 1.31, "ips_pcoc": 1.24}

cvr_auc is of purchases on clicked rows, all that real logs allow. The others, of all exposures, need the truth:
cvr_all_auc is of purchases drawn for every exposure as if it had been clicked, and cvr_all_pcoc the mean of pCVR over
that of the true pCVR. ips_pcoc says how much of an error in the latter is the propensities': with p and r the true
pCTR and pCVR, and q the predicted pCTR, it is

    (Σ w r / Σ w) / (Σ r / rows)        with w = p / q,

the PCOC of the rate of purchases that is expected of clicked rows when each is weighed by 1 / q, which is what the
inverse propensity loss fits. It is 1 where q is p, and above 1 where q is too low on rows of a high pCVR.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.models.rows import Labels
from benchmarks.models.training import Predictions


class Task(NamedTuple):
    """The rows that an AUC is of, and their labels."""

    rows: np.ndarray
    """bool [held-out rows]."""
    label: np.ndarray
    """[held-out rows]; only those of `rows` count."""
    prediction: str
    """The field of Predictions."""


def tasks(labels: Labels) -> dict[str, Task]:
    """What real logs allow, and with the truth that of purchases if clicked."""
    clicked = labels["click"] == 1
    everywhere = np.ones_like(clicked)
    found = {
        "ctr_auc": Task(everywhere, labels["click"], "pctr"),
        "cvr_auc": Task(clicked, labels["purchase"], "pcvr"),
        "ctcvr_auc": Task(everywhere, labels["purchase"], "pctcvr"),
    }
    if "purchase_if_clicked" in labels:
        found["cvr_all_auc"] = Task(everywhere, labels["purchase_if_clicked"], "pcvr")
    return found


def of(labels: Labels, predictions: Predictions) -> dict[str, float]:
    """The figures of one model's predictions."""
    figures = {
        name: float(roc_auc_score(task.label[task.rows], getattr(predictions, task.prediction)[task.rows]))
        for name, task in tasks(labels).items()
    }
    if "true_pcvr" in labels:
        pctr, pcvr = labels["true_pctr"], labels["true_pcvr"]
        figures["cvr_all_pcoc"] = float(predictions.pcvr.mean(dtype=np.float64) / pcvr.mean())
        weights = pctr / predictions.pctr.astype(np.float64)
        figures["ips_pcoc"] = float(np.average(pcvr, weights=weights) / pcvr.mean())
    return figures


def of_truth(labels: Labels) -> dict[str, float]:
    """The figures of the true probabilities, which no model can beat but by luck."""
    pctr, pcvr = labels["true_pctr"], labels["true_pcvr"]
    return of(labels, Predictions(pctr, pcvr, pctr * pcvr, seconds=0.0))


def over_seeds(found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Each figure's mean and standard deviation (n - 1) over seeds, and its values; of one seed the latter is 0."""
    summed: dict[str, Any] = {}
    for name in found[0]:
        values = [figures[name] for figures in found]
        std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        summed[name] = {"mean": float(np.mean(values)), "std": std, "values": values}
    return summed
