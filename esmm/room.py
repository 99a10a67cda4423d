"""Memory for a model: how many of Spark's Python workers can have it at once, each with a copy of its own.

    SparkSession.builder.config(map=settings | room.settings(config, version, settings))

A worker that scores holds the whole model, one at a time. Where not as many fit as there are cores, fewer tasks run at
once, by `spark.task.cpus`; TensorFlow then has those cores of a task. Where not even one fits, the job ends before any
row is scored. What there is for workers is what Spark leaves beside the JVM, `spark.executor.memoryOverhead`; on one
machine, the memory that is free, without the heaps that Java may still grow to. Where nothing says it, nothing is
checked.

With `local[…]` that heap is a bound which few jobs come near, and no memory was set aside for it: one task runs there
in any case, unless what is free does not hold the model itself.

With `spark.executor.pyspark.memory` fewer tasks at once would not help: Spark confines the addresses of each worker to
that memory by the executor's cores, however many of them run.
"""

import math
import re
from collections.abc import Mapping

import psutil
import structlog
from pyspark import SparkConf, SparkContext

from esmm import versions
from esmm.config import Config
from esmm.errors import DataError

log = structlog.get_logger()

WORKER = 2**30
"""Bytes of a worker besides the model: Python, TensorFlow, and the batches that it works on."""

_UNFILLED = 2**30
"""Bytes of addresses that TensorFlow takes besides, without filling them: 1.4 GiB here, of them 0.5 in memory."""

_OF_WORKERS, _BESIDE_JVM = "spark.executor.pyspark.memory", "spark.executor.memoryOverhead"
_LOCAL = re.compile(r"local(\[(\d+|\*)(,\d+)?\])?")
_UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def settings(
    config: Config, version: str, given: Mapping[str, str] | None = None, rival: str | None = None
) -> dict[str, str]:
    """What a session that scores with a model is to have set; nothing where each core can have the model.

    `given` are settings of the session that spark-submit does not know, `rival` is a model that it scores with
    afterwards: the larger one counts. Raises DataError where the memory is too little for one worker, or, with
    `local[…]`, for the model alone.
    """
    SparkContext._ensure_initialized()  # what spark-submit was given is known to Java alone
    conf = dict(SparkConf().getAll()) | dict(given or {})
    models = config.scoring.models
    sizes = {each: versions.manifest(models, each).facts.get("bytes", 0) for each in (version, rival) if each}
    version = max(sizes, key=lambda each: sizes[each])
    where, model = f"{models}/{version}", sizes[version]
    needed = model + WORKER
    if _OF_WORKERS in conf:
        _check_each(conf, needed + _UNFILLED)
    cores, memory = _cores(conf), _memory(conf)
    if memory is None:
        return {}
    at_once = memory // needed
    is_little = at_once < 1 and _is_local(conf)
    if is_little:
        _check_free(where, model)
        at_once = 1
    if at_once < 1:
        raise DataError(where, expected=f"{_gib(needed)} for a worker", found=_gib(memory))
    if cores is None:
        log.warning(
            "spark.executor.cores is not set: workers may need more memory than there is", model=_gib(needed)
        )
        return {}
    cpus = max(math.ceil(cores / at_once), int(conf.get("spark.task.cpus", 1)))
    if cpus > 1 and not is_little:
        log.info("fewer tasks at once, for the model's size", worker=_gib(needed), cores=cores,
                 tasks=cores // cpus, memory=_gib(memory))  # fmt: skip
    return {"spark.task.cpus": str(cpus)} if cpus > 1 else {}


def _check_free(where: str, model: int) -> None:
    """Warn that little memory is free on this machine; raise DataError where it does not hold the model."""
    free = psutil.virtual_memory().available
    if model > free:
        expected = f"{_gib(model)} of free memory for the model, or one with fewer rows in `embeddings`"
        raise DataError(where, expected=expected, found=_gib(free))
    log.warning("little memory is free, so that one task runs at once", free=_gib(free), model=_gib(model))


def _check_each(conf: Mapping[str, str], needed: int) -> None:
    """Raise DataError where Spark gives a worker too little (BasePythonRunner.getWorkerMemoryMb)."""
    cores, memory = int(conf.get("spark.executor.cores", 1)), _bytes(conf[_OF_WORKERS])
    if memory // cores < needed:
        expected = f"at least {_gib(cores * needed)}, {_gib(needed)} for each of {cores} cores"
        raise DataError(_OF_WORKERS, expected=expected, found=_gib(memory))


def _cores(conf: Mapping[str, str]) -> int | None:
    """Of a process that runs tasks; None where it takes all that its host has, whichever that is."""
    master = conf.get("spark.master", "local[*]")
    if (found := _LOCAL.fullmatch(master)) is not None:
        given = found.group(2) or "1"
        return psutil.cpu_count() or 1 if given == "*" else int(given)
    if (found := _local_cluster(master)) is not None:
        return int(found.group(2))
    if master.startswith("spark://") and "spark.executor.cores" not in conf:
        return None
    return int(conf.get("spark.executor.cores", 1))


def _memory(conf: Mapping[str, str]) -> int | None:
    """For the workers of a process that runs tasks, in bytes; None where nobody says it, or not for all together."""
    master = conf.get("spark.master", "local[*]")
    if master.startswith("local"):
        free = psutil.virtual_memory().available - _bytes(conf.get("spark.driver.memory", "1g"))
        if (found := _local_cluster(master)) is not None:
            executors, heap = int(found.group(1)), _bytes(found.group(3))
            free = free // executors - heap
        return max(free, 0)
    if _OF_WORKERS in conf or _BESIDE_JVM not in conf:
        return None
    return _bytes(conf[_BESIDE_JVM])


def _is_local(conf: Mapping[str, str]) -> bool:
    """Whether the tasks run in the driver's own process."""
    return _LOCAL.fullmatch(conf.get("spark.master", "local[*]")) is not None


def _local_cluster(master: str) -> re.Match[str] | None:
    """Executors, and the cores and MiB of heap of each, where all run on this machine."""
    return re.fullmatch(r"local-cluster\[(\d+),(\d+),(\d+)\]", master)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _bytes(size: str) -> int:
    """Of Spark's own way of writing sizes; a number alone is MiB.

    >>> _bytes("2g"), _bytes("512")
    (2147483648, 536870912)
    """
    number, unit = re.fullmatch(r"(\d+)([bkmgt]?)b?", size.strip().lower()).groups()  # type: ignore[union-attr]
    return int(number) * _UNITS[unit or "m"]
