"""How every benchmark measures and reports: in turn, several times, with the machine and the commit.

    def sort() -> Figures:
        seconds = timed(lambda: sorted(rows))
        return {"s": seconds, "rows/s": len(rows) / seconds}

    run("sorting", {"sorted": sort, "heapq": heap_sort}, ratios={"heapq over sorted": ("heapq", "sorted", "s")})

A measurement is one function; what it returns are its figures by unit. All measurements are taken once, then all
of them again, at least three times over, so that a slow minute of the machine slows them all. A ratio is formed
within each round and only then summed up, for the same reason.
"""

import datetime as dt
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("duckdb", "horovod", "numpy", "pandas", "petastorm", "pyarrow", "pyspark", "tensorflow-cpu")
GIB = 2**30

Figures = Mapping[str, float]
"""What one measurement found: values by unit."""

Summary = dict[str, Any]
"""Median, min, max and the values themselves, in the order of the rounds."""


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def run(
    name: str,
    measurements: Mapping[str, Callable[[], Figures]],
    *,
    ratios: Mapping[str, tuple[str, str, str]] | None = None,
    conclude: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
    repetitions: int = 3,
    directory: Path = ROOT / "build/bench",
) -> dict[str, Any]:
    """Take every measurement `repetitions` times, print a table and write NAME.json; returns what was written.

    A ratio is (numerator, denominator, unit): two measurements and the unit of the figure to compare. Measurements
    run in the order given, so that one may use what another has left. What `conclude` makes of the report is added
    to it.
    """
    if repetitions < 3:
        raise ValueError(f"repetitions: expected at least 3, found {repetitions}")
    rounds = [{key: measure() for key, measure in measurements.items()} for _ in range(repetitions)]
    report = {
        "name": name,
        "measured_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "repetitions": repetitions,
        "figures": {
            key: {unit: summary([found[key][unit] for found in rounds]) for unit in rounds[0][key]}
            for key in measurements
        },
        "ratios": {
            key: {"of": [top, bottom, unit]}
            | summary([found[top][unit] / found[bottom][unit] for found in rounds])
            for key, (top, bottom, unit) in (ratios or {}).items()
        },
        "commit": commit(),
        "machine": machine(),
        "packages": {package: importlib.metadata.version(package) for package in PACKAGES},
    }
    report |= conclude(report) if conclude else {}
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    console = Console()
    console.print(table(report))
    console.print(str(path), soft_wrap=True)
    return report


def summary(values: list[float]) -> Summary:
    """What is reported of a figure's values."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "values": values,
    }


def medians(report: Mapping[str, Any]) -> dict[str, float]:
    """Each ratio's median, by the ratio's name alone: what `run` may conclude."""
    return {name: found["median"] for name, found in report["ratios"].items()}


def table(report: Mapping[str, Any]) -> Table:
    """The figures and then the ratios, one a line."""
    lines = Table(title=f"{report['name']}, {report['repetitions']} repetitions")
    lines.add_column("name")
    for column in ("median", "min", "max"):
        lines.add_column(column, justify="right")
    lines.add_column("unit")
    for name, figures in report["figures"].items():
        for unit, found in figures.items():
            lines.add_row(name, *numbers(found), unit)
    for name, found in report["ratios"].items():
        lines.add_row(name, *numbers(found), "ratio")
    return lines


def numbers(found: Summary) -> list[str]:
    """Median, min and max with four digits that count, and no exponent."""
    return [f"{found[key]:,.{_decimals(found[key])}f}" for key in ("median", "min", "max")]


def _decimals(value: float) -> int:
    return max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0


def commit() -> dict[str, Any]:
    """The commit that was measured, and whether the tree held changes that it lacks."""
    return {"id": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain"))}


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def machine() -> dict[str, Any]:
    """The processor, the cores that this process may use, memory, operating system and Python."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
        "os": platform.freedesktop_os_release()["PRETTY_NAME"],
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
