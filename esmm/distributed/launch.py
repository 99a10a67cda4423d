"""How training is started: by Spark (see `spark_ranks`), by horovodrun, or in this one process.

    launch.under_spark_submit()                       # then esmm.distributed.spark_ranks.run(…)
    launch.in_this_process(config, make_work)         # else: one of horovodrun's ranks, or the only one
    launch.by_horovodrun(config, "host1:4,host2:4", begin)     # starts horovodrun, again where a rank was lost

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
from esmm.distributed.heartbeats import MONITOR, Limits, error_of
from esmm.distributed.monitor import Monitor
from esmm.distributed.restarts import restarting
from esmm.distributed.runtime import set_up_tensorflow
from esmm.errors import ConfigError, JobError, RankLostError
from esmm.plan import ReadingPlan

if TYPE_CHECKING:
    from esmm.runs import RunResult

log = structlog.get_logger()


class Work(NamedTuple):
    """What ranks train on, beside the config: the arguments of `esmm.training.train`."""

    plan: ReadingPlan
    days: Sequence[dt.date] = ()
    validation: ReadingPlan | None = None

    def to_json(self) -> str:
        """All of it as text."""
        plans = [
            None if plan is None else plan.model_dump(mode="json") for plan in (self.plan, self.validation)
        ]
        return json.dumps([plans, [str(day) for day in self.days]])

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        (plan, validation), days = json.loads(text)
        return cls(
            ReadingPlan.model_validate(plan),
            [dt.date.fromisoformat(day) for day in days],
            None if validation is None else ReadingPlan.model_validate(validation),
        )


def under_horovodrun() -> bool:
    """Whether this process is a rank that horovodrun started."""
    return "HOROVOD_RANK" in os.environ


def under_spark_submit() -> bool:
    """Whether this process is the driver of a job that spark-submit started."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def in_this_process(config: Config, make_work: Callable[[], Work]) -> "RunResult | None":
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


def by_horovodrun(config: Config, hosts: str, begin: Callable[[], object]) -> None:
    """Start `training.ranks` ranks by horovodrun, each of them this job's own command; again where one was lost.

    `hosts` are HOST:SLOTS of each host, by commas, as horovodrun takes them; `begin` is called once they are checked.

    Raises ConfigError where the hosts are not of that form or have too few slots, and as `spark_ranks.run` the error
    that ended the last attempt.
    """
    try:
        slots = sum(int(host.rpartition(":")[2]) for host in hosts.split(","))
    except ValueError:
        raise ConfigError("--hosts", expected="HOST:SLOTS, by commas", found=hosts) from None
    if slots < config.training.ranks:
        raise ConfigError("--hosts", expected=f"{config.training.ranks} slots, one a rank", found=str(slots))
    begin()
    restarting(lambda ranks, _: _horovodrun(config, hosts, ranks), config.training, lambda: slots)


def _horovodrun(config: Config, hosts: str, ranks: int) -> None:
    settings = config.training
    options = ["-np", str(ranks), "--gloo", "-H", hosts,
               "--start-timeout", str(round(settings.start_timeout.total_seconds()))]  # fmt: skip
    if settings.nics:
        options += ["--network-interfaces", ",".join(settings.nics)]
    launcher = str(Path(sys.executable).with_name("horovodrun"))
    with Monitor(Limits.of(settings.failure), ranks=ranks) as monitor:
        environment = {**os.environ, MONITOR: monitor.address.model_dump_json()}
        with subprocess.Popen([launcher, *options, *_command_of_a_rank()], env=environment) as process:
            monitor.after_a_loss(process.terminate)  # horovodrun then ends its ranks, frozen ones too
            code = process.wait()
    if code and monitor.lost is not None:
        raise error_of(monitor.lost)
    if code:
        raise RankLostError("horovodrun", expected="all ranks to finish", found=f"exit code {code}")


def _command_of_a_rank() -> list[str]:
    """This process's own command, without what was for the launcher."""
    kept, skip = [sys.executable], False
    for word in sys.argv:
        if not skip and word not in ("--hosts", "--fresh") and not word.startswith("--hosts="):
            kept.append(word)
        skip = word == "--hosts"
    return kept


def _as_rank(config: Config, make_work: Callable[[], Work]) -> "RunResult | None":
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
