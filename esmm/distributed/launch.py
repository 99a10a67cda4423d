"""How training is started: by Spark (see `spark_ranks`), by horovodrun, or in this one process.

    launch.under_spark_submit()                       # then esmm.distributed.spark_ranks.run(…)
    launch.in_this_process(config, make_plan, days)   # else: one of horovodrun's ranks, or the only one

A driver never loads TensorFlow, so that what trains is imported where it is called.
"""

import datetime as dt
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from esmm.config import Config
from esmm.errors import JobError
from esmm.plan import ReadingPlan

if TYPE_CHECKING:
    from esmm.training import Result

log = structlog.get_logger()


def under_horovodrun() -> bool:
    """Whether this process is a rank that horovodrun started."""
    return "HOROVOD_RANK" in os.environ


def under_spark_submit() -> bool:
    """Whether this process is the driver of a job that spark-submit started."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def in_this_process(
    config: Config, make_plan: Callable[[], ReadingPlan], days: Sequence[dt.date]
) -> "Result | None":
    """Train as the rank of horovodrun that this process is, or else alone.

    `make_plan` is called on rank 0 alone, whose plan, or error, all ranks get. Returns the result on rank 0, None on
    the others. Raises what `esmm.training.train` raises, and RankLostError on the ranks that another one left.
    """
    if under_horovodrun():
        return _as_rank(config, make_plan, days)
    plan = make_plan()  # before TensorFlow is loaded, which takes longer than to find that nothing is there
    from esmm.distributed.exchange import Alone
    from esmm.training import train

    if config.training.ranks > 1:
        log.warning("one process without horovodrun or Spark", ranks=1, wanted=config.training.ranks)
    use_threads(config, ranks_here=1)
    return train(config, plan, Alone(), days)


def _as_rank(
    config: Config, make_plan: Callable[[], ReadingPlan], days: Sequence[dt.date]
) -> "Result | None":
    from esmm.distributed.exchange import joined
    from esmm.training import train

    with joined() as exchange:
        use_threads(config, exchange.local_size)
        plan = exchange.broadcast_object(_plan_or_error(make_plan) if exchange.rank == 0 else None)
        if isinstance(plan, JobError):
            raise plan
        assert plan is not None
        result = train(config, plan, exchange, days)
        return result if exchange.rank == 0 else None


def _plan_or_error(make_plan: Callable[[], ReadingPlan]) -> ReadingPlan | JobError:
    try:
        return make_plan()
    except JobError as error:
        return error


def use_threads(config: Config, ranks_here: int) -> None:
    """Give TensorFlow `training.threads`, or this rank's share of the cores that the process may use."""
    import tensorflow as tf

    threads = config.training.threads or max(1, len(os.sched_getaffinity(0)) // ranks_here)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    # Two at least: one waits for the reader while the other one computes.
    tf.config.threading.set_inter_op_parallelism_threads(max(2, threads))
