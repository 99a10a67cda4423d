"""What one sees of a training run: a line every so many steps, and TensorBoard's scalars.

    progress = Progress(config, samples_per_epoch)      # on rank 0 alone
    progress.step(50, 1, Totals({"ctr": 1_200.5, "ctcvr": 250.7}, weight=4096.0, samples=4096))
    # 08:15:02 [info] training  step=50 epoch=1 done=37% loss_ctr=0.2931 loss_ctcvr=0.0612 samples_per_s=24310

Both show what all ranks did, not one alone.
"""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import structlog
import tensorflow as tf

from esmm import storage
from esmm.config import Config
from esmm.metrics import Result
from esmm.publish import new_run

log = structlog.get_logger()


class Totals(NamedTuple):
    """Sums over one or more steps of all ranks."""

    losses: dict[str, float]
    """By task, loss times weight."""
    weight: float
    samples: int

    @property
    def means(self) -> dict[str, float]:
        """By task, the mean loss by weight; 0 where nothing has a weight."""
        return {task: total / self.weight if self.weight else 0.0 for task, total in self.losses.items()}

    def __add__(self, other: object) -> "Totals":
        assert isinstance(other, Totals)
        losses = {task: self.losses.get(task, 0.0) + total for task, total in other.losses.items()}
        return Totals(losses, self.weight + other.weight, self.samples + other.samples)


NOTHING = Totals({}, 0.0, 0)
"""The sum of no steps."""


class Progress:
    """Writes the lines, and the scalars below `training.directory`/events."""

    def __init__(self, config: Config, samples_per_epoch: int) -> None:
        self._every = config.training.log_every
        self._total = samples_per_epoch * config.training.epochs
        self._done = 0
        self._since, self._since_time = NOTHING, time.monotonic()
        self._events = _Events(f"{config.training.directory}/events", new_run())

    def step(self, number: int, epoch: int, totals: Totals) -> None:
        """Take note of a step; every `log_every` steps a line and scalars say what those were like."""
        self._since += totals
        self._done += totals.samples
        if number % self._every:
            return
        speed = self._since.samples / max(time.monotonic() - self._since_time, 1e-9)
        losses = {f"loss_{task}": f"{loss:.4f}" for task, loss in self._since.means.items()}
        log.info("training", step=number, epoch=epoch, done=f"{self._done / max(self._total, 1):.0%}",
                 **losses, samples_per_s=round(speed))  # fmt: skip
        self._events.scalars("loss", self._since.means, number)
        self._events.scalars("speed", {"samples_per_s": speed}, number)
        self._since, self._since_time = NOTHING, time.monotonic()

    def epoch(self, number: int, epoch: int, totals: Totals, metrics: Mapping[str, Result]) -> None:
        """Take note of an epoch's end, after step `number`: its mean losses and its metrics."""
        aucs = {f"auc_{task}": _short(result["auc"]) for task, result in metrics.items()}
        losses = {f"loss_{task}": f"{loss:.4f}" for task, loss in totals.means.items()}
        log.info("epoch done", epoch=epoch, step=number, samples=totals.samples, **losses, **aucs)
        for task, result in metrics.items():
            shown = {
                name: value for name in ("auc", "log_loss", "pcoc") if (value := result[name]) is not None
            }
            self._events.scalars(f"epoch_{task}", shown, number)
        self._events.publish()
        # What the epoch's end takes is not the steps' time.
        self._since_time = time.monotonic()


class _Events:
    """TensorBoard's file of a run, also where TensorFlow cannot write: it is then copied there."""

    def __init__(self, root: str, run: str) -> None:
        self._fs, path = storage.at(root)
        self._target = f"{path}/{run}"
        if storage.is_local(self._fs):
            self._directory = Path(self._target)
        else:
            self._temporary = tempfile.TemporaryDirectory(prefix="esmm-events-")
            self._directory = Path(self._temporary.name)
        self._writer = tf.summary.create_file_writer(str(self._directory))

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        with self._writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(f"{group}/{name}", value)

    def publish(self) -> None:
        self._writer.flush()
        if storage.is_local(self._fs):
            return
        for file in self._directory.iterdir():
            self._fs.put_file(str(file), f"{self._target}/{file.name}")


def _short(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"
