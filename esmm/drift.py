"""Drift: whether what is scored looks like what the model was trained for, by the population stability index.

    watch = Watch(spark)                       # handed to the scorer, whose tasks count what they score
    …                                          # the day's rows are written
    check(config, version, watch.found())      # a warning, or a DataError, by the config

With p and q the shares of a bin among the model's own samples and among scored rows,

    PSI = Σ (p - q) ln(p / q)

which is both Kullback-Leibler divergences together (Yurdakul 2018, du Pisanie et al. 2023, arXiv 2303.01227). By rule
of thumb little has changed below 0.1, and much above 0.25. No share counts as less than FLOOR, since the logarithm of
an empty bin's is infinite.

Candidates are not exposures: a policy has chosen these. So the scores of a night differ from the samples' to begin
with, by how much is to be seen in the manifests of the first nights, and the threshold to be set above it.
"""

from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
import structlog
from pyspark import AccumulatorParam, TaskContext
from pyspark.sql import SparkSession

from esmm import histograms, versions
from esmm.config import Config
from esmm.errors import DataError
from esmm.histograms import Histogram, Histograms

FLOOR = 1e-4
"""The least share of a bin."""

log = structlog.get_logger()


def psi(own: Mapping[int, float], found: Mapping[int, float]) -> float:
    """The index of two histograms, neither of them empty, whatever their weights."""
    bins = sorted({*own, *found})
    p, q = (np.array([of.get(each, 0.0) for each in bins]) / sum(of.values()) for of in (own, found))
    p, q = np.maximum(p, FLOOR), np.maximum(q, FLOOR)
    return float((p - q) @ np.log(p / q))


def check(config: Config, version: str, found: Mapping[str, Histogram]) -> dict[str, float]:
    """The index of each score and input, the largest first; empty where the model's manifest has no histograms.

    Where one is above `scoring.drift.threshold`, a warning, or as the config says a DataError: both name it.
    """
    stated = versions.manifest(config.scoring.models, version).facts.get(histograms.FACT) or {}
    if not stated:
        log.warning("the model's manifest has no histograms: drift is not looked at", model=version)
    own = {name: {int(each): weight for each, weight in of.items()} for name, of in stated.items()}
    values = {name: psi(own[name], found[name]) for name in found if own.get(name) and found[name]}
    values = dict(sorted(values.items(), key=lambda item: -item[1]))
    settings = config.scoring.drift
    beyond = {name: f"{value:.2f}" for name, value in values.items() if value > settings.threshold}
    if beyond and settings.on_drift == "stop":
        raise DataError(
            "scoring.drift", expected=f"a PSI of at most {settings.threshold:g} to the model's own samples",
            found=", ".join(f"{value} of {name}" for name, value in beyond.items()),
        )  # fmt: skip
    if beyond:
        log.warning(
            "what is scored is not what the model was trained for", threshold=settings.threshold, **beyond
        )
    return values


class Watch:
    """Counts what the tasks of a query score, in the pass that scores it."""

    def __init__(self, spark: SparkSession) -> None:
        self._parts = spark.sparkContext.accumulator({}, _OfPartitions())
        self._seen: Histograms = {}  # a task has a copy of its own

    def add(self, bins: Mapping[str, np.ndarray]) -> None:
        """In a task: count rows, which are given by their bins (`esmm.histograms.binned`), [rows] each."""
        task = TaskContext.get()
        assert task is not None
        weights = np.ones(len(bins["pctr"]))
        self._seen = histograms.added(self._seen, histograms.counted(bins, weights))
        self._parts.add({task.partitionId(): self._seen})

    def rows(self) -> int:
        """On the driver, once the query has run: how many there were."""
        return round(sum(self.found().get("pctr", {}).values()))

    def found(self) -> Histograms:
        """On the driver, once the query has run: the histograms of all rows."""
        return reduce(histograms.added, self._parts.value.values(), {})


class _OfPartitions(AccumulatorParam[dict[int, Any]]):
    """By partition, what its task has seen so far: one that runs a second time, or twice at once, counts once."""

    def zero(self, value: dict[int, Any]) -> dict[int, Any]:  # noqa: ARG002
        return {}

    def addInPlace(self, value1: dict[int, Any], value2: dict[int, Any]) -> dict[int, Any]:  # noqa: N802
        value1.update(value2)
        return value1
