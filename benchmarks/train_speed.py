"""What benchmarks/bench_train.py measures, each in a process of its own: samples a second in a steady state.

    python -m benchmarks.train_speed towers --batch 4096
    python -m benchmarks.train_speed resident --precision bfloat16
    python -m benchmarks.train_speed parquet
    horovodrun -np 2 python -m benchmarks.train_speed resident --ranks 2 --core

`towers` are two separate MLPs of the model's widths on inputs that are there: forward, backward and Adagrad, nothing
else. `resident` takes the project's own steps on batches that are there, `parquet` on those that its reader brings.
"""

import itertools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Annotated

import structlog
import tensorflow as tf
import typer

from benchmarks import sample_rows
from benchmarks.harness import ROOT
from esmm import config as configs
from esmm import models, optimizers, schema
from esmm.config import Config
from esmm.dataset import to_tf_dataset
from esmm.distributed.exchange import Alone, Exchange, HorovodExchange
from esmm.distributed.runtime import set_up_tensorflow
from esmm.epochs import Epoch, Position
from esmm.layers.tables import Batch
from esmm.plan import make_plan
from esmm.step import NO_SIGNALS, make_step

ROWS, FILE = ROOT / "build/bench/rows", ROOT / "benchmarks/reference.yaml"
RESIDENT = 16
"""Batches that are there: more than caches hold."""
WARM, SAMPLES = 82_000, 328_000
"""Samples before time is taken, and while it is."""

Step = Callable[[Batch], object]


def main(
    what: str,
    batch: int = 4096,
    ranks: Annotated[int, typer.Option(help="Under horovodrun.")] = 1,
    core: Annotated[bool, typer.Option("--core", help="Keep each rank to one core of its own.")] = False,
    overrides: Annotated[list[str] | None, typer.Option("--set")] = None,
) -> None:
    """Measure one thing and, on rank 0, print the samples a second of all ranks as JSON."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    exchange: Exchange = HorovodExchange() if ranks > 1 else Alone()
    if core:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[exchange.rank]})
    config = configs.load(FILE, [f"training.batch_size={batch}", *(overrides or ())])
    set_up_tensorflow(config.training, 1)
    step, batches = {"towers": towers, "resident": resident, "parquet": parquet}[what](config, exchange)
    rate = exchange.size * batch * steps_a_second(step, batches, WARM // batch, SAMPLES // batch)
    if exchange.rank == 0:
        print(json.dumps({"samples/s": rate}), flush=True)


def steps_a_second(step: Step, batches: Iterator[Batch], warm: int, timed: int) -> float:
    """Of `timed` steps after `warm` ones: as many on every rank, since ranks wait for each other."""
    for _ in range(warm):
        step(next(batches))
    start = time.perf_counter()
    for _ in range(timed):
        step(next(batches))
    return timed / (time.perf_counter() - start)


def resident(config: Config, exchange: Exchange) -> tuple[Step, Iterator[Batch]]:
    """The project's step, on the first batches over and over."""
    whole, batches = parquet(config, exchange)
    there = [{name: tf.identity(values) for name, values in next(batches).items()} for _ in range(RESIDENT)]
    return whole, itertools.cycle(there)


def parquet(config: Config, exchange: Exchange) -> tuple[Step, Iterator[Batch]]:
    """The project's step, on what its reader brings, epoch after epoch."""
    model = models.make(config)
    optimizer = optimizers.make(model.trainable_variables, config.training.optimizer)
    take = make_step(model, optimizer, exchange, config)
    numbers = itertools.count(1)

    def step(batch: Batch) -> None:
        stepped = take(batch, tf.constant(next(numbers), tf.int64), tf.constant(NO_SIGNALS))
        float(stepped.weight)  # as training does, which looks at what came out before it goes on

    return step, _read(config, exchange)


def _read(config: Config, exchange: Exchange) -> Iterator[Batch]:
    plan = make_plan(str(sample_rows.made_in(ROWS)), None, sample_rows.COLUMNS)
    for number in itertools.count():
        epoch = Epoch(plan, ranks=exchange.size, batch_size=config.training.batch_size, seed=1,
                      position=Position(epoch=number))  # fmt: skip
        yield from to_tf_dataset(epoch, schema.training_columns(config), rank=exchange.rank)


def towers(config: Config, _exchange: Exchange) -> tuple[Step, Iterator[Batch]]:
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
            logits = []
            for tower in variables:
                x = tf.cast(batch["x"], dtype)
                for layer, (kernel, bias) in enumerate(tower):
                    x = x @ tf.cast(kernel, dtype) + tf.cast(bias, dtype)
                    x = tf.nn.relu(x) if layer < len(tower) - 1 else x
                logits.append(tf.cast(x[:, 0], tf.float32))
            losses = [tf.nn.sigmoid_cross_entropy_with_logits(batch["y"], logit) for logit in logits]
            loss = tf.reduce_mean(tf.add_n(losses))
        for variable, accumulator, gradient in zip(flat, sums, tape.gradient(loss, flat), strict=True):
            tf.raw_ops.ResourceApplyAdagradV2(var=variable.handle, accum=accumulator.handle, lr=0.01, epsilon=0.0,
                                              grad=gradient)  # fmt: skip
        return loss

    rows = config.training.batch_size
    there = [
        {"x": tf.random.normal((rows, width)), "y": tf.cast(tf.random.uniform((rows,)) < 0.04, tf.float32)}
        for _ in range(RESIDENT)
    ]
    return lambda batch: float(step(batch)), itertools.cycle(there)


if __name__ == "__main__":
    typer.run(main)
