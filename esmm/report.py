"""An evaluation as people and programs read it: a table, lines, JSON and one HTML page.

    console.print(report.table(evaluation))
    report.auc_lines(evaluation)                 # ["CTR AUC 0.7431", "CVR AUC 0.6892 (clicked)", ...]
    report.write(config, evaluation)             # evaluation.json and .html; the address of the page

The JSON has the same keys whatever was measured; what is not known or not defined is null:

    {"name": ..., "model": ..., "days": [...], "popularity_days": [...], "rows": ...,
     "ctr": {"rows", "weight", "auc", "log_loss", "accuracy", "pcoc", "mean_prediction", "mean_label"},
     "cvr": {...}, "ctcvr": {...},
     "gauc": {"ctr": {"gauc", "users", "share_of_weight"}, "cvr": {...}, "ctcvr": {...}},
     "pcvr_all_rows": {"correlation", "pcoc", "mean_prediction", "mean_truth"},
     "nightly": {"ctr": {...}, "cvr": {...}, "ctcvr": {...}},
     "baselines": {"popularity": {"ctr": {...}}, "truth": {"ctr": {...}, "cvr": {...}, "ctcvr": {...}}}}

The page needs nothing but itself: its style and pictures are inside, and it follows the reader's light or
dark scheme.
"""

import io
import json
import re
from importlib import resources
from typing import Any

import jinja2
import markupsafe
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from rich.text import Text

from esmm import storage
from esmm.config import Config
from esmm.evaluation import Evaluation
from esmm.files import write_atomically
from esmm.metrics import TASKS, Band, Metrics, Result

TITLES = {"ctr": "CTR", "cvr": "CVR (clicked)", "ctcvr": "CTCVR"}

_INK, _LINE = "#010101", "#020202"  # stand for the page's colours until the picture is part of it


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
        "baselines": {
            "popularity": None if popularity is None else {"ctr": popularity.result()},
            "truth": None if truth is None else truth.result(),
        },
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
    # As a resource of the package, so that it is found in the zip that a cluster's job is shipped in too.
    source = resources.files("esmm").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    bands = {name: task.bands() for name, task in evaluation.metrics.tasks.items()}
    return environment.from_string(source).render(
        result=as_dict(evaluation),
        titles=TITLES,
        bands=bands,
        pictures={name: _calibration(TITLES[name], bands[name]) for name in TASKS},
    )


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


def _period(days: list[str]) -> str:
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _calibration(title: str, bands: list[Band]) -> markupsafe.Markup:
    """An SVG: the rate that was predicted of each band of rows, and the one that came, logarithmically.

    A band without a positive row has no place on it; without any band there is no picture.
    """
    points = [(band.mean_prediction, band.mean_label) for band in bands if band.mean_label > 0]
    if not points:
        return markupsafe.Markup()
    style = {"svg.fonttype": "none", "svg.hashsalt": "esmm", "font.family": "sans-serif", "font.size": 9.0}
    with mpl.rc_context(style):  # text stays text, and the same evaluation makes the same page
        figure = Figure(figsize=(3.3, 3.3), layout="constrained")
        _plot(figure.subplots(), points)
        picture = io.StringIO()
        figure.savefig(picture, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = picture.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "var(--ink)").replace(_LINE, "var(--quiet)")
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # figure_1 and so on, which each of the pictures has
    label = markupsafe.escape(f"{title}: predicted and actual rates")
    return markupsafe.Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))


def _plot(axes: Axes, points: list[tuple[float, float]]) -> None:
    """Points (predicted, actual), on equal axes, with the line on which the two are equal."""
    predicted, actual = zip(*points, strict=True)
    low, high = min(*predicted, *actual) / 1.4, max(*predicted, *actual) * 1.4
    steps = (1, 2, 5) if high < 50 * low else (1,)
    ticks = [step * 10.0**power for power in range(-12, 1) for step in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    labels = [f"{tick:g}" for tick in ticks]
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_xticks(ticks, labels)
    axes.set_yticks(ticks, labels)
    axes.minorticks_off()
    axes.tick_params(colors=_INK, labelsize=8)
    axes.set_xlabel("predicted", color=_INK)
    axes.set_ylabel("actual", color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_LINE)
    axes.plot([low, high], [low, high], color=_LINE, linewidth=1, linestyle="--")
    axes.plot(predicted, actual, color="#2f81c7", marker="o", markersize=5, linewidth=1.5)
