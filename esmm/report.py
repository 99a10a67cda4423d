"""An evaluation as people and programs read it: a table, lines, JSON and one HTML page.

    console.print(report.table(evaluation))
    report.auc_lines(evaluation)                 # ["CTR AUC 0.7431", "CVR AUC 0.6892 (clicked)", ...]
    report.write(config, evaluation)             # evaluation.json and .html; the address of the page

The JSON has the same keys whatever was measured; what is not known or not defined is null:

    {"name": ..., "model": ..., "days": [...], "popularity_days": [...], "rows": ...,
     "ctr": {"rows", "weight", "auc", "log_loss", "accuracy", "pcoc", "ece", "mean_prediction", "mean_label"},
     "cvr": {...}, "ctcvr": {...},
     "gauc": {"ctr": {"gauc", "users", "share_of_weight"}, "cvr": {...}, "ctcvr": {...}},
     "pcvr_all_rows": {"correlation", "pcoc", "mean_prediction", "mean_truth"},
     "nightly": {"ctr": {...}, "cvr": {...}, "ctcvr": {...}},
     "calibration": {"knots": {"ctr", "ctcvr"}, "before": {"ctr": {...}, ...}, "after": {"ctr": {...}, ...}},
     "curves": {"ctr": {"roc": [[false_positive_rate, true_positive_rate], ...],
                        "spans": [{"low", "high", "weight", "mean_prediction", "mean_label"}, ...],
                        "tenths": [{"weight", "mean_prediction", "mean_label", "lift", "share", "gain"}, ...]}, ...},
     "segments": {"hour": [{"value", "ctr": {...}, "cvr": {...}, "ctcvr": {...}}, ...], ...},
     "baselines": {"popularity": {"ctr": {...}}, "truth": {"ctr": {...}, "cvr": {...}, "ctcvr": {...}}}}

The page needs nothing but itself: its style and pictures are inside, and it follows the reader's light or
dark scheme.
"""

import json
import math
from dataclasses import asdict
from importlib import resources
from typing import Any

import jinja2
import markupsafe
from rich import box
from rich.table import Table
from rich.text import Text

from esmm import curves, pictures, storage
from esmm.config import Config
from esmm.evaluation import Evaluation
from esmm.files import write_atomically
from esmm.metrics import TASKS, Metrics, Result, TaskMetrics
from esmm.segments import MOST_VALUES

TITLES = {"ctr": "CTR", "cvr": "CVR (clicked)", "ctcvr": "CTCVR"}


def as_dict(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as the module's docstring lays it out."""
    popularity, truth, pcvr = evaluation.popularity, evaluation.truth, evaluation.pcvr
    nightly = evaluation.nightly
    return {
        "name": evaluation.name,
        "model": evaluation.model,
        "days": [str(day) for day in evaluation.days],
        "popularity_days": [str(day) for day in evaluation.popularity_days],
        "rows": evaluation.metrics.ctr.rows,
        **evaluation.metrics.result(),
        "gauc": dict(evaluation.gauc),
        "pcvr_all_rows": None if pcvr is None else pcvr.result(),
        "nightly": None if nightly is None else nightly.result(),
        "calibration": evaluation.calibration,
        "curves": {task: _curves(of_task) for task, of_task in evaluation.metrics.tasks.items()},
        "segments": {
            name: [{"value": segment.value, **segment.metrics.result()} for segment in of_name]
            for name, of_name in evaluation.segments.items()
        },
        "baselines": {
            "popularity": None if popularity is None else {"ctr": popularity.result()},
            "truth": None if truth is None else truth.result(),
        },
    }


def _curves(task: TaskMetrics) -> dict[str, Any]:
    return {
        "roc": [[*point] for point in curves.roc(task)],
        "spans": [asdict(span) for span in curves.spans(task)],
        "tenths": [asdict(tenth) for tenth in curves.tenths(task)],
    }


def auc_lines(evaluation: Evaluation) -> list[str]:
    """The AUCs and GAUCs, one a line; in words where one is not defined."""
    lines = _auc_lines(evaluation.metrics)
    if evaluation.popularity is not None:
        lines.append(_auc_line("Item popularity CTR AUC", evaluation.popularity.result()["auc"]))
    lines += [_gauc_line(task, evaluation.gauc[task]) for task in TASKS]
    if evaluation.nightly is not None:
        lines += _auc_lines(evaluation.nightly, " with lists as of the day's start")
    return lines


def _auc_lines(metrics: Metrics, suffix: str = "") -> list[str]:
    result = metrics.result()
    return [
        _auc_line("CTR AUC", result["ctr"]["auc"], suffix),
        _auc_line("CVR AUC", result["cvr"]["auc"], f" (clicked){suffix}"),
        _auc_line("CTCVR AUC", result["ctcvr"]["auc"], suffix),
    ]


def _gauc_line(task: str, of_task: Result) -> str:
    name = f"{task.upper()} GAUC"
    if of_task["gauc"] is None:
        return f"{name} not defined: it takes users with rows of both labels"
    covered = f"{of_task['users']:,} users, {of_task['share_of_weight']:.0%} of the weight"
    return f"{name} {of_task['gauc']:.4f} by user ({covered})"


def _auc_line(name: str, auc: float | None, suffix: str = "") -> str:
    if auc is None:
        return f"{name} not defined{suffix}: it takes rows of both labels"
    return f"{name} {auc:.4f}{suffix}"


def table(evaluation: Evaluation) -> Table:
    """The metrics of each task, for a terminal."""
    results = as_dict(evaluation)
    truth = results["baselines"]["truth"]
    title = Text(f"{evaluation.name}, model {evaluation.model}, {_period(results['days'])}", style="bold")
    # Without side borders the columns fit 80 characters.
    found = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    found.add_column("", no_wrap=True)
    columns = (
        "rows",
        "AUC",
        *([] if truth is None else ["truth's"]),
        "log loss",
        "PCOC",
        "predicted",
        "actual",
    )
    for name in columns:
        found.add_column(name, justify="right", no_wrap=True)
    for task in TASKS:
        result = results[task]
        found.add_row(
            TITLES[task],
            f"{result['rows']:,}",
            _number(result["auc"]),
            *([] if truth is None else [_number(truth[task]["auc"])]),
            _number(result["log_loss"]),
            _number(result["pcoc"], 3),
            _number(result["mean_prediction"], 5),
            _number(result["mean_label"], 5),
        )
    return found


def html(evaluation: Evaluation) -> str:
    """The page."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True)  # fmt: skip
    environment.filters |= {"number": _number, "percent": _percent, "period": _period}
    environment.tests |= {"off": _is_off}
    # As a resource of the package, so that it is found in the zip that a cluster's job is shipped in too.
    source = resources.files("esmm").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        result=as_dict(evaluation),
        titles=TITLES,
        pictures={task: _pictures(evaluation, task) for task in TASKS},
        few=pictures.FEW,
        most_values=MOST_VALUES,
    )


def _pictures(evaluation: Evaluation, task: str) -> dict[str, markupsafe.Markup]:
    measured = evaluation.metrics.tasks[task]
    truth = [] if evaluation.truth is None else curves.roc(evaluation.truth.tasks[task])
    return {
        "roc": pictures.roc(TITLES[task], curves.roc(measured), truth),
        "rates": pictures.rates(TITLES[task], curves.spans(measured)),
        "lift": pictures.lift(TITLES[task], curves.tenths(measured)),
    }


def write(config: Config, evaluation: Evaluation) -> str:
    """Write evaluation.json and evaluation.html to the config's directory; the address of the page."""
    fs, directory = storage.at(config.evaluation.directory)
    text = json.dumps(as_dict(evaluation), indent=2, allow_nan=False) + "\n"
    page = html(evaluation)
    write_atomically(fs, f"{directory}/evaluation.json", text.encode())
    write_atomically(fs, f"{directory}/evaluation.html", page.encode())
    return f"{config.evaluation.directory}/evaluation.html"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _is_off(result: Result) -> bool:
    """Whether the PCOC is farther from 1 than chance takes it: two standard errors, about 2 / √positives."""
    weight, rate, pcoc = result["weight"], result["mean_label"], result["pcoc"]
    if not (weight and rate and pcoc):
        return False
    return abs(math.log(pcoc)) > 2 / math.sqrt(weight * rate)


def _period(days: list[str]) -> str:
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
