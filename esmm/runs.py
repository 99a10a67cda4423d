"""Runs of training: what makes two the same, what they come to, and which are over.

    run = digest(config, plan, None)                          # equal for equal samples, seed and hyper-parameters
    finish("build/demo/training/checkpoints", run=run, model="20260325T010400.813274-9f3a11c2")
    published(config, run)["version"]                         # that model's: the run is not done a second time
    give_up("build/demo/training/checkpoints")                # `train --fresh`: what is there counts no more

What is over is one file beside the checkpoints, written in one step. No TensorFlow here: launchers give up, before
ranks are started.
"""

import hashlib
import json
from typing import TypedDict

import pydantic
import structlog

from esmm import fitted, storage, versions
from esmm.config import Config
from esmm.errors import ConfigError, DataError
from esmm.files import read_whole, write_atomically
from esmm.metrics import Result
from esmm.plan import ReadingPlan

_FILE = "finished.json"

_NOT_OF_A_RUN = (
    "ranks", "batch_size", "checkpoints", "failure", "reader_threads", "cache", "cache_gib", "threads", "directory",
    "log_every", "start_timeout", "stall_warning", "nics",
)  # fmt: skip
"""Settings of `training` that a run may go on with when they are others."""

log = structlog.get_logger()


class RunResult(TypedDict):
    """What a run came to; equal on all ranks."""

    version: str
    """The model's."""
    steps: int
    samples: int
    """Samples of a weight above 0 that were used, repeated epochs included."""
    planned: int
    """Samples that the plan holds, times the epochs that were trained: `samples`, where all have a weight."""
    losses: dict[str, float]
    """By task, the last epoch's mean."""
    metrics: dict[str, Result]
    """By task, of the last epoch's samples, each predicted before it was learnt from."""
    validation: dict[str, Result] | None
    """By task, of the validation samples after the epoch whose model was kept."""


class Finished(pydantic.BaseModel):
    """The newest checkpoint of a run that is over, and its model."""

    model_config = pydantic.ConfigDict(frozen=True)

    checkpoint: str = ""
    run: str = ""
    """The digest of the run; none where it was given up."""
    model: str = ""


def digest(config: Config, plan: ReadingPlan, validation: ReadingPlan | None) -> str:
    """What makes two runs the same: what they learn, from what and how, but not by how many ranks and where."""
    of_training = config.training.model_dump(mode="json", exclude=set(_NOT_OF_A_RUN))
    values = config.model_dump(
        mode="json", include={"seed", "features", "embeddings", "lists", "bags", "statistics", "model"}
    )
    plans = [None if one is None else one.model_dump(mode="json") for one in (plan, validation)]
    text = json.dumps([values, of_training, plans], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check(config: Config, validation: ReadingPlan | None) -> None:
    """Raise ConfigError where early stopping or calibration is asked for without samples to validate on."""
    for key in ("early_stopping", "calibrate"):
        if getattr(config.training, key) and validation is None:
            raise ConfigError(f"training.{key}", expected="samples to validate on (--validate)", found="none")


def checkpoints_of(config: Config) -> str:
    """Where a run keeps its checkpoints."""
    return f"{config.training.directory}/checkpoints"


def finished(root: str) -> Finished:
    """What was noted last; of nothing where nothing was."""
    fs, path = storage.at(root)
    try:
        return Finished.model_validate_json(read_whole(fs, f"{path}/{_FILE}"))
    except (FileNotFoundError, pydantic.ValidationError):
        return Finished()


def finish(root: str, *, run: str, model: str) -> None:
    """Note that a run, whose last checkpoint is the newest one, has published its model."""
    _write(root, Finished(checkpoint=_newest(root), run=run, model=model))


def give_up(root: str) -> None:
    """Note that no run goes on from the checkpoints that there are, or with what was learnt for them."""
    fitted.forget(root)
    _write(root, Finished(checkpoint=_newest(root)))


def published(config: Config, run: str) -> RunResult | None:
    """What a run came to that has published its model already, None where there is no such run or model."""
    root, models = checkpoints_of(config), versions.complete(config.scoring.models)
    done = finished(root)
    if done.run == run and done.model in models:
        return result(config.scoring.models, done.model)
    if models and done.checkpoint < _newest(root):
        try:
            facts = versions.manifest(config.scoring.models, models[-1]).facts
        except DataError as error:  # whoever's it is, the run can go on from its checkpoints
            log.warning("newest model passed over", model=models[-1], error=str(error))
            return None
        if (facts.get("run"), facts.get("last_checkpoint")) == (
            run,
            _newest(root),
        ):  # and was killed before it said so
            finish(root, run=run, model=models[-1])
            return result(config.scoring.models, models[-1])
    return None


def result(models: str, version: str) -> RunResult:
    """What the manifest of a model states of its training."""
    facts = versions.manifest(models, version).facts
    keys = ("steps", "samples", "planned", "losses", "metrics", "validation")
    return RunResult(version=version, **{key: facts[key] for key in keys})  # type: ignore[typeddict-item]


def told(result: RunResult) -> str:
    """What a run came to, in a line for a person."""
    missed = result["planned"] - result["samples"]
    if missed > 0:
        balance = f"{missed} fewer than planned (without a weight, or dropped)"
    elif missed < 0:
        balance = f"{-missed} more than planned (repeated)"
    else:
        balance = "0 dropped, 0 repeated"
    return f"model {result['version']}: {result['samples']} samples in {result['steps']} steps, {balance}"


def _newest(root: str) -> str:
    return max(versions.complete(root), default="")


def _write(root: str, found: Finished) -> None:
    fs, path = storage.at(root)
    write_atomically(fs, f"{path}/{_FILE}", found.model_dump_json().encode())
