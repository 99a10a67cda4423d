"""What each rank of tests/test_distributed.py does: horovodrun … python -m tests.ranks DIRECTORY."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from esmm import config as configs
from esmm import models, optimizers
from esmm.config import Config
from esmm.distributed.exchange import HorovodExchange
from esmm.distributed.joining import joined
from esmm.errors import RankLostError
from esmm.layers.ways import WAYS, holding
from esmm.step import NO_SIGNALS, make_step
from tests import synthetic

STEPS, BATCH = 50, 8


def batches(config: Config, ranks: int) -> Iterator[list[dict[str, np.ndarray]]]:
    """Of each step, each rank's own rows: full, fewer or none, and weights of 0; nowhere a row in one step."""
    random = np.random.default_rng(0)
    samples = synthetic.columns(config, STEPS * BATCH * ranks, ids=30)
    samples["weight"] = random.choice([0.0, 0.5, 1.0, 3.0], len(samples["weight"])).astype(np.float32)
    start = 0
    for step in range(STEPS):
        shares = []
        for _ in range(ranks):
            rows = 0 if step == 20 else int(random.choice([0, 3, BATCH]))
            shares.append({name: values[start : start + rows] for name, values in samples.items()})
            start += rows
        yield shares


def steps(exchange: HorovodExchange, config: Config, directory: Path, way: str) -> None:
    """Train in float64, tables held in one way; leave the variables, before and after."""
    model = models.make(config, tf.float64, hold=holding(exchange, dict.fromkeys(config.embeddings, way)))
    assert set(model.shards) == (set(config.embeddings) if way == "sharded" else set())
    optimizer = optimizers.make(
        model.variables,
        config.training.optimizer,
        model.shards.values(),
        exchange.total,
    )
    if exchange.rank:
        model.dense_variables[0].assign_add(tf.ones_like(model.dense_variables[0]))
    exchange.broadcast([*model.variables, *optimizer.variables])
    start = variables(exchange, model)
    step = make_step(model, optimizer, exchange, config)
    sums = []
    for number, shares in enumerate(batches(config, exchange.size)):
        batch = synthetic.take(shares[exchange.rank], slice(None), BATCH)
        stepped = step(synthetic.tensors(batch), tf.constant(number, tf.int64), tf.constant(NO_SIGNALS))
        sums.append([float(stepped.weight), float(stepped.samples), float(stepped.losses["ctr"])])
    np.savez(directory / f"start-{way}-{exchange.rank}.npz", **start)
    np.savez(directory / f"end-{way}-{exchange.rank}.npz", **variables(exchange, model), sums=sums)


def variables(exchange: HorovodExchange, model: models.Model) -> dict[str, np.ndarray]:
    """All of a model's, by name; a table that is spread over ranks is put together, row by row."""
    found = {variable.name.removesuffix(":0"): variable.numpy() for variable in model.variables}
    for name, shard in model.shards.items():
        table = np.empty((model.tables[name].size, shard.shape[1]))
        for rank, part in enumerate(exchange.gather_objects(shard.numpy())):
            table[rank :: exchange.size] = part
        found[f"table/{name}"] = table
    return found


def exchanges(exchange: HorovodExchange, directory: Path) -> None:
    """Sums of tensors, what is gathered and what is sent to and fro; an object that rank 0 alone has."""
    rank = exchange.rank
    one, many = exchange.sum([tf.constant(1.0 + rank), tf.fill((2, 3), 10.0 * rank)])
    both, of_rank_1, none = exchange.gather(
        [tf.constant([7, 2 - rank]), tf.ones((3 * rank, 2)), tf.zeros((0, 4))]
    )
    received, counts = exchange.all_to_all(
        tf.constant([10, 11, 12]) + 10 * rank, tf.constant([1 + rank, 2 - rank])
    )
    found = {
        "one": one.numpy().tolist(),
        "many": many.numpy().tolist(),
        "both": both.numpy().tolist(),
        "of rank 1": of_rank_1.numpy().tolist(),
        "none": none.shape.as_list(),
        "received": received.numpy().tolist(),
        "counts": counts.numpy().tolist(),
        "object": exchange.broadcast_object({"from": rank} if rank == 0 else None),
    }
    (directory / f"exchanges{rank}.json").write_text(json.dumps(found))


def main() -> None:
    directory = Path(sys.argv[1])
    config = configs.parse(json.loads((directory / "config.json").read_text()))
    with joined(config.training) as exchange:
        for way in WAYS:
            steps(exchange, config, directory, way)
        if exchange.size == 2:
            exchanges(exchange, directory)
    if int(os.environ["HOROVOD_SIZE"]) == 2:
        leave(config, directory)


def leave(config: Config, directory: Path) -> None:
    """Rank 1 fails while rank 0 waits for it."""
    try:
        with joined(config.training) as exchange:
            if exchange.rank == 1:
                raise KeyError("a mistake")
            exchange.sum([tf.ones(3)])
    except RankLostError as error:
        (directory / "lost.txt").write_text(str(error))
    except KeyError:
        pass


if __name__ == "__main__":
    main()
