"""Horovod ranks on Spark: one process a Spark task, their lines on the driver's terminal as they are written.

    result = run(spark.sparkContext, config, lambda: Work(plan, days))     # config.training.ranks ranks

The driver never loads TensorFlow, and the ranks never open Spark: a rank is a process of its own that gets
the config and the reading plans as JSON, and gives back a plain dictionary. The driver listens to the ranks' hearts
(`esmm.distributed.heartbeats`), and starts them again where one was lost.
"""

import functools
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import horovod.spark
import structlog
from horovod.runner.common.util.network import NoValidAddressesFound
from horovod.runner.common.util.timeout import TimeoutException
from pyspark import SparkContext

import esmm
from esmm import cli, storage
from esmm import config as configs
from esmm.config import Config
from esmm.distributed.heartbeats import ENDED, Address, Limits, error_of
from esmm.distributed.launch import Work
from esmm.distributed.monitor import Monitor
from esmm.distributed.restarts import restarting
from esmm.distributed.supervised import supervised
from esmm.errors import ConfigError, DataError, JobError, RankLostError

if TYPE_CHECKING:
    from esmm.runs import RunResult

log = structlog.get_logger()

_HANDED_ON = ("TF_", "HOROVOD_", "ESMM_", "OMP_")
"""Environment variables of the driver that ranks get too, by their beginnings."""


def run(
    spark: SparkContext,
    config: Config,
    make_work: Callable[[], Work],
    begin: Callable[[], None] = lambda: None,
) -> "RunResult":
    """Train with `training.ranks` ranks, each a process started by a Spark task; their lines come out here.

    `make_work` is called once it is known that there are not too few slots for ever; `begin`, once, when Spark has a
    task for each rank, before the first of them starts.

    Raises ConfigError where the driver has no such `training.nics`, DataError where Spark has too few task slots
    (within `training.start_timeout`), RankLostError where a rank was lost once more than
    `training.failure.max_restarts` allows, and what `esmm.training.train` raises on a rank.
    """
    _warn_of_secrets(spark)
    master = spark.master or ""
    if master == "local" or master.startswith("local["):
        _check_slots(spark, config.training.ranks)  # of which no more will come
    work, begin = make_work(), functools.cache(begin)

    def attempt(ranks: int, restart: int) -> "RunResult":
        return _attempt(spark, config, ranks, restart, work, begin)

    return restarting(attempt, config.training, lambda: _slots(spark))


def _attempt(
    spark: SparkContext, config: Config, ranks: int, restart: int, work: Work, begin: Callable[[], None]
) -> "RunResult":
    timeout = config.training.start_timeout
    limits, host = Limits.of(config.training.failure), spark.getConf().get("spark.driver.host")
    with Monitor(limits, host, ranks) as monitor:
        options = storage.handed_over(config.storage)
        arguments = (
            config.model_dump_json(), work.to_json(), json.dumps(options), monitor.address.model_dump_json(),
        )  # fmt: skip

        def launch() -> "Sequence[RunResult | JobError]":
            return horovod.spark.run(
                _rank_function(_places_of_code(spark)),
                arguments,
                num_proc=ranks,
                use_gloo=True,
                start_timeout=math.ceil(timeout.total_seconds()),
                env=_environment(os.environ),
                stdout=sys.stdout,
                stderr=sys.stderr,
                nics=set(config.training.nics) or None,
                verbose=0,
                executable=spark.pythonExec,  # of the executors: the driver's may be elsewhere
            )

        try:
            outcomes = supervised(launch, monitor, spark, begin)
        except TimeoutException:
            if restart:
                # An executor that went with its rank: Spark may have known of it too late for this attempt.
                raise RankLostError("training.start_timeout", expected=f"{ranks} ranks to start within {timeout}",
                                    found=f"{_slots(spark)} free task slots in Spark") from None  # fmt: skip
            _check_slots(spark, ranks)
            raise DataError("training.start_timeout", expected=f"{ranks} ranks to start within {timeout}",
                            found="fewer, though Spark has the slots") from None  # fmt: skip
        except Exception as error:
            if monitor.lost is not None:
                raise error_of(monitor.lost) from error
            explained = _explained(error, config)
            if explained is None:
                raise
            raise explained from error
    return first_result(outcomes)


def _explained(error: Exception, config: Config) -> JobError | None:
    """What Horovod's launcher ends with where no rank was lost; None where that is a bug."""
    if isinstance(error, NoValidAddressesFound):
        return ConfigError("training.nics", expected="network interfaces that the driver has",
                           found=", ".join(config.training.nics) or "none with an address")  # fmt: skip
    if isinstance(error, RuntimeError):
        found = " ".join(str(error).rpartition("Process name:")[2].split())
        return RankLostError("training", expected="all ranks to finish", found=f"rank {found}")
    if type(error) is Exception:  # Horovod's own: an interface that executors lack, a task that failed
        first, *_ = str(error).splitlines() or [""]
        return RankLostError("Spark", expected="a task for each rank to its end", found=first)
    return None


def run_rank(
    config_json: str, work_json: str, storage_json: str, monitor_json: str
) -> "RunResult | JobError":
    """One of Spark's ranks, in a process of its own. A JobError is returned: raised, it would become text."""
    from esmm.distributed.joining import joined
    from esmm.training import train

    cli.configure_log()
    storage.configure(json.loads(storage_json))  # which the config's JSON leaves out
    config = configs.parse(json.loads(config_json))
    try:
        with joined(config.training, Address.model_validate_json(monitor_json)) as exchange:
            return train(config, exchange=exchange, **Work.from_json(work_json)._asdict())
    except RankLostError:
        # An exit code, so that Horovod ends what is left of the other ranks: one that is frozen ends by nothing else.
        sys.exit(ENDED)
    except JobError as error:
        return error


def _rank_function(places: list[str]) -> Callable[..., "RunResult | JobError"]:
    """`run_rank`, as a function that a process can unpickle before it finds this project's code.

    It is defined in here, so that it is pickled by value; Spark's --py-files are known to Spark's own
    workers, and not to the processes that they start.
    """

    def rank(*arguments: Any) -> Any:
        import sys

        sys.path[:0] = places
        from esmm.distributed import spark_ranks

        return spark_ranks.run_rank(*arguments)

    return rank


def _places_of_code(spark: SparkContext) -> list[str]:
    """Where a rank may find this project's code: where the driver does, or in an executor's own directory."""
    archives = [path for path in spark.getConf().get("spark.submit.pyFiles", "").split(",") if path]
    return [str(Path(esmm.__file__).parent.parent), *(path.rpartition("/")[2] for path in archives)]


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """What ranks get beside the environment of Spark's executors: Horovod hands on nothing by itself."""
    own = {name: value for name, value in variables.items() if name.startswith(_HANDED_ON)}
    return {"TF_CPP_MIN_LOG_LEVEL": "2", **own}


def _slots(spark: SparkContext) -> int:
    """How many tasks Spark can run at a time, on the executors that it has now."""
    context = spark._jsc.sc()
    return int(context.maxNumConcurrentTasks(context.resourceProfileManager().defaultResourceProfile()))


def _check_slots(spark: SparkContext, ranks: int) -> None:
    """Raise DataError where Spark cannot run as many tasks at a time as there are ranks."""
    slots = _slots(spark)
    if slots < ranks:
        raise DataError(
            "training.ranks", expected=f"{ranks} free task slots in Spark, one a rank", found=str(slots)
        )


def _warn_of_secrets(spark: SparkContext) -> None:
    """Say so where others on the network could read, or send, what the driver and the ranks tell each other."""
    is_local = (spark.master or "").startswith("local")
    if not is_local and spark.getConf().get("spark.authenticate") != "true":
        log.warning(
            "Spark's messages are not authenticated",
            expected="spark.authenticate.secret, see docs/cluster.md",
        )


def first_result(outcomes: "Sequence[RunResult | JobError]") -> "RunResult":
    """Rank 0's result, or the error that the others' followed from."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, JobError)]
    for error in sorted(errors, key=lambda error: isinstance(error, RankLostError)):
        raise error
    result = outcomes[0]
    assert not isinstance(result, JobError)
    return result
