"""How training is started: by Spark (see `spark_ranks`), by horovodrun, or in this one process.

    launch.under_spark_submit()                       # then esmm.distributed.spark_ranks.run(…)
    launch.in_this_process(config, make_work)         # else: one of horovodrun's ranks, or the only one
    launch.by_horovodrun(config, "host1:4,host2:4", command)    # starts horovodrun, again where a rank was lost

A driver never loads TensorFlow, so that what trains is imported where it is called.
"""

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import structlog

from esmm.config import Config
from esmm.distributed.heartbeats import MONITOR, Limits, Monitor, error_of
from esmm.distributed.restarts import restarting
from esmm.distributed.runtime import set_up_tensorflow
from esmm.errors import ConfigError, JobError, RankLostError
from esmm.plan import ReadingPlan

if TYPE_CHECKING:
    from esmm.training import Result

log = structlog.get_logger()


class Work(NamedTuple):
    """What ranks train on, beside the config: the arguments of `esmm.training.train`."""

    plan: ReadingPlan
    days: Sequence[dt.date] = ()
    validation: ReadingPlan | None = None
    fresh: bool = False

    def to_json(self) -> str:
        """All of it as text."""
        plans = [
            None if plan is None else plan.model_dump(mode="json") for plan in (self.plan, self.validation)
        ]
        return json.dumps([plans, [str(day) for day in self.days], self.fresh])

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        (plan, validation), days, fresh = json.loads(text)
        return cls(
            ReadingPlan.model_validate(plan),
            [dt.date.fromisoformat(day) for day in days],
            None if validation is None else ReadingPlan.model_validate(validation),
            fresh,
        )


def under_horovodrun() -> bool:
    """Whether this process is a rank that horovodrun started."""
    return "HOROVOD_RANK" in os.environ


def under_spark_submit() -> bool:
    """Whether this process is the driver of a job that spark-submit started."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def in_this_process(config: Config, make_work: Callable[[], Work]) -> "Result | None":
    """Train as the rank of horovodrun that this process is, or else alone.

    `make_work` is called on rank 0 alone, whose work, or error, all ranks get. Returns the result on rank 0, None on
    the others. Raises what `esmm.training.train` raises, and RankLostError on the ranks that another one left.
    """
    if under_horovodrun():
        return _as_rank(config, make_work)
    work = make_work()  # before TensorFlow is loaded, which takes longer than to find that nothing is there
    from esmm.distributed.exchange import Alone
    from esmm.training import train

    if config.training.ranks > 1:
        log.warning("one process without horovodrun or Spark", ranks=1, wanted=config.training.ranks)
    set_up_tensorflow(config.training, ranks_here=1)
    return train(config, exchange=Alone(), **work._asdict())


def by_horovodrun(config: Config, hosts: str, command: Sequence[str], *, fresh: bool = False) -> None:
    """Start `training.ranks` ranks by horovodrun, each of them a command; again where one was lost.

    `hosts` are HOST:SLOTS of each host, by commas, as horovodrun takes them; `command` is what a rank runs, with
    `--fresh` added where a run is to begin anew.

    Raises ConfigError where the hosts are not of that form or have too few slots, and as `spark_ranks.run` the error
    that ended the last attempt.
    """
    try:
        slots = sum(int(host.rpartition(":")[2]) for host in hosts.split(","))
    except ValueError:
        raise ConfigError("--hosts", expected="HOST:SLOTS, by commas", found=hosts) from None
    if slots < config.training.ranks:
        raise ConfigError("--hosts", expected=f"{config.training.ranks} slots, one a rank", found=str(slots))

    def attempt(ranks: int, fresh: bool) -> None:
        _horovodrun(config, hosts, [*command, *(["--fresh"] if fresh else [])], ranks)

    restarting(attempt, config.training, lambda: slots, fresh=fresh)


def _horovodrun(config: Config, hosts: str, command: Sequence[str], ranks: int) -> None:
    settings = config.training
    options = ["-np", str(ranks), "--gloo", "-H", hosts,
               "--start-timeout", str(round(settings.start_timeout.total_seconds()))]  # fmt: skip
    if settings.nics:
        options += ["--network-interfaces", ",".join(settings.nics)]
    launcher = str(Path(sys.executable).with_name("horovodrun"))
    with Monitor(Limits.of(settings.failure)) as monitor:
        environment = {**os.environ, MONITOR: monitor.address.model_dump_json()}
        done = subprocess.run([launcher, *options, *command], env=environment, check=False)
        if done.returncode and monitor.lost is not None:
            raise error_of(monitor.lost)
        if done.returncode:
            raise RankLostError(
                "horovodrun", expected="all ranks to finish", found=f"exit code {done.returncode}"
            )


def _as_rank(config: Config, make_work: Callable[[], Work]) -> "Result | None":
    from esmm.distributed.joining import joined
    from esmm.training import train

    with joined(config.training) as exchange:
        work = exchange.broadcast_object(_work_or_error(make_work) if exchange.rank == 0 else None)
        if isinstance(work, JobError):
            raise work
        assert work is not None
        result = train(config, exchange=exchange, **work._asdict())
        return result if exchange.rank == 0 else None


def _work_or_error(make_work: Callable[[], Work]) -> Work | JobError:
    try:
        return make_work()
    except JobError as error:
        return error
