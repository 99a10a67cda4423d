"""One step of training: the batches of all ranks to one update of the model.

    step = make_step(model, optimizer, exchange, config)
    stepped = step(batch, tf.constant(1, tf.int64), NO_SIGNALS)
    stepped.losses["ctr"] / stepped.weight       # the mean over all ranks' rows, before the update

Exactness: gradients are sums over the batches of all ranks, divided by the sum of their weights. So N ranks of
batch B train like one of batch N × B, rows of weight 0 give no gradient, and a step of such rows alone changes
nothing. Everything that ranks have to agree on travels with the gradients' sum: no rank decides anything alone.
"""

from typing import TYPE_CHECKING, NamedTuple, Protocol

import tensorflow as tf

from esmm.config import Config
from esmm.layers.tables import Batch
from esmm.models import Model
from esmm.optimizers import Optimizer

if TYPE_CHECKING:
    from esmm.distributed.exchange import Exchange


class Signals(NamedTuple):
    """What a rank tells the others along with its gradients; of a step, the sums over ranks."""

    failed: float
    """1 from a rank that could not read its batch."""
    checkpoint: float
    """1 from a rank that wants a checkpoint after this step."""
    waited: float
    """Seconds that the rank waited for its batch."""


NO_SIGNALS = Signals(0.0, 0.0, 0.0)


class Stepped(NamedTuple):
    """What comes out of a step: but for the predictions, the same on all ranks."""

    losses: dict[str, tf.Tensor]
    """By task, the loss summed by weight over all ranks."""
    weight: tf.Tensor
    """The weight of all ranks' batches."""
    samples: tf.Tensor
    """Their rows of a weight above 0."""
    signals: tf.Tensor
    """[3]: the sums of all ranks' signals."""
    is_sound: tf.Tensor
    """Whether all losses and gradients are finite; where not, nothing was updated."""
    is_finite: dict[str, tf.Tensor]
    """By loss and variable, whether it, or its gradient, is."""
    predictions: dict[str, tf.Tensor]
    """This rank's pctr, pcvr and pctcvr, [b] each, before the update."""
    rows: dict[str, tf.Tensor]
    """By table, how many rows this rank's batch uses."""


class Step(Protocol):
    """A batch, the step's number and this rank's signals to an update."""

    def __call__(self, batch: Batch, number: tf.Tensor, signals: tf.Tensor | Signals) -> Stepped:
        """Every rank takes it together."""


def make_step(model: Model, optimizer: Optimizer, exchange: "Exchange", config: Config) -> Step:
    """The step that updates a model by the batches of all ranks."""
    tables, dense = model.tables, model.dense_variables
    float_type = model.dtype
    rank_seed = tf.random.experimental.stateless_fold_in(
        tf.constant([config.seed, 0], tf.int64), exchange.rank
    )
    task_weights = config.model.tasks

    @tf.function(autograph=False)
    def step(batch: Batch, number: tf.Tensor, signals: tf.Tensor) -> Stepped:
        # What all ranks' batches weigh, which gradients are divided by.
        weight = tf.reduce_sum(tf.cast(batch["weight"], float_type))
        samples = tf.reduce_sum(tf.cast(batch["weight"] > 0, float_type))
        weight, samples, told = exchange.sum([weight, samples, tf.cast(signals, float_type)])

        # Forward: each table's rows in use, gathered once, and what the towers make of them.
        look_ups = model.look_up(batch)
        in_use = {name: look_up.rows.values_ud for name, look_up in look_ups.items()}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch((dense, in_use))
            training_seed = tf.random.experimental.stateless_fold_in(rank_seed, number)
            logits = model(batch, look_ups, training_seed)
            losses = model.losses(batch, logits)
            loss = tf.add_n([task_weights[task] * each for task, each in losses.items()])

        # Backward: of the mean, by the dense variables, and by the rows in use.
        gradients, by_row = tape.gradient(
            loss, (dense, in_use), tf.math.reciprocal_no_nan(weight), tf.UnconnectedGradients.ZERO
        )

        # Sums over ranks. Of a table that is spread over them nobody sees all rows: each says if its own are sound.
        unfit = [tf.cast(~_is_finite(values_ud), float_type) for values_ud in by_row.values()]
        summed = iter(exchange.sum([*gradients, *losses.values(), *unfit]))
        by_dense = [(variable, next(summed)) for variable in dense]
        losses = {task: next(summed) for task in losses}
        is_finite = {
            **{f"loss {task}": _is_finite(total) for task, total in losses.items()},
            **{_gradient_of(variable): _is_finite(gradient) for variable, gradient in by_dense},
            **{_gradient_of(tables[name].weights): next(summed) == 0 for name in by_row},
        }
        by_table = [(tables[name].weights, look_ups[name].total(by_row[name])) for name in by_row]

        # Update.
        is_sound = tf.reduce_all([*is_finite.values()])
        tf.cond(is_sound & (weight > 0), lambda: optimizer.step(by_dense, by_table), tf.no_op)
        rows = {name: tf.size(look_up.rows.indices_u) for name, look_up in look_ups.items()}
        return Stepped(losses, weight, samples, told, is_sound, is_finite, model.predictions(logits), rows)

    return step


def _is_finite(values: tf.Tensor) -> tf.Tensor:
    # Of their sum, in one pass over them: what is infinite or NaN stays so in it, and no gradient of use overflows it.
    return tf.math.is_finite(tf.reduce_sum(values))


def _gradient_of(variable: tf.Variable) -> str:
    return f"gradient of {variable.name.partition(':')[0]}"
