"""What one sees of a training run: how far it is, at what speed, and TensorBoard's scalars.

    progress = Progress(config, samples_per_epoch)      # on rank 0 alone
    progress.start(0)
    progress.step(50, 1, Totals({"ctr": 1_200.5, "ctcvr": 250.7}, weight=4096.0, samples=4096), waited=0.01)
    # 08:15:02 [info] training  step=50 epoch=1 samples=204800 done=37% loss_ctr=0.2931 … samples_per_s=24310 …

All of it shows what all ranks did, not one alone. On a terminal a bar stands in for the lines.
"""

import datetime as dt
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import structlog
import tensorflow as tf
from rich import progress as bars
from rich.console import Console

from esmm import storage
from esmm.config import Config
from esmm.metrics import Result
from esmm.publish import new_run

log = structlog.get_logger()

COLLAPSED = 0.2
"""Mean pCVR over the purchase rate, both of clicked rows, below which an epoch is warned of."""

_SHOWN = ("auc", "log_loss", "accuracy", "pcoc")


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
    """Writes the lines, or the bar, and the scalars below `training.directory`/events."""

    def __init__(self, config: Config, samples_per_epoch: int) -> None:
        self._every = config.training.log_every
        self._total = samples_per_epoch * config.training.epochs
        self._done, self._waited = 0, 0.0
        self._since, self._since_time = NOTHING, time.monotonic()
        self._events = _Events(f"{config.training.directory}/events", new_run())
        has_bar = sys.stderr.isatty() and os.environ.get("ESMM_LOG") != "json"
        self._bar = _Bar(self._total) if has_bar else None

    def stop(self) -> None:
        """Leave the terminal as it was, and all scalars where they belong, also those of an epoch that broke off."""
        if self._bar:
            self._bar.stop()
        try:
            self._events.publish()
        except Exception as error:  # a storage's: what ended the run must not be hidden by it
            log.warning("scalars not kept", error=str(error))

    def start(self, done: int) -> None:
        """Begin where so many samples are done."""
        self._done, self._since_time = done, time.monotonic()

    def step(self, number: int, epoch: int, totals: Totals, waited: float) -> None:
        """Take note of a step, and of the seconds that ranks waited for its batches, on the average.

        Every `log_every` steps a line and scalars say what those were like.
        """
        self._since += totals
        self._done += totals.samples
        self._waited += waited
        elapsed = max(time.monotonic() - self._since_time, 1e-9)
        speed, share = self._since.samples / elapsed, min(self._waited / elapsed, 1.0)
        if self._bar:
            self._bar.show(self._done, speed, self._since.means)
        if number % self._every:
            return
        if not self._bar:
            left = dt.timedelta(seconds=round((self._total - self._done) / speed)) if speed else "unknown"
            losses = {f"loss_{task}": f"{loss:.4f}" for task, loss in self._since.means.items()}
            log.info("training", step=number, epoch=epoch, samples=self._done, done=self._share_done(), **losses,
                     samples_per_s=round(speed), waiting_for_data=f"{share:.0%}", left=str(left))  # fmt: skip
        self._events.scalars("loss", self._since.means, number)
        self._events.scalars("speed", {"samples_per_s": speed, "waiting_for_data": share}, number)
        self._since, self._since_time, self._waited = NOTHING, time.monotonic(), 0.0

    def epoch(
        self, number: int, epoch: int, losses: Mapping[str, float], metrics: Mapping[str, Result]
    ) -> None:
        """Take note of an epoch's end, after step `number`: its mean losses and its metrics."""
        shown = {f"loss_{task}": f"{loss:.4f}" for task, loss in losses.items()}
        log.info(
            "epoch done", epoch=epoch, step=number, samples=metrics["ctr"]["rows"], **shown, **_aucs(metrics)
        )
        self._measured("epoch", number, epoch, metrics)

    def validated(self, number: int, epoch: int, metrics: Mapping[str, Result]) -> None:
        """Take note of what the model is worth on the validation samples at an epoch's end."""
        log.info("validated", epoch=epoch, samples=metrics["ctr"]["rows"], **_aucs(metrics))
        self._measured("validation", number, epoch, metrics)

    def _measured(self, where: str, number: int, epoch: int, metrics: Mapping[str, Result]) -> None:
        _warn_of_collapse(metrics, where, epoch)
        for task, result in metrics.items():
            shown = {name: value for name in _SHOWN if (value := result[name]) is not None}
            self._events.scalars(f"{where}_{task}", shown, number)
        self._events.publish()
        # What the epoch's end takes is not the steps' time.
        self._since, self._since_time, self._waited = NOTHING, time.monotonic(), 0.0

    def _share_done(self) -> str:
        return f"{self._done / max(self._total, 1):.0%}"


class _Bar:
    """A line that is written over and over: samples done, samples/s, time left."""

    def __init__(self, total: int) -> None:
        self._bars = bars.Progress(
            bars.TextColumn("training"), bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[details]}"),
            console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._task = self._bars.add_task("training", total=total, details="")

    def show(self, done: int, speed: float, losses: Mapping[str, float]) -> None:
        details = [f"{speed:,.0f} samples/s", *(f"{task} {loss:.4f}" for task, loss in losses.items())]
        self._bars.start()
        self._bars.update(self._task, completed=done, details="  ".join(details))

    def stop(self) -> None:
        self._bars.stop()


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


def _aucs(metrics: Mapping[str, Result]) -> dict[str, str | None]:
    return {f"auc_{task}": None if (auc := result["auc"]) is None else f"{auc:.4f}"
            for task, result in metrics.items()}  # fmt: skip


def _warn_of_collapse(metrics: Mapping[str, Result], where: str, epoch: int) -> None:
    """Say so where pCVR has gone down to nothing on the clicked rows that it is about."""
    cvr = metrics.get("cvr", {})
    predicted, bought = cvr.get("mean_prediction"), cvr.get("mean_label")
    if predicted is not None and bought is not None and predicted < COLLAPSED * bought:
        log.warning("pCVR has collapsed", on=f"{where} samples", epoch=epoch,
                    mean_pcvr_of_clicked=f"{predicted:.5f}", purchases_of_clicked=f"{bought:.5f}")  # fmt: skip
