"""Which checkpoints no run goes on from, and what became of the run that they are of.

    finish("build/demo/training/checkpoints", run="5be1…", model="20260325T010400.813274-9f3a11c2")
    finished("build/demo/training/checkpoints").model       # that version: the run is not done a second time
    give_up("build/demo/training/checkpoints")              # `train --fresh`: what is there counts no more

One file beside the checkpoints, written in one step. No TensorFlow here: launchers give up, before ranks are started.
"""

import pydantic

from esmm import storage, versions
from esmm.config import Config
from esmm.files import write_atomically

_FILE = "finished.json"


class Finished(pydantic.BaseModel):
    """The newest checkpoint of a run that is over, and its model."""

    model_config = pydantic.ConfigDict(frozen=True)

    checkpoint: str = ""
    run: str = ""
    """The digest of the run; none where it was given up."""
    model: str = ""


def checkpoints_of(config: Config) -> str:
    """Where a run keeps its checkpoints."""
    return f"{config.training.directory}/checkpoints"


def finished(root: str) -> Finished:
    """What was noted last; of nothing where nothing was."""
    fs, path = storage.at(root)
    try:
        return Finished.model_validate_json(fs.cat_file(f"{path}/{_FILE}"))
    except (FileNotFoundError, pydantic.ValidationError):
        return Finished()


def finish(root: str, *, run: str, model: str) -> None:
    """Note that a run, whose last checkpoint is the newest one, has published its model."""
    _write(root, Finished(checkpoint=_newest(root), run=run, model=model))


def give_up(root: str) -> None:
    """Note that no run goes on from the checkpoints that there are."""
    _write(root, Finished(checkpoint=_newest(root)))


def _newest(root: str) -> str:
    return max(versions.complete(root), default="")


def _write(root: str, found: Finished) -> None:
    fs, path = storage.at(root)
    write_atomically(fs, f"{path}/{_FILE}", found.model_dump_json().encode())
