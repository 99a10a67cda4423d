"""Checkpoints: all that a run has learnt and where it is, as versions (`esmm.versions`) that count once complete.

    kept = Checkpoints("build/demo/training/checkpoints", {"model": model, "optimizer": optimizer}, keep=3)
    kept.save(State(run=run, step=343, position=epoch.after(343)))
    kept.resume(run)                            # the same State; model and optimizer are as they were

Variables are found by their place in the modules, and each has to be there with its shape. A newest checkpoint that
is damaged is passed over, with a warning that names the file. A run goes on from its own checkpoints alone: one of
other samples, or of another config, begins anew, and so does one that was finished.

Rank 0 alone saves and restores what is the same on all ranks. Of tables that are spread over them each rank keeps its
part (`esmm.spread`), in the same version; then all ranks save, and restore, together.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic
import structlog
import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from esmm import storage, versions
from esmm.epochs import Position
from esmm.errors import DataError
from esmm.metrics import Result
from esmm.progress import Totals
from esmm.runs import finished
from esmm.spread import NOTHING, Spread
from esmm.together import of_each, of_first

if TYPE_CHECKING:
    from esmm.distributed.exchange import Exchange

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
    totals: Totals = Totals({}, 0.0, 0)
    """Of the steps of the epoch that is not over yet."""
    best: Best | None = None
    stale: int = 0
    """Epochs since the best one."""
    is_over: bool = False
    """Whether nothing is left to train."""
    is_judged: bool = True
    """Whether the last epoch was measured on the validation samples, where there are any."""
    last: Outcome = Outcome()
    """Of the last epoch that is over."""

    def within_epoch(self, step: int, position: Position, totals: Totals) -> "State":
        """After a step, of which there are more in the epoch."""
        samples = self.samples - self.totals.samples + totals.samples
        return self.model_copy(
            update={"step": step, "position": position, "samples": samples, "totals": totals}
        )

    def after_epoch(self, step: int, totals: Totals, outcome: Outcome) -> "State":
        """After an epoch's last step; what it has come to has yet to be judged."""
        state = self.within_epoch(step, Position(epoch=self.position.epoch + 1), totals)
        return state.model_copy(update={"totals": Totals({}, 0.0, 0), "last": outcome, "is_judged": False})


class Checkpoints:
    """The checkpoints of a directory, on any storage that fsspec opens, and the modules that they are of."""

    def __init__(
        self,
        root: str,
        parts: Mapping[str, tf.Module],
        keep: int,
        exchange: "Exchange | None" = None,
        spread: Spread = NOTHING,
    ) -> None:
        """Without an exchange, of one process. With one, all ranks call everything together."""
        self.root, self._parts, self._keep = root, parts, keep
        self._exchange, self._spread = exchange, spread
        self.newest = ""
        """The version that was saved or resumed last."""

    def save(self, state: State, version: str | None = None) -> str:
        """Write all variables and the state; returns the version. Older ones than the newest `keep` are removed."""
        version = self.newest = version or self.new_version()
        if not (self._is_first or self._spread):
            return version
        with versions.staged(self.root, version) as directory:
            if self._is_first:
                tf.train.Checkpoint(**self._parts).write(str(directory / _PREFIX))
            self._spread.write(directory)
            stored = versions.upload(self.root, version, directory)
        if self._spread and self._exchange is not None:
            of_all = self._exchange.gather_objects(stored)
            stored = {name: file for of_rank in of_all for name, file in of_rank.items()}
        if self._is_first:
            versions.close(self.root, version, stored, state.model_dump(mode="json"))
            self._remove_older(state)
        return version

    def new_version(self) -> str:
        """A name for the next checkpoint, which sorts after all that there are."""
        version = ""
        if self._is_first:
            version = versions.new_version(after=max(versions.complete(self.root), default=""))
        return version if self._exchange is None else self._exchange.broadcast_object(version)

    def resume(self, run: str) -> State | None:
        """Set the variables to what the newest usable checkpoint holds; its state, None where there is nothing to do.

        That is where there is none, or the newest one is another run's or that of a run that is over.
        """
        for version in reversed(of_first(self._exchange, lambda: versions.complete(self.root))):
            try:
                state = of_first(self._exchange, partial(self._state, version, run))
                if state is None:
                    return None
                directory = self._restored(version, self._parts)
            except DataError as error:
                if self._is_first:
                    log.warning("checkpoint passed over", checkpoint=version, error=str(error))
                versions.forget(version)
                continue
            self._read_spread(version, directory)
            if self._is_first:
                log.info("resuming", checkpoint=version, step=state.step, epoch=state.position.epoch + 1,
                         samples=state.samples)  # fmt: skip
            self.newest = version
            return state
        return None

    def restore(self, version: str, only: str | None = None) -> None:
        """Set the variables of all parts, or of one, to a checkpoint's; of tables that are spread, `rows` is the model.

        Raises DataError, on all ranks, where a file of it, which is then named, is not what was saved.
        """
        parts = {name: part for name, part in self._parts.items() if only in (None, name)}
        self._read_spread(version, self._restored(version, parts), only and "rows")

    def _restored(self, version: str, parts: Mapping[str, tf.Module]) -> Path:
        """Where a checkpoint's files are, once all have been compared, and rank 0's variables are set to theirs."""
        if self._spread:
            directory = of_each(
                self._exchange, lambda: versions.fetch(self.root, version, share=self._share())
            )
        else:
            directory = of_first(self._exchange, lambda: versions.fetch(self.root, version))
        of_first(self._exchange, lambda: self._restore(version, directory, parts))
        return directory

    def _read_spread(self, version: str, directory: Path, only: str | None = None) -> None:
        if self._spread:
            of_each(self._exchange, lambda: self._spread.read(directory, only))
        versions.forget(version)  # a copy on this host's disk, which none of its ranks reads any more

    def _share(self) -> tuple[int, int]:
        """Of the ranks that look at the same files, which one this is, and how many."""
        if self._exchange is None:
            return 0, 1
        if storage.is_local(storage.at(self.root)[0]):
            return self._exchange.rank, self._exchange.size
        return self._exchange.local_rank, self._exchange.local_size  # each host has a copy

    def _restore(self, version: str, directory: Path, parts: Mapping[str, tf.Module]) -> None:
        prefix, checkpoint = str(directory / _PREFIX), tf.train.Checkpoint(**parts)
        try:
            held = _held(prefix, checkpoint)
            for variable in (variable for part in parts.values() for variable in part.variables):
                # Reading would set the others before it found the one that does not fit.
                if held.get(variable.ref()) != (variable.dtype, variable.shape):
                    raise ValueError(
                        f"no {variable.name} of {variable.dtype.name} {variable.shape.as_list()}"
                    )
            checkpoint.read(prefix).assert_existing_objects_matched()
        except (tf.errors.OpError, ValueError, AssertionError) as error:
            first, *_ = str(error).splitlines()
            raise DataError(
                f"{self.root}/{version}", expected="this model's variables", found=first
            ) from None

    @property
    def _is_first(self) -> bool:
        return self._exchange is None or self._exchange.rank == 0

    def _state(self, version: str, run: str) -> State | None:
        """What a checkpoint states of a run; None where it is of another one, or of one that is over."""
        facts = versions.manifest(self.root, version).facts
        try:
            state = State.model_validate(facts)
        except pydantic.ValidationError as error:
            where, first = f"{self.root}/{version}", error.errors()[0]["msg"]
            raise DataError(where, expected="a checkpoint's manifest", found=first) from None
        if state.run == run and version > finished(self.root).checkpoint:
            return state
        of = "a run that is over" if state.run == run else "another config or other samples"
        log.info("starting anew", checkpoint=version, of=of)
        return None

    def _remove_older(self, state: State) -> None:
        oldest = versions.complete(self.root)[-self._keep :][0]
        best = state.best.checkpoint if state.best else None
        for version in versions.begun(self.root):
            if version < oldest and version != best:
                versions.remove(self.root, version)


def _held(prefix: str, checkpoint: tf.train.Checkpoint) -> dict[Any, tuple[tf.DType, tf.TensorShape]]:
    """Of the variables, by their references, those that a file holds, with their types and shapes there."""
    reader = tf.train.load_checkpoint(prefix)
    types, shapes = reader.get_variable_to_dtype_map(), reader.get_variable_to_shape_map()
    graph = TrackableObjectGraph.FromString(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
    found = {}
    for node, matched in tf.train.CheckpointView(prefix).match(checkpoint).items():
        if isinstance(matched, tf.Variable):
            key = graph.nodes[node].attributes[0].checkpoint_key
            found[matched.ref()] = types[key], tf.TensorShape(shapes[key])
    return found
