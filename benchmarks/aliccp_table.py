"""The evaluations that `make aliccp` has made, as the paper's table: AUCs in %, beside the paper's own.

.venv/bin/python -m benchmarks.aliccp_table build/aliccp/runs

A run is a directory MODEL-SEED with an evaluation.json. A model's figure is the mean over its runs, with their standard
deviation (of a sample) where there are several. The paper's are those of its table 2, of ten runs each.
"""

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Aucs = dict[str, list[float]]
"""Task, `cvr` (on clicked rows) or `ctcvr`, to the AUC of each run."""

PAPER = {
    "base": ("BASE", "66.00 ± 0.37", "62.07 ± 0.45"),
    "division": ("DIVISION", "67.56", "63.62"),
    "esmm_ns": ("ESMM-NS", "68.25 ± 0.44", "64.44 ± 0.62"),
    "esmm": ("ESMM", "68.56 ± 0.37", "65.32 ± 0.49"),
}
"""Model to its name, AUC of CVR and AUC of CTCVR in the paper."""


def read(runs: Path) -> dict[str, Aucs]:
    """The AUCs of each model's runs; raises ValueError, naming the file, where one has no AUC."""
    found: dict[str, Aucs] = {}
    for file in sorted(runs.glob("*-*/evaluation.json")):
        model = file.parent.name.rpartition("-")[0]
        for task in ("cvr", "ctcvr"):
            auc = json.loads(file.read_text())[task]["auc"]
            if auc is None:
                raise ValueError(f"{file}: expected an AUC of {task}, found none: rows of one label alone")
            found.setdefault(model, {}).setdefault(task, []).append(auc)
    return found


def markdown(models: Mapping[str, Aucs]) -> str:
    """The table, a row a model: those of the paper in its order, then any others."""
    lines = [
        "| model | runs | CVR AUC, % | in the paper | CTCVR AUC, % | in the paper |",
        "|---|--:|---|---|---|---|",
    ]
    for model in _in_order(models):
        name, cvr, ctcvr = PAPER.get(model, (model, "", ""))
        of_model = models[model]
        cells = [
            name,
            str(len(of_model["cvr"])),
            _figure(of_model["cvr"]),
            cvr,
            _figure(of_model["ctcvr"]),
            ctcvr,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _in_order(models: Iterable[str]) -> list[str]:
    order = list(PAPER)
    return sorted(models, key=lambda model: (order.index(model) if model in PAPER else len(order), model))


def _figure(aucs: Sequence[float]) -> str:
    mean = f"{100 * statistics.mean(aucs):.2f}"
    return mean if len(aucs) == 1 else f"{mean} ± {100 * statistics.stdev(aucs):.2f}"


def main(runs: Path) -> None:
    """Print the table and write it beside the runs' directory."""
    table = markdown(read(runs))
    (runs.parent / "table.md").write_text(table)
    print(table, end="")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
