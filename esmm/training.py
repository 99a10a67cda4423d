"""Training: epochs of steps over the reading plan, on one rank of one or many.

    result = train(config, plan, Alone(), days)         # or HorovodExchange(), the same on every rank
    result["version"]                                   # the model, published in config.scoring.models

A run goes on by itself where an earlier one broke off, and one that has published its model is not done again
(`esmm.runs` says when two are the same). Rank 0 alone reads and writes checkpoints, but for the rows of
tables that are spread over ranks, of which each has its own; what else they hold reaches the others by Horovod.
"""

import datetime as dt
import platform
import time
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import structlog
import tensorflow as tf

from esmm import calibration, fitting, models, optimizers, placing, runs, spread
from esmm.checkpoints import Best, Checkpoints, Outcome, State
from esmm.config import Config
from esmm.delivery import Delivery
from esmm.early_stopping import judged, score
from esmm.epochs import Epoch, Position
from esmm.errors import DataError
from esmm.feeding import Fed, feed, reading
from esmm.fitted import Fitted
from esmm.layers.ways import holding
from esmm.metrics import Metrics, Result
from esmm.plan import ReadingPlan
from esmm.progress import Progress, Totals
from esmm.reader import Load
from esmm.runs import RunResult
from esmm.schedules import scheduled
from esmm.step import Signals, Stepped, make_step
from esmm.validation import LABELS, Validation, summed

if TYPE_CHECKING:
    from esmm.distributed.exchange import Exchange

log = structlog.get_logger()


def train(
    config: Config,
    plan: ReadingPlan,
    exchange: "Exchange",
    days: Sequence[dt.date] = (),
    validation: ReadingPlan | None = None,
) -> RunResult:
    """Train the config's model on a plan's samples and, on rank 0, publish it.

    Args:
        config: the whole of it; `training.ranks` does not count here, `exchange.size` does.
        plan: what to read, the same on every rank.
        exchange: the ranks.
        days: the days that the samples are of, for the model's manifest.
        validation: samples to measure the model on after each epoch.

    Raises:
        DataError: a loss or gradient is not finite (the step is named), or a file cannot be read; on every rank
            the same.
        ConfigError: early stopping or calibration is asked for without samples to validate on.
    """
    runs.check(config, validation)
    run = runs.digest(config, plan, validation)
    published = exchange.broadcast_object(runs.published(config, run) if exchange.rank == 0 else None)
    if published is not None:
        log.info("trained before", model=published["version"])
        return published
    fitted = fitting.fit(config, plan, exchange, run)
    with reading(config) as load:
        return _Run(config, plan, exchange, validation, load, run, fitted).train(days)


class _Run:
    def __init__(
        self,
        config: Config,
        plan: ReadingPlan,
        exchange: "Exchange",
        validation: ReadingPlan | None,
        load: Load,
        run: str,
        fitted: Fitted,
    ) -> None:
        self._config, self._plan, self._exchange, self._load = config, plan, exchange, load
        self._digest, self._fitted = run, fitted
        ways = placing.chosen(config, plan, exchange, fitted)
        self._model = models.make(config, fitted=fitted, hold=holding(exchange, ways))
        self._traffic = placing.Traffic(self._model, ways, exchange.size)
        self._optimizer = optimizers.make(
            self._model.trainable_variables,
            config.training.optimizer,
            self._model.shards.values(),
            exchange.total,
        )
        self._measured = _Measured()
        self._step = make_step(self._model, self._optimizer, exchange, config)
        self._validation = (
            None if validation is None else Validation(config, validation, self._model, exchange, load)
        )
        self._delivery = Delivery(config, self._model, exchange, load, self._validation, validation or plan)
        settings = config.training
        parts = {"model": self._model, "optimizer": self._optimizer, "measured": self._measured}
        self._checkpoints = Checkpoints(
            runs.checkpoints_of(config),
            parts,
            settings.checkpoints.keep,
            exchange,
            spread.of(self._model, self._optimizer, exchange),
        )
        self._saved_at = time.monotonic()
        self._progress = Progress(config, plan.rows) if exchange.rank == 0 else None

    def train(self, days: Sequence[dt.date]) -> RunResult:
        try:
            state = self._start()
            while not state.is_over:
                if state.is_judged:
                    state = self._epoch(state)
                    if self._validation is not None:  # which can take long, and fail
                        self._save(state, Metrics())
                state = self._judge(state)
            return self._publish(state, days)
        finally:
            if self._progress:
                self._progress.stop()

    def _start(self) -> State:
        """Where to begin, and all variables as they are there, on every rank."""
        exchange, settings = self._exchange, self._config.training
        state = self._checkpoints.resume(self._digest) or State(run=self._digest)
        # Equal seeds give equal variables, but for the last bit where hosts' processors differ.
        exchange.broadcast([*self._model.variables, *self._optimizer.variables])
        position = state.position
        whole = self._reads(Position())
        # What it would have taken these ranks to come here.
        done = (position.epoch + 1) * whole.steps - self._reads(position).steps
        self._rate = scheduled(
            settings.optimizer,
            ranks=exchange.size,
            steps=settings.epochs * whole.steps,
            taken=state.step,
            done=done,
        )
        log.info("rank starts", rank=exchange.rank, size=exchange.size, rows=whole.rows(exchange.rank),
                 of=self._plan.rows, host=platform.node())  # fmt: skip
        if self._progress:
            self._progress.start(state.samples)
        return state

    def _epoch(self, state: State) -> State:
        """Train on what is left of an epoch; the state after it, which has yet to be judged."""
        epoch, exchange = self._reads(state.position), self._exchange
        totals = state.totals
        # What all ranks measured before a checkpoint counts once.
        measured = (
            Metrics(self._measured.vector.numpy()) if exchange.rank == 0 and totals.samples else Metrics()
        )
        number = state.step
        exchange.at(number, "training")
        with closing(feed(epoch, self._config, exchange, self._load)) as feeding:
            for taken, fed in enumerate(feeding, 1):
                number = state.step + taken
                stepped, found = self._take(number, fed)
                totals += found
                self._traffic.add(stepped.rows)
                labels = {name: fed.batch[name] for name in LABELS}
                measured.update(**labels, **stepped.predictions)
                told = Signals(*stepped.signals.numpy())
                if self._progress:
                    self._progress.step(number, epoch.number + 1, found, told.waited / exchange.size)
                if told.checkpoint and taken < epoch.steps:
                    # The sums so far count on rank 0 from here on.
                    measured = summed(measured, exchange)
                    self._save(state.within_epoch(number, epoch.after(taken), totals), measured)
                    measured = measured if exchange.rank == 0 else Metrics()
                    exchange.at(number, "training")
        outcome = Outcome(losses=totals.means, metrics=summed(measured, exchange).result())
        if self._progress:
            self._progress.epoch(number, epoch.number + 1, outcome.losses, outcome.metrics)
        return state.after_epoch(number, totals, outcome)

    def _take(self, number: int, fed: Fed) -> tuple[Stepped, Totals]:
        """One step; raises, on all ranks at once, what keeps one of them from it."""
        self._exchange.at(number, "training")
        self._optimizer.learning_rate.assign(self._rate(number))
        if fed.error is not None:
            log.error("cannot read", rank=self._exchange.rank, host=platform.node(), error=str(fed.error))
        signals = Signals(float(fed.error is not None), float(self._checkpoint_is_due(number)), fed.waited)
        stepped = self._step(fed.batch, tf.constant(number, tf.int64), tf.constant(signals))
        if float(stepped.signals[0]):
            raise next(filter(None, self._exchange.gather_objects(fed.error)))
        if not bool(stepped.is_sound):
            unfit = [what for what, is_finite in stepped.is_finite.items() if not bool(is_finite)]
            raise DataError(f"training, step {number}", expected="finite losses and gradients",
                            found=f"others in {', '.join(unfit)}")  # fmt: skip
        losses = {task: float(total) for task, total in stepped.losses.items()}
        return stepped, Totals(losses, float(stepped.weight), int(stepped.samples))

    def _judge(self, state: State) -> State:
        """Measure the model of an epoch that is over on the validation samples, say what follows, and save it."""
        epoch, settings = state.position.epoch, self._config.training
        validated = self._validated(state)
        last = state.last.model_copy(update={"validation": validated})
        version, is_over = self._checkpoints.new_version(), epoch == settings.epochs
        state = state.model_copy(update={"last": last, "is_over": is_over, "is_judged": True})
        if settings.early_stopping and validated:
            found = score(settings.early_stopping.metric, validated)
            verdict = judged(
                settings.early_stopping, found, state.best.score if state.best else None, state.stale
            )
            best = (
                Best(epoch=epoch, score=found, checkpoint=version, outcome=last)
                if verdict.is_best
                else state.best
            )
            if verdict.is_over and not is_over and self._exchange.rank == 0:
                log.info("stopping early", epoch=epoch, best=best and best.epoch)
            update = {"best": best, "stale": verdict.stale, "is_over": is_over or verdict.is_over}
            state = state.model_copy(update=update)
        self._save(state, Metrics(), version)
        return state

    def _validated(self, state: State) -> dict[str, Result] | None:
        """Metrics of the validation samples, where there are any."""
        if self._validation is None:
            return None
        self._exchange.at(state.step, "validating")
        validated = self._validation()
        if self._config.training.calibrate:
            calibration.check(validated)
        if self._progress:
            self._progress.validated(state.step, state.position.epoch, validated)
        return validated

    def _save(self, state: State, measured: Metrics, version: str | None = None) -> None:
        """Keep the state, and what was measured of the epoch that is not over."""
        self._saved_at = time.monotonic()
        self._exchange.at(state.step, "saving a checkpoint")
        self._measured.vector.assign(measured.vector)
        self._checkpoints.save(state, version)

    def _publish(self, state: State, days: Sequence[dt.date]) -> RunResult:
        """The last model, or the best one where training stopped for it."""
        outcome, epoch = state.last, state.position.epoch
        if state.best:
            outcome, epoch = state.best.outcome, state.best.epoch
            if state.stale:
                self._checkpoints.restore(state.best.checkpoint, only="model")
                self._exchange.broadcast(self._model.variables)  # which rank 0 alone has restored
        tables = self._traffic.summary()
        if self._exchange.rank == 0 and self._exchange.size > 1:
            placing.log_traffic(tables)
        facts = {
            "days": [str(day) for day in days], "rows": self._plan.rows, "steps": state.step,
            "samples": state.samples, "planned": self._plan.rows * state.position.epoch,
            "ranks": self._exchange.size, "epoch": epoch, "fitted": self._fitted.summary(), "tables": tables,
            "run": self._digest, "last_checkpoint": self._checkpoints.newest,
            **outcome.model_dump(mode="json"),
        }  # fmt: skip
        version = self._delivery(state.step, facts)
        result = None
        if self._exchange.rank == 0:
            assert version is not None
            runs.finish(self._checkpoints.root, run=self._digest, model=version)
            result = runs.result(self._config.scoring.models, version)
        result = self._exchange.broadcast_object(result)
        assert result is not None
        return result

    def _checkpoint_is_due(self, number: int) -> bool:
        settings = self._config.training.checkpoints
        if self._exchange.rank:
            return False
        by_steps = settings.every_steps is not None and number % settings.every_steps == 0
        elapsed = dt.timedelta(seconds=time.monotonic() - self._saved_at)
        return by_steps or (settings.every is not None and elapsed >= settings.every)

    def _reads(self, position: Position) -> Epoch:
        """What all ranks read from a position on."""
        return Epoch(self._plan, ranks=self._exchange.size, batch_size=self._config.training.batch_size,
                     seed=self._config.seed, position=position)  # fmt: skip


class _Measured(tf.Module):
    """What was measured of an epoch that is not over, for a checkpoint to hold."""

    def __init__(self) -> None:
        super().__init__(name="measured")
        self.vector = tf.Variable(tf.zeros(Metrics.SIZE, tf.float64), trainable=False, name="vector")
