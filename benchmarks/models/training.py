"""Variants trained by the real loop, two at a time, each on one core and without Spark, and what they predict.

    found = predicted([Run(rows, "esmm", seed=1), …])
    found[0].pcvr                        # float32 [held-out rows], in the order of rows.labels()

What a run predicted is kept in build/bench/models/predictions, under a digest of its config, its samples' manifests and
the project's code: a benchmark that was interrupted goes on where it was.
"""

import datetime as dt
import hashlib
import logging
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import structlog

from benchmarks.harness import ROOT
from benchmarks.models.rows import DIRECTORY, Rows
from esmm import config as configs
from esmm import schema
from esmm.config import Config
from esmm.plan import ReadingPlan, make_plan

WORKERS = 2
RUNS_A_PROCESS = 10
"""Processes that have trained so many models give way to new ones: TensorFlow forgets no graph. All at once, by a new
pool: one that replaces its processes (max_tasks_per_child) can wait for ever for those that are gone."""


class Predictions(NamedTuple):
    """Of the held-out rows, [rows] each."""

    pctr: np.ndarray
    pcvr: np.ndarray
    pctcvr: np.ndarray
    seconds: float
    """That it took to train and to predict."""

    def save(self, file: Path) -> None:
        """Keep it; a file is whole or not there."""
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".unfinished.npz")
        np.savez(unfinished, **self._asdict())
        unfinished.rename(file)

    @classmethod
    def load(cls, file: Path) -> Self:
        """What was kept."""
        with np.load(file) as kept:
            return cls(**{name: kept[name] for name in cls._fields[:-1]}, seconds=float(kept["seconds"]))


@dataclass(frozen=True)
class Run:
    """One model to train."""

    rows: Rows
    variant: str
    seed: int
    precision: str = "float32"

    def config(self, directory: str | Path = ".") -> Config:
        """Its config: checkpoints and models go to a directory."""
        return configs.load(
            self.rows.file,
            [
                f"model.variant={self.variant}", f"model.precision={self.precision}", f"seed={self.seed}",
                "training.ranks=1", "training.threads=1",
                f"training.directory={directory}/training", f"scoring.models={directory}/models",
            ],
        )  # fmt: skip

    @property
    def file(self) -> Path:
        """Where its predictions are kept."""
        manifests = [self._plan(days).model_dump_json() for days in (self.rows.days, (self.rows.held_out,))]
        said = "".join([self.config().digest(), *manifests, _code()])
        digest = hashlib.sha256(said.encode()).hexdigest()[:12]
        return DIRECTORY / f"predictions/{self.rows.name}-{self.variant}-{self.seed}-{digest}.npz"

    def train(self) -> Predictions:
        """Train it on the days before and predict the held-out one."""
        # TensorFlow, and what imports it, only where it runs: the parent keeps no model.
        from esmm import export
        from esmm.distributed.exchange import Alone
        from esmm.scoring import predict_in_batches
        from esmm.training import train

        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="bench-models-") as directory:
            config = self.config(directory)
            result = train(config, self._plan(self.rows.days), Alone(), self.rows.days)
            model = export.load(config.scoring.models, result["version"])
            held_out = _read(config, self._plan((self.rows.held_out,)))
            found = predict_in_batches(model, held_out, config.scoring.batch_size)
        return Predictions(**found, seconds=time.monotonic() - start)

    def _plan(self, days: Sequence[dt.date]) -> ReadingPlan:
        config = self.rows.config
        return make_plan(config.samples.table, days, schema.training_columns(config))


def predicted(runs: Sequence[Run], workers: int = WORKERS) -> list[Predictions]:
    """What each run predicts, trained where that is not known yet."""
    missing = [run for run in runs if not run.file.exists()]
    at_once = RUNS_A_PROCESS * workers
    for part in (missing[first : first + at_once] for first in range(0, len(missing), at_once)):
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start) as pool:
            for run, seconds in zip(part, pool.map(_train, part), strict=True):
                print(f"{run.rows.name} {run.variant}, seed {run.seed}: {seconds:.1f} s", flush=True)
    return [Predictions.load(run.file) for run in runs]


def _start() -> None:
    """A process that trains: TensorFlow on one core, and no log but of warnings."""
    from esmm.distributed.runtime import set_up_tensorflow

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    set_up_tensorflow(configs.Training(directory="", threads=1), ranks_here=1)


def _train(run: Run) -> float:
    """Train one and keep what it predicts; the seconds that it took."""
    found = run.train()
    found.save(run.file)
    return found.seconds


def _read(config: Config, plan: ReadingPlan) -> dict[str, np.ndarray]:
    """The features of a plan's rows, in its order, by the reader that training has."""
    from esmm.epochs import Piece
    from esmm.reader import read_row_groups

    columns = schema.feature_columns(config)
    parts = list(read_row_groups([Piece(group) for group in plan.row_groups], columns))
    return {column.name: np.concatenate([part[column.name] for part in parts]) for column in columns}


@lru_cache
def _code() -> str:
    """The project's own: what of it decides what a model learns changes with the project."""
    return "".join(file.read_text() for file in sorted((ROOT / "esmm").rglob("*.py")))
