"""Training: epochs of steps over the reading plan, on one rank of one or many.

    result = train(config, plan, Alone(), days)         # or HorovodExchange(), the same on every rank
    result["version"]                                   # the model, published in config.scoring.models

Exactness: a step's gradients are sums over the batches of all ranks, divided by the sum of their weights. So
N ranks of batch B train like one of batch N × B, rows of weight 0 count for nothing, and a batch that is all
padding is like none.
"""

import datetime as dt
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypedDict

import numpy as np
import structlog
import tensorflow as tf

from esmm import checkpoints, models, rowgroups, schema
from esmm.config import Config
from esmm.dataset import Load, SampleDataset, local_cache, to_tf_dataset
from esmm.epochs import Epoch, Position
from esmm.errors import DataError
from esmm.export import export
from esmm.layers import Batch, Rows
from esmm.metrics import Metrics
from esmm.metrics import Result as TaskResult
from esmm.optimizers import Adagrad, scheduled_rate
from esmm.plan import ReadingPlan
from esmm.progress import NOTHING, Progress, Totals

if TYPE_CHECKING:
    from esmm.distributed.exchange import Exchange

log = structlog.get_logger()

_LABELS = ("click", "purchase", "weight")


class Result(TypedDict):
    """What a run came to; equal on all ranks."""

    version: str
    """The model's."""
    steps: int
    samples: int
    """Samples used, repeated epochs included."""
    losses: dict[str, float]
    """By task, the last epoch's mean."""
    metrics: dict[str, TaskResult]
    """By task, of the last epoch's samples, each predicted before it was learnt from."""


class Stepped(NamedTuple):
    """What comes out of a step."""

    losses: dict[str, tf.Tensor]
    """By task, the loss summed by weight over all ranks."""
    weight: tf.Tensor
    """The weight of all ranks' batches."""
    samples: tf.Tensor
    """Their rows of a weight above 0."""
    failed: tf.Tensor
    """The ranks that could not read a batch."""
    predictions: dict[str, tf.Tensor]
    """This rank's pctr, pcvr and pctcvr, before the update."""


class Step(Protocol):
    """The step: a batch, the step's number and whether (1 or 0) this rank failed to read one, to an update."""

    def __call__(self, batch: Batch, number: tf.Tensor, failed: tf.Tensor | float = 0.0) -> Stepped:
        """Every rank takes it together."""


def make_step(model: models.Model, optimizer: Adagrad, exchange: "Exchange", seed: int) -> Step:
    """The step that updates a model by the batches of all ranks."""
    tables, dense = model.inputs.tables, model.dense_variables
    rank_seed = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0], tf.int64), exchange.rank)

    @tf.function(autograph=False)
    def step(batch: Batch, number: tf.Tensor, failed: tf.Tensor | float = 0.0) -> Stepped:
        # Forward: each table's rows in use, gathered once, and what the towers make of them.
        look_ups = model.inputs.look_up(batch)
        in_use = {name: look_up.rows.values_ud for name, look_up in look_ups.items()}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch((dense, in_use))
            dropout_seed = tf.random.experimental.stateless_fold_in(rank_seed, number)
            logits = model(batch, look_ups, dropout_seed)
            losses = model.losses(batch, logits)
            loss = tf.add_n(list(losses.values()))

        # Backward: by the dense variables, and by the rows in use.
        zero = tf.UnconnectedGradients.ZERO
        gradients, by_row = tape.gradient(loss, (dense, in_use), unconnected_gradients=zero)

        # Sums over ranks.
        weight = tf.reduce_sum(tf.cast(batch["weight"], loss.dtype))
        samples = tf.reduce_sum(tf.cast(batch["weight"] > 0, loss.dtype))
        failures = tf.cast(failed, loss.dtype)
        summed = exchange.sum([*gradients, *losses.values(), weight, samples, failures])
        gradients, (*sums, weight, samples, failures) = summed[: len(dense)], summed[len(dense) :]
        rows = {name: Rows(look_ups[name].rows.indices_u, values_ud) for name, values_ud in by_row.items()}
        rows = exchange.sum_rows(rows)

        # Update, by the mean. Where no row of any rank has a weight, all gradients are 0 and stay so.
        for variable, gradient in zip(dense, gradients, strict=True):
            optimizer.apply(variable, tf.math.divide_no_nan(gradient, weight))
        for name, (indices_u, values_ud) in rows.items():
            mean = Rows(indices_u, tf.math.divide_no_nan(values_ud, weight))
            optimizer.apply_rows(tables[name].weights, mean)
        return Stepped(
            dict(zip(losses, sums, strict=True)), weight, samples, failures, model.predictions(logits)
        )

    return step


def train(config: Config, plan: ReadingPlan, exchange: "Exchange", days: Sequence[dt.date] = ()) -> Result:
    """Train the config's model on a plan's samples and, on rank 0, publish it.

    Args:
        config: the whole of it; `training.ranks` does not count here, `exchange.size` does.
        plan: what to read, the same on every rank.
        exchange: the ranks.
        days: the days that the samples are of, for the model's manifest.

    Raises:
        DataError: a loss is not finite (the step is named), or a file cannot be read; on every rank the same.
    """
    with _reading(config) as load:
        return _train(config, plan, exchange, days, load)


def _train(
    config: Config, plan: ReadingPlan, exchange: "Exchange", days: Sequence[dt.date], load: Load
) -> Result:
    first = _epoch(config, plan, exchange, 0)
    log.info("rank starts", rank=exchange.rank, size=exchange.size, rows=first.rows(exchange.rank),
             of=plan.rows, host=platform.node())  # fmt: skip
    model = models.make(config)
    settings = config.training
    optimizer = Adagrad(model.variables, settings.learning_rate, settings.initial_accumulator)
    # Equal seeds give equal variables, but for the last bit where hosts' processors differ.
    exchange.broadcast([*model.variables, *optimizer.variables])
    step = make_step(model, optimizer, exchange, config.seed)
    progress = Progress(config, plan.rows) if exchange.rank == 0 else None

    number = samples = 0
    steps = settings.epochs * first.steps  # since a rank keeps its row groups
    for epoch in range(settings.epochs):
        totals, measured = NOTHING, Metrics()
        batches = to_tf_dataset(
            _epoch(config, plan, exchange, epoch), schema.training_columns(config),
            rank=exchange.rank, threads=settings.reader_threads, load=load,
        )  # fmt: skip
        for batch, error in _batches_or_error(batches):
            number += 1
            rate = scheduled_rate(settings.schedule, settings.learning_rate, number, steps)
            optimizer.learning_rate.assign(rate)
            stepped = step(batch, tf.constant(number, tf.int64), tf.constant(float(error is not None)))
            if float(stepped.failed):
                raise next(filter(None, exchange.gather_objects(error)))
            found = _totals(number, stepped)
            totals += found
            measured.update(
                **_arrays({name: batch[name] for name in _LABELS}), **_arrays(stepped.predictions)
            )
            if progress:
                progress.step(number, epoch + 1, found)
        [vector] = exchange.sum([tf.constant(measured.vector)])
        metrics = Metrics(vector.numpy()).result()
        samples += totals.samples
        if progress:
            progress.epoch(number, epoch + 1, totals, metrics)
            parts = {"model": model, "optimizer": optimizer}
            position = {"step": number, "epoch": epoch + 1, "samples": samples}
            facts = {**position, "losses": totals.means, "config_digest": config.digest()}
            checkpoints.save(f"{config.training.directory}/checkpoints", parts, facts)

    version = ""
    if exchange.rank == 0:
        facts = {
            "days": [str(day) for day in days], "rows": plan.rows, "steps": number, "ranks": exchange.size,
            "losses": totals.means, "metrics": metrics,
        }  # fmt: skip
        version = export(model, config, config.scoring.models, facts)
    version = exchange.broadcast_object(version)
    return Result(version=version, steps=number, samples=samples, losses=totals.means, metrics=metrics)


def _epoch(config: Config, plan: ReadingPlan, exchange: "Exchange", epoch: int) -> Epoch:
    """What all ranks read in an epoch."""
    return Epoch(plan, ranks=exchange.size, batch_size=config.training.batch_size, seed=config.seed,
                 position=Position(epoch=epoch))  # fmt: skip


def _batches_or_error(batches: SampleDataset) -> Iterator[tuple[Batch, DataError | None]]:
    """The batches; where one cannot be read, padding in its place and why.

    So this rank still takes the step in which it tells the others, who would else wait for it and never learn more
    than that it is gone.
    """
    try:
        for batch in batches:
            yield batch, None
    except DataError as error:
        spec = batches.element_spec
        yield {name: tf.fill(each.shape, tf.cast(schema.ABSENT if each.dtype == tf.int64 else 0, each.dtype))
               for name, each in spec.items()}, error  # fmt: skip


def _reading(config: Config) -> AbstractContextManager[Load]:
    """How row groups are read: anew each time, or by the rank's own cache while the block runs."""
    settings = config.training
    if settings.cache is None:
        return nullcontext(rowgroups.load)
    return local_cache(Path(settings.cache), settings.cache_gib * 2**30)


def _totals(number: int, stepped: Stepped) -> Totals:
    """A step's sums as Python's numbers; raises DataError, on all ranks at once, where one is not finite."""
    losses = {task: float(total) for task, total in stepped.losses.items()}
    if not all(map(math.isfinite, losses.values())):
        raise DataError(f"training, step {number}", expected="finite losses",
                        found=", ".join(f"{task} {total}" for task, total in losses.items()))  # fmt: skip
    return Totals(losses, float(stepped.weight), int(stepped.samples))


def _arrays(tensors: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
