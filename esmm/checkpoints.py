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
from typing import TYPE_CHECKING, Any

import pydantic
import structlog
import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from esmm import versions
from esmm.epochs import Position
from esmm.errors import DataError
from esmm.metrics import Result
from esmm.progress import Totals
from esmm.runs import finished
from esmm.spread import NOTHING, Spread

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
        found = self._newest(run) if self._is_first else None
        if self._exchange is not None:
            found = self._exchange.broadcast_object(found)
        if found is None:
            return None
        state, version = found
        self.newest = version
        if self._spread:
            self._spread.read(versions.fetch(self.root, version))
        self._forget(version)
        return state

    def _newest(self, run: str) -> tuple[State, str] | None:
        """The newest checkpoint that is a run's and sound; what is the same on all ranks is set to what it holds."""
        for version in reversed(versions.complete(self.root)):
            try:
                state = self._state(version)
                if state.run != run:
                    log.info("starting anew", checkpoint=version, of="another config or other samples")
                    return None
                if version <= finished(self.root).checkpoint:
                    log.info("starting anew", checkpoint=version, of="a run that is over")
                    return None
                self._restore(version, self._parts)
            except DataError as error:
                log.warning("checkpoint passed over", checkpoint=version, error=str(error))
                versions.forget(version)
                continue
            log.info("resuming", checkpoint=version, step=state.step, epoch=state.position.epoch + 1,
                     samples=state.samples)  # fmt: skip
            return state, version
        return None

    def restore(self, version: str, only: str | None = None) -> None:
        """Set the variables of all parts, or of one, to a checkpoint's; of tables that are spread, `rows` is the model.

        Raises DataError where a file of it, which is then named, is not what was saved.
        """
        if self._is_first:
            self._restore(version, {name: part for name, part in self._parts.items() if only in (None, name)})
        if self._spread:
            self._spread.read(versions.fetch(self.root, version), only and "rows")
        self._forget(version)

    def _forget(self, version: str) -> None:
        """Remove a copy on this host's disk, once none of its ranks reads it any more."""
        if self._spread and self._exchange is not None:
            self._exchange.gather_objects(None)
        versions.forget(version)

    def _restore(self, version: str, parts: Mapping[str, tf.Module]) -> None:
        prefix = str(versions.fetch(self.root, version) / _PREFIX)
        checkpoint = tf.train.Checkpoint(**parts)
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
