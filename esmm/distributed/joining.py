"""Being one of Horovod's ranks, until all are done or one is lost.

    with joined(config.training) as exchange:
        train(config, plan, exchange, days)

The monitor of heartbeats is the launcher's where it has one; else rank 0 keeps it. Where a rank is lost, every other
one's block ends in a RankLostError that says which and why, or its process ends (`esmm.distributed.heartbeats`).
"""

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import horovod.tensorflow as horovod
import tensorflow as tf

from esmm.config import Training
from esmm.distributed.exchange import STARTING, HorovodExchange, Place
from esmm.distributed.heartbeats import MONITOR, Address, Heart, Limits, beating, error_of
from esmm.distributed.monitor import Monitor
from esmm.distributed.runtime import set_up_tensorflow


@contextmanager
def joined(settings: Training, address: Address | None = None) -> Iterator[HorovodExchange]:
    """Be one of Horovod's ranks while the block runs, with TensorFlow set up as one.

    Leaving tells the others: where they still wait for this rank, they get an error at once. Raises
    RankLostError where the block broke off for that reason.
    """
    limits = Limits.of(settings.failure)
    # What Horovod's core reads once, when it starts; for what a launcher has set it is too late, or it was asked for.
    # Its own patience ends after the monitor's, which knows whom to blame.
    patience = limits.silence + 2 * limits.interval
    os.environ.setdefault("HOROVOD_GLOO_TIMEOUT_SECONDS", str(math.ceil(patience)))
    os.environ.setdefault(
        "HOROVOD_STALL_CHECK_TIME_SECONDS", str(math.ceil(settings.stall_warning.total_seconds()))
    )
    if address is None and MONITOR in os.environ:
        address = Address.model_validate_json(os.environ[MONITOR])
    with _met(settings, address, limits) as (exchange, heart):
        try:
            yield exchange
            # All leave together: none is taken for lost while others tidy up.
            exchange.gather_objects(None)
            heart.leave(None)
        except tf.errors.UnknownError as error:
            if "horovod" not in str(error).lower():
                heart.leave(error)
                raise
            lost = heart.wait_for_loss()
            heart.leave(None)
            raise error_of(lost, exchange.rank) from error
        except BaseException as error:
            heart.leave(error)
            raise
        finally:
            horovod.shutdown()


@contextmanager
def _met(
    settings: Training, address: Address | None, limits: Limits
) -> Iterator[tuple[HorovodExchange, Heart]]:
    """The ranks, once they have met, and the heart of this one.

    Where a launcher listens, the heart beats before they meet: a rank may be lost on the way there, too, and what it
    raises there it tells.
    """
    exchange: HorovodExchange | None = None
    heart: Heart | None = None

    def place() -> Place:
        return STARTING if exchange is None else exchange.last

    with ExitStack() as stack:
        if address is not None:
            rank = int(os.environ["HOROVOD_RANK"])
            heart = stack.enter_context(beating(address, rank, place, limits))
        try:
            exchange = HorovodExchange()
            set_up_tensorflow(settings, exchange.local_size)
            if address is None:
                monitor = stack.enter_context(Monitor(limits)) if exchange.rank == 0 else None
                address = exchange.broadcast_object(None if monitor is None else monitor.address)
                assert address is not None
                heart = stack.enter_context(beating(address, exchange.rank, place, limits, "rank 0"))
        except BaseException as error:
            if heart is not None:
                heart.leave(error)
            raise
        assert heart is not None
        yield exchange, heart
