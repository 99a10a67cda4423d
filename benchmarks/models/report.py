"""The comparison as a Markdown table, a picture and JSON: models.md, models.png and models.json in a directory.

    report = {"strong": {"truth": {"ctr_auc": {"mean": 0.854, "std": 0.0, …}, …}, "esmm": …}, "kuairand": …}
    write(report, directory, facts)

JSON holds SETTING.MODEL.FIGURE with mean, std and values; and on KuaiRand, of each model, FIGURE_minus_boosting with
value, low and high.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

TITLES = {
    "ctr_auc": "CTR AUC",
    "cvr_auc": "CVR AUC, clicked rows",
    "cvr_all_auc": "CVR AUC, all exposures",
    "ctcvr_auc": "CTCVR AUC",
    "cvr_all_pcoc": "PCOC of pCVR, all exposures",
    "ips_pcoc": "PCOC of purchases weighed by 1 / pCTR",
}
MINUS = "_minus_boosting"
YARDSTICKS = ("truth", "boosting")
"""What is no variant: drawn as lines."""

Report = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]
"""Setting, model and figure to what was found."""


def write(report: Report, directory: Path, facts: Mapping[str, Any]) -> str:
    """Write the three files, `facts` being added to the JSON; returns the Markdown."""
    directory.mkdir(parents=True, exist_ok=True)
    text = markdown(report, len(facts["seeds"]))
    (directory / "models.md").write_text(text)
    (directory / "models.json").write_text(json.dumps({**report, **facts}, indent=2) + "\n")
    draw(report, directory / "models.png")
    return text


def markdown(report: Report, seeds: int) -> str:
    """One table a setting: AUCs in %, mean ± standard deviation over seeds, differences with their intervals."""
    parts = [f"AUCs in %; mean ± standard deviation over {seeds} seeds, all on the same rows.\n"]
    for setting, models in report.items():
        figures = [name for name in TITLES if all(name in found for found in models.values())]
        differences = [name + MINUS for name in figures if any(name + MINUS in m for m in models.values())]
        titles = [TITLES[name] for name in figures]
        titles += [f"{TITLES[name.removesuffix(MINUS)]} − boosting's" for name in differences]
        parts.append(f"## {setting}\n")
        parts += [_row("model", *titles), _row(*["---"] * (1 + len(titles)))]
        for model, found in models.items():
            cells = [_cell(name, found[name]) for name in figures]
            cells += [_interval(found[name]) if name in found else "" for name in differences]
            parts.append(_row(model, *cells))
        parts.append("")
    return "\n".join(parts)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(name: str, found: Mapping[str, Any]) -> str:
    """A mean and its deviation; of a yardstick, which has no seeds, the value alone."""
    scale, digits = (1, 3) if name.endswith("_pcoc") else (100, 2)
    mean = f"{scale * found['mean']:.{digits}f}"
    return mean if len(found["values"]) == 1 else f"{mean} ± {scale * found['std']:.{digits}f}"


def _interval(found: Mapping[str, Any]) -> str:
    value, low, high = (f"{100 * found[key]:+.2f}".replace("-", "−") for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def draw(report: Report, file: Path) -> None:
    """A panel a figure of each setting: a dot a variant, its deviation as a bar, the yardstick as a line."""
    settings = list(report)
    columns = [name for name in TITLES if any(name in m for of in report.values() for m in of.values())]
    figure, panels = plt.subplots(
        len(settings), len(columns), figsize=(3.1 * len(columns), 0.7 + 2.3 * len(settings)),
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for row, setting in zip(panels, settings, strict=True):
        for panel, name in zip(row, columns, strict=True):
            if name not in next(iter(report[setting].values())):
                panel.set_axis_off()
                continue
            _panel(panel, report[setting], name)
            panel.set_title(f"{setting}: {TITLES[name]}", fontsize=9)
            if panel is not row[0]:
                panel.set_yticklabels([])
    figure.savefig(file, dpi=120)
    plt.close(figure)


def _panel(panel: Axes, models: Mapping[str, Mapping[str, Mapping[str, Any]]], name: str) -> None:
    variants = [model for model in models if model not in YARDSTICKS]
    means, deviations = ([models[model][name][key] for model in variants] for key in ("mean", "std"))
    panel.errorbar(means, range(len(variants)), xerr=deviations, fmt="o", markersize=4, capsize=2)
    for model in models:
        if model in YARDSTICKS:
            panel.axvline(models[model][name]["mean"], color="0.5", linestyle="--", linewidth=1, label=model)
            panel.legend(fontsize=7, loc="best")
    panel.set_yticks(range(len(variants)), variants, fontsize=8)
    panel.set_ylim(len(variants) - 0.5, -0.5)
    panel.tick_params(axis="x", labelsize=7)
    panel.grid(axis="x", linewidth=0.3)
