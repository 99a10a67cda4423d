"""What benchmarks/bench_train.py measures, each in a process of its own: samples a second in a steady state.

    python -m benchmarks.train_speed towers --batch 4096
    python -m benchmarks.train_speed resident --set model.precision=bfloat16
    python -m benchmarks.train_speed parquet
    horovodrun -np 2 python -m benchmarks.train_speed resident --ranks 2 --core

`towers` are two separate MLPs of the model's widths on inputs that are there: forward, backward and Adagrad, nothing
else; `towers_with_inputs` the same with the gradient by the inputs, which whatever is below towers needs. `resident`
takes the project's own steps on batches that are there, `parquet` on those that its reader brings. `ids` looks at what
Horovod would send of the tables by itself, of two ranks.
"""

import itertools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, NamedTuple

import psutil
import structlog
import tensorflow as tf
import typer

from benchmarks import sample_rows
from benchmarks.harness import ROOT
from esmm import config as configs
from esmm import models, optimizers, placing, schema
from esmm.config import Config
from esmm.dataset import to_tf_dataset
from esmm.distributed.exchange import Alone, Exchange, HorovodExchange
from esmm.distributed.runtime import set_up_tensorflow
from esmm.epochs import Epoch, Position
from esmm.fitted import NOTHING
from esmm.layers.tables import Batch
from esmm.layers.ways import holding
from esmm.plan import ReadingPlan, make_plan
from esmm.step import NO_SIGNALS, make_step

ROWS, FILE = ROOT / "build/bench/rows", ROOT / "benchmarks/reference.yaml"
RESIDENT = 16
"""Batches that are there: more than caches hold."""
WARM, SAMPLES = 41_000, 205_000
"""Samples before time is taken, and while it is."""

Step = Callable[[Batch], object]


class Measured(NamedTuple):
    """What is measured."""

    step: Step
    batches: Iterator[Batch]
    sent: Callable[[], float]
    """Bytes of tables that this rank sends a step."""


def main(
    what: str,
    batch: int = 4096,
    ranks: Annotated[int, typer.Option(help="Under horovodrun.")] = 1,
    core: Annotated[
        bool, typer.Option("--core", help="Keep each rank to one core, of its own where there are enough.")
    ] = False,
    overrides: Annotated[list[str] | None, typer.Option("--set")] = None,
) -> None:
    """Measure one thing and, on rank 0, print the samples a second of all ranks as JSON."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if core:
        # Before Horovod starts: a thread stays where the one was that made it, and Horovod's own do a rank's work, too.
        cores, rank = sorted(os.sched_getaffinity(0)), int(os.environ.get("HOROVOD_RANK", "0"))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    exchange: Exchange = HorovodExchange() if ranks > 1 else Alone()
    config = configs.load(FILE, [f"training.batch_size={batch}", *(overrides or ())])
    set_up_tensorflow(config.training, 1)
    if what == "ids":
        found = {"table bytes": bytes_of_ids(config)}
    else:
        step, batches, sent = MEASURED[what](config, exchange)
        steps = SAMPLES // batch
        seconds, wire = timed(step, batches, WARM // batch, steps)
        found = {"samples/s": exchange.size * batch * steps / seconds}
        if exchange.size > 1:
            found |= {"table bytes": sent(), "wire bytes": wire / steps / exchange.size}
    if exchange.rank == 0:
        print(json.dumps(found), flush=True)


def timed(step: Step, batches: Iterator[Batch], warm: int, steps: int) -> tuple[float, int]:
    """Seconds of some steps after `warm` ones, and what went over this machine's loopback meanwhile, in bytes.

    As many steps on every rank, since ranks wait for each other.
    """
    for _ in range(warm):
        step(next(batches))
    start, sent = time.perf_counter(), psutil.net_io_counters(pernic=True)["lo"].bytes_sent
    for _ in range(steps):
        step(next(batches))
    return time.perf_counter() - start, psutil.net_io_counters(pernic=True)["lo"].bytes_sent - sent


def resident(config: Config, exchange: Exchange) -> Measured:
    """The project's step, on the first batches over and over."""
    measured = parquet(config, exchange)
    there = [
        {name: tf.identity(values) for name, values in next(measured.batches).items()}
        for _ in range(RESIDENT)
    ]
    return measured._replace(batches=itertools.cycle(there))


def parquet(config: Config, exchange: Exchange) -> Measured:
    """The project's step, on what its reader brings, epoch after epoch."""
    plan = make_plan(str(sample_rows.made_in(ROWS)), None, sample_rows.COLUMNS)
    ways = placing.chosen(config, plan, exchange, NOTHING)
    model = models.make(config, hold=holding(exchange, ways))
    traffic = placing.Traffic(model, ways, exchange.size)
    optimizer = optimizers.make(model.trainable_variables, config.training.optimizer)
    take = make_step(model, optimizer, exchange, config)
    numbers = itertools.count(1)

    def step(batch: Batch) -> None:
        stepped = take(batch, tf.constant(next(numbers), tf.int64), tf.constant(NO_SIGNALS))
        traffic.add(stepped.rows)  # as training does, which looks at what came out before it goes on

    def sent() -> float:
        return sum(each["bytes"] for each in traffic.summary().values())

    return Measured(step, _read(config, exchange, plan), sent)


def bytes_of_ids(config: Config) -> float:
    """Bytes that one of two ranks sends of a batch when each id has a row of the gradient, as `tf.gather`'s has.

    Horovod gathers values and indices of such gradients as they are; the mean over the first batches.
    """
    plan = make_plan(str(sample_rows.made_in(ROWS)), None, sample_rows.COLUMNS)
    table_of, batches = schema.tables_of(config), _read(config, Alone(), plan)
    of_batch = [
        sum(
            int(tf.math.count_nonzero(batch[column] >= 0)) * (4 * config.embeddings[table].dim + 8)
            for column, table in table_of.items()
        )
        for batch in itertools.islice(batches, RESIDENT)
    ]
    return sum(of_batch) / len(of_batch)


def _read(config: Config, exchange: Exchange, plan: ReadingPlan) -> Iterator[Batch]:
    for number in itertools.count():
        epoch = Epoch(plan, ranks=exchange.size, batch_size=config.training.batch_size, seed=1,
                      position=Position(epoch=number))  # fmt: skip
        yield from to_tf_dataset(epoch, schema.training_columns(config), rank=exchange.rank)


def towers(config: Config, _exchange: Exchange, by_inputs: bool = False) -> Measured:
    """Two MLPs alone, written as plainly as TensorFlow allows."""
    width, dtype = models.make(config).width, tf.as_dtype(config.model.precision)
    widths = (width, *config.model.towers, 1)
    variables = [
        [(tf.Variable(tf.random.normal(shape, stddev=(2 / shape[0]) ** 0.5)), tf.Variable(tf.zeros(shape[1])))
         for shape in itertools.pairwise(widths)]
        for _ in range(2)
    ]  # fmt: skip
    flat = [each for tower in variables for layer in tower for each in layer]
    sums = [tf.Variable(tf.fill(each.shape, 0.1)) for each in flat]

    @tf.function(autograph=False)
    def step(batch: Batch) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(batch["x"])
            logits = []
            for tower in variables:
                x = tf.cast(batch["x"], dtype)
                for layer, (kernel, bias) in enumerate(tower):
                    x = x @ tf.cast(kernel, dtype) + tf.cast(bias, dtype)
                    x = tf.nn.relu(x) if layer < len(tower) - 1 else x
                logits.append(tf.cast(x[:, 0], tf.float32))
            losses = [tf.nn.sigmoid_cross_entropy_with_logits(batch["y"], logit) for logit in logits]
            loss = tf.reduce_mean(tf.add_n(losses))
        *gradients, by_x = tape.gradient(loss, [*flat, batch["x"]])
        for variable, accumulator, gradient in zip(flat, sums, gradients, strict=True):
            tf.raw_ops.ResourceApplyAdagradV2(var=variable.handle, accum=accumulator.handle, lr=0.01, epsilon=0.0,
                                              grad=gradient)  # fmt: skip
        # What nobody asks for is not computed.
        return loss + tf.reduce_sum(by_x) if by_inputs else loss

    rows = config.training.batch_size
    there = [
        {"x": tf.random.normal((rows, width)), "y": tf.cast(tf.random.uniform((rows,)) < 0.04, tf.float32)}
        for _ in range(RESIDENT)
    ]
    return Measured(lambda batch: float(step(batch)), itertools.cycle(there), lambda: 0.0)


MEASURED: dict[str, Callable[[Config, Exchange], Measured]] = {
    "towers": towers,
    "towers_with_inputs": partial(towers, by_inputs=True),
    "resident": resident,
    "parquet": parquet,
}


if __name__ == "__main__":
    typer.run(main)
