"""What a rank feeds its steps with: batches, how long each was waited for, and what keeps it from one.

    with reading(config) as load:
        with closing(feed(epoch, config, exchange, load)) as feeding:
            for fed in feeding:
                fed.batch["item"], fed.waited        # int64 [batch_size], 0.002

A rank that cannot read still takes the step in which it tells the others, who would else wait for it and never learn
more than that it is gone: the last that it is fed with is padding, and the error.
"""

import time
from collections.abc import Generator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import tensorflow as tf

from esmm import rowgroups, schema
from esmm.config import Config
from esmm.dataset import SampleDataset, local_cache, to_tf_dataset
from esmm.epochs import Epoch
from esmm.errors import DataError
from esmm.layers.tables import Batch
from esmm.reader import Load

if TYPE_CHECKING:
    from esmm.distributed.exchange import Exchange


class Fed(NamedTuple):
    """A batch, or padding and why there is none."""

    batch: Batch
    error: DataError | None
    waited: float
    """Seconds that it took to come."""


def feed(epoch: Epoch, config: Config, exchange: "Exchange", load: Load) -> Generator[Fed, None, None]:
    """A rank's batches of an epoch.

    To be closed: the traceback of an exception in a step keeps it, and its threads would go on reading.
    """
    batches = read(epoch, config, rank=exchange.rank, load=load)
    with closing(iter(batches)) as iterator:
        awaited = exchange.awaited(iterator)
        while True:
            since = time.monotonic()
            try:
                batch = next(awaited)
            except StopIteration:
                return
            except DataError as error:
                yield Fed(padding(batches), error, 0.0)
                return
            yield Fed(batch, None, time.monotonic() - since)


def read(epoch: Epoch, config: Config, *, rank: int, load: Load) -> SampleDataset:
    """The columns that training takes, of what a rank reads in an epoch."""
    return to_tf_dataset(
        epoch, schema.training_columns(config), rank=rank, threads=config.training.reader_threads, load=load
    )


def reading(config: Config) -> AbstractContextManager[Load]:
    """How row groups are read: anew each time, or by the rank's own cache while the block runs."""
    settings = config.training
    if settings.cache is None:
        return nullcontext(rowgroups.load)
    return local_cache(Path(settings.cache), settings.cache_gib * 2**30)


def padding(batches: SampleDataset) -> Batch:
    """A batch of no rows: ids are absent, and nothing has a weight."""
    return {name: tf.fill(each.shape, tf.cast(schema.ABSENT if each.dtype == tf.int64 else 0, each.dtype))
            for name, each in batches.element_spec.items()}  # fmt: skip
