"""Checkpoints: all that a run has learnt and where it is, as versions (`esmm.versions`) that count once complete.

    kept = Checkpoints("build/demo/training/checkpoints", {"model": model, "optimizer": optimizer}, keep=3)
    kept.save(State(run=run, step=343, position=epoch.after(343)))
    kept.resume(run)                            # the same State; model and optimizer are as they were

Variables are found by their place in the modules, and each has to be there with its shape. A newest checkpoint that
is damaged is passed over, with a warning that names the file. A run goes on from its own checkpoints alone: one of
other samples, or of another config, begins anew, and so does one that was finished.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pydantic
import structlog
import tensorflow as tf

from esmm import versions
from esmm.epochs import Position
from esmm.errors import DataError
from esmm.metrics import Result
from esmm.runs import finished

_PREFIX = "state"

log = structlog.get_logger()


class Outcome(pydantic.BaseModel):
    """What an epoch has come to."""

    model_config = pydantic.ConfigDict(frozen=True)

    losses: dict[str, float] = {}
    """By task, the mean by weight."""
    metrics: dict[str, Result] = {}
    """By task, of the epoch's samples, each predicted before it was learnt from."""
    validation: dict[str, Result] | None = None
    """By task, of the validation samples at the epoch's end."""


class Best(pydantic.BaseModel):
    """The best epoch so far."""

    model_config = pydantic.ConfigDict(frozen=True)

    epoch: int
    """Counted from 1."""
    score: float
    """See `esmm.early_stopping`; the higher, the better."""
    checkpoint: str
    """The version that holds its parameters."""
    outcome: Outcome = Outcome()


class State(pydantic.BaseModel):
    """What a run is besides its variables."""

    model_config = pydantic.ConfigDict(frozen=True)

    run: str
    """The digest of what makes the run: config, samples and seed."""
    step: int = 0
    """Steps taken."""
    position: Position = Position()
    """Where in the reading plan."""
    samples: int = 0
    """Samples used so far, repeated epochs included."""
    epoch_losses: dict[str, float] = {}
    """By task, the sum by weight over the steps of the epoch that is not over yet."""
    epoch_weight: float = 0.0
    epoch_samples: int = 0
    best: Best | None = None
    stale: int = 0
    """Epochs since the best one."""
    is_over: bool = False
    """Whether nothing is left to train."""
    is_judged: bool = True
    """Whether the last epoch was measured on the validation samples, where there are any."""
    last: Outcome = Outcome()
    """Of the last epoch that is over."""


class Checkpoints:
    """The checkpoints of a directory, on any storage that fsspec opens, and the modules that they are of."""

    def __init__(self, root: str, parts: Mapping[str, tf.Module], keep: int) -> None:
        self.root, self._parts, self._keep = root, parts, keep

    def save(self, state: State, version: str | None = None) -> str:
        """Write all variables and the state; returns the version. Older ones than the newest `keep` are removed."""
        version = version or self.new_version()
        with tempfile.TemporaryDirectory(prefix="esmm-checkpoint-") as directory:
            tf.train.Checkpoint(**self._parts).write(str(Path(directory) / _PREFIX))
            versions.put(self.root, version, Path(directory), state.model_dump(mode="json"))
        self._remove_older(state)
        return version

    def new_version(self) -> str:
        """A name for the next checkpoint, which sorts after all that there are."""
        return versions.new_version(after=max(versions.complete(self.root), default=""))

    def resume(self, run: str) -> State | None:
        """Set all variables to what the newest usable checkpoint holds; its state, None where there is nothing to do.

        That is where there is none, or the newest one is another run's or that of a run that is over.
        """
        for version in reversed(versions.complete(self.root)):
            try:
                state = self._state(version)
                if state.run != run:
                    log.info("starting anew", checkpoint=version, of="another config or other samples")
                    return None
                if version <= finished(self.root).checkpoint:
                    log.info("starting anew", checkpoint=version, of="a run that is over")
                    return None
                self.restore(version)
            except DataError as error:
                log.warning("checkpoint passed over", checkpoint=version, error=str(error))
                continue
            log.info("resuming", checkpoint=version, step=state.step, epoch=state.position.epoch + 1,
                     samples=state.samples)  # fmt: skip
            return state
        return None

    def restore(self, version: str, only: Sequence[str] = ()) -> None:
        """Set the variables of all parts, or of some, to a checkpoint's.

        Raises DataError where a file of it, which is then named, is not what was saved.
        """
        directory = versions.fetch(self.root, version)
        parts = {name: part for name, part in self._parts.items() if not only or name in only}
        try:
            status = tf.train.Checkpoint(**parts).read(str(directory / _PREFIX))
            status.assert_existing_objects_matched()
        except (tf.errors.OpError, ValueError, AssertionError) as error:
            first, *_ = str(error).splitlines()
            raise DataError(
                f"{self.root}/{version}", expected="this model's variables", found=first
            ) from None

    def _state(self, version: str) -> State:
        facts = versions.manifest(self.root, version).facts
        try:
            return State.model_validate(facts)
        except pydantic.ValidationError as error:
            where, first = f"{self.root}/{version}", error.errors()[0]["msg"]
            raise DataError(where, expected="a checkpoint's manifest", found=first) from None

    def _remove_older(self, state: State) -> None:
        oldest = versions.complete(self.root)[-self._keep :][0]
        best = state.best.checkpoint if state.best else None
        for version in versions.begun(self.root):
            if version < oldest and version != best:
                versions.remove(self.root, version)
