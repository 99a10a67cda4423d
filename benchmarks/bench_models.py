"""Every variant of the model on the same rows: on markets whose truth is known, and on real logs.

    make bench-models                           # the simulator's three settings of selection bias
    make bench-models DATA=FOLDER               # KuaiRand's files too, beside gradient boosting
    .venv/bin/python -m benchmarks.bench_models --settings strong --variants base,esmm --seeds 2
    .venv/bin/python -m benchmarks.bench_models --settings strong --exposures 400000 --seeds 1   # eight times the logs

Into build/bench: models.md, models.png and models.json, with mean and standard deviation over seeds; with --exposures,
which trains and measures on larger markets, into build/bench/exposures-N. docs/models.md says how to read them. What
was trained before is not trained again, so that an interrupted run goes on.
"""

import logging
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import structlog
import typer
from rich.console import Console

from benchmarks.harness import ROOT, commit, machine
from benchmarks.models import boosting, bootstrap, figures, report
from benchmarks.models.rows import AGREEMENT, Labels, Rows, kuairand, market
from benchmarks.models.training import Predictions, Run, predicted
from esmm.config import Model

VARIANTS = get_args(Model.model_fields["variant"].annotation)
SEEDS = 5
DIRECTORY = ROOT / "build/bench"

Words = Annotated[str, typer.Option(metavar="NAME,…")]
Exposures = Annotated[int | None, typer.Option(min=1, help="A day of a market, instead of the config's.")]
Data = Annotated[Path | None, typer.Option(envvar="DATA", help="The folder of KuaiRand's files.")]


def main(
    settings: Words = "",
    variants: Words = "",
    seeds: int = SEEDS,
    data: Data = None,
    exposures: Exposures = None,
) -> None:
    """Train, measure and report; by default all settings and all variants."""
    # The jobs' own processes say what they do; here it would be said for each model.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    console, start = Console(), time.monotonic()
    of_variants = _chosen(variants, VARIANTS)
    all_rows = [market(setting, exposures) for setting in _chosen(settings, AGREEMENT)]
    if data is None:
        console.print("DATA: not given, so without KuaiRand (make bench-models DATA=FOLDER)")
    else:
        all_rows.append(kuairand(data))
    seen = range(1, seeds + 1)
    found = {rows.name: compared(rows, of_variants, seen) for rows in all_rows}
    minutes = (time.monotonic() - start) / 60
    facts = {"seeds": list(seen), "minutes": minutes, "commit": commit(), "machine": machine()}
    directory = DIRECTORY if exposures is None else DIRECTORY / f"exposures-{exposures}"
    console.print(report.write(found, directory, facts), markup=False, highlight=False)
    console.print(str(directory / "models.json"), soft_wrap=True)


def compared(rows: Rows, variants: Sequence[str], seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Model to its figures: the yardstick, and each variant over all seeds, ESMM on markets in both precisions."""
    labels = rows.labels()
    models = {variant: (variant, "float32") for variant in variants}
    if rows.is_market and "esmm" in variants:
        models["esmm, bfloat16"] = ("esmm", "bfloat16")
    made = iter(
        predicted([Run(rows, variant, seed, of) for variant, of in models.values() for seed in seeds])
    )
    of_variant = {name: [next(made) for _ in seeds] for name in models}
    found: dict[str, dict[str, Any]] = {}
    if rows.is_market:
        found["truth"] = figures.over_seeds([figures.of_truth(labels)])
    else:
        baseline, chosen = boosting.predictions(rows)
        found["boosting"] = figures.over_seeds([figures.of(labels, baseline)]) | {
            "chosen": boosting.stated(chosen)
        }
    for variant, predictions in of_variant.items():
        found[variant] = figures.over_seeds([figures.of(labels, each) for each in predictions])
        found[variant]["seconds"] = [each.seconds for each in predictions]
        if not rows.is_market:
            found[variant] |= minus_boosting(labels, predictions, baseline)
    return found


def minus_boosting(labels: Labels, ours: Sequence[Predictions], baseline: Predictions) -> dict[str, Any]:
    """By how much each AUC is above the baseline's, and the interval."""
    found = {}
    for name, task in figures.tasks(labels).items():
        label, user = task.label[task.rows], labels["user_id"][task.rows]
        both = ([getattr(each, task.prediction)[task.rows] for each in side] for side in (ours, [baseline]))
        found[name + report.MINUS] = bootstrap.difference(label, user, *both)
    return found


def _chosen(words: str, known: Iterable[str]) -> list[str]:
    """The names given, in their usual order; all of them where none is."""
    given = words.split(",") if words else list(known)
    if unknown := set(given) - set(known):
        raise typer.BadParameter(f"expected names of {', '.join(known)}, found {', '.join(sorted(unknown))}")
    return [name for name in known if name in given]


if __name__ == "__main__":
    typer.run(main)
