"""Samples of 2 million exposures, from raw logs to published partitions: Spark on two cores, and DuckDB.

    make bench-samples      # build/bench/samples.json: duckdb_ratio, doubling_ratio, peak_rss_gib, and all figures

Ours is build_samples with all it does: cleaning, labels, lists, layout, checks, publication. DuckDB makes the same
rows from the same logs, by statements of its own and without layout or checks; that they are the same is checked
after each of its runs. Both run in a new process each time. `s` is the build alone, `command_s` the whole command,
Spark's start included. With 1, 2 and 4 million exposures the users grow too, so that one exposure stays as much work:
twice the rows should then take twice the time.
"""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table as Lines

from benchmarks import same_rows
from benchmarks.harness import ROOT, Figures, run
from benchmarks.processes import measured
from benchmarks.raw_logs import RawLogs
from esmm import config as configs
from esmm import schema
from esmm.publish import Table

DIRECTORY = ROOT / "build/bench/samples"
LOGS = {f"{millions}M": RawLogs(millions * 1_000_000, users=millions * 50_000) for millions in (1, 2, 4)}
STATISTICS = {
    "of_item": {"by": ["item"]},
    "of_brand": {"by": ["brand"]},
    "of_user": {"by": ["user"]},
    "of_user_and_brand": {"by": ["user", "brand"]},
}
DRIVER_MEMORY = "4g"
DUCKDB_ROWS_A_SECOND = 400_000
"""What DuckDB has to reach for a comparison to count: below, its statements or the machine are not at their best."""
TARGETS = {"duckdb_ratio": 6.0, "doubling_ratio": 2.1, "peak_rss_gib": 6.0}


def main() -> None:
    """Take all measurements three times over; ends with 1 where DuckDB was too slow to compare with."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    logs = {size: of_size.made_in(DIRECTORY / "logs") for size, of_size in LOGS.items()}
    stages: list[dict[str, Any]] = []

    def conclude(report: Mapping[str, Any]) -> dict[str, Any]:
        return concluded(report) | {"driver_memory": DRIVER_MEMORY, "stages": stages}

    report = run(
        "samples",
        {
            "spark 1M": spark(LOGS["1M"], logs["1M"]),
            "spark 2M": spark(LOGS["2M"], logs["2M"], stages=stages),
            "duckdb 2M": duckdb(LOGS["2M"], logs["2M"]),
            "spark 4M": spark(LOGS["4M"], logs["4M"]),
            "spark 2M, statistics": spark(LOGS["2M"], logs["2M"], statistics=STATISTICS),
        },
        ratios={
            "spark over duckdb": ("spark 2M", "duckdb 2M", "s"),
            "spark over duckdb, commands": ("spark 2M", "duckdb 2M", "command_s"),
            "2M over 1M": ("spark 2M", "spark 1M", "s"),
            "4M over 2M": ("spark 4M", "spark 2M", "s"),
            "with over without statistics": ("spark 2M, statistics", "spark 2M", "s"),
        },
        conclude=conclude,
    )
    console = Console()
    console.print(table_of_stages(stages))
    for name, most in TARGETS.items():
        console.print(f"{name} {report[name]:.2f} (to reach: {most:g})", highlight=False)
    if not report["duckdb_counts"]:
        sys.exit(f"duckdb 2M: expected at least {DUCKDB_ROWS_A_SECOND:,} rows/s, found fewer: no comparison")


def concluded(report: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that there are targets for, and whether the comparison with DuckDB counts."""
    ratios, figures = report["ratios"], report["figures"]
    return {
        "duckdb_ratio": ratios["spark over duckdb"]["median"],
        "doubling_ratio": max(ratios[name]["median"] for name in ("2M over 1M", "4M over 2M")),
        "peak_rss_gib": figures["spark 2M"]["peak_rss_gib"]["max"],
        "duckdb_counts": figures["duckdb 2M"]["rows/s"]["median"] >= DUCKDB_ROWS_A_SECOND,
    }


def write_config(
    file: Path,
    logs: Path,
    statistics: Mapping[str, Any] | None = None,
    lists: Mapping[str, Any] | None = None,
) -> configs.Config:
    """samples.yaml on some logs, with or without statistics and more lists; what is built goes beside the file."""
    text = (ROOT / "benchmarks/samples.yaml").read_text()
    values = yaml.safe_load(text.replace("LOGS", str(logs)).replace("OUTPUT", str(file.parent)))
    values["statistics"] = dict(statistics or {})
    values["lists"] |= lists or {}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(values))
    return configs.load(file)


def spark(
    made: RawLogs,
    logs: Path,
    *,
    statistics: Mapping[str, Any] | None = None,
    stages: list[dict[str, Any]] | None = None,
) -> Callable[[], Figures]:
    """Build with Spark, from an empty directory; `stages` is given what the stages of the last time took."""
    directory = DIRECTORY / f"spark-{made.digest}{'-statistics' if statistics else ''}"

    def measure() -> Figures:
        figures, found = built(directory, made, logs, statistics)
        if stages is not None:
            stages[:] = found
        if statistics:
            compare(configs.load(directory / "config.yaml"), made, DIRECTORY / "duckdb")
        return figures

    return measure


def built(
    directory: Path,
    made: RawLogs,
    logs: Path,
    statistics: Mapping[str, Any] | None,
    lists: Mapping[str, Any] | None = None,
) -> tuple[Figures, list[dict[str, Any]]]:
    """Build all days of some logs with Spark in a new process; its figures, and what its stages took."""
    shutil.rmtree(directory, ignore_errors=True)
    write_config(directory / "config.yaml", logs, statistics, lists)
    command = [
        ROOT / "spark-submit.sh", "--master", "local[2]", "--driver-memory", DRIVER_MEMORY,
        ROOT / "benchmarks/spark_samples.py", "--config", directory / "config.yaml",
        "--from", made.dates[0], "--to", made.dates[-1], "--figures", directory / "figures.json",
    ]  # fmt: skip
    figures = measured(command)
    found = json.loads((directory / "figures.json").read_text())
    return {"s": found["s"], "rows/s": made.exposures / found["s"]} | figures, found["stages"]


def duckdb(made: RawLogs, logs: Path) -> Callable[[], Figures]:
    """Build with DuckDB, from an empty directory, and compare with what Spark has built of the same logs."""
    output = DIRECTORY / "duckdb"

    def measure() -> Figures:
        shutil.rmtree(output, ignore_errors=True)
        file = DIRECTORY / "duckdb.json"
        command = [sys.executable, "-m", "benchmarks.duckdb_samples", "--logs", logs, "--output", output]
        figures = measured([*command, "--figures", file])
        compare(configs.load(DIRECTORY / f"spark-{made.digest}/config.yaml"), made, output)
        seconds = json.loads(file.read_text())["s"]
        return {"s": seconds, "rows/s": made.exposures / seconds} | figures

    return measure


def compare(config: configs.Config, made: RawLogs, theirs: Path) -> None:
    """Raises DifferentRowsError where the published samples and DuckDB's differ, in rows or in columns."""
    statistics = schema.statistic_columns(config)
    columns = [column for column in schema.sample_columns(config) if column not in statistics]
    table = Table(config.samples.table)
    rows = sum(
        same_rows.check(
            columns,
            ours=table.files([day]),
            theirs=[str(path) for path in sorted((theirs / f"{schema.DAY}={day}").glob("*.parquet"))],
        )
        for day in made.dates
    )
    if rows != made.exposures:
        raise same_rows.DifferentRowsError(f"expected {made.exposures} exposures, found {rows} on both sides")


def table_of_stages(stages: list[dict[str, Any]]) -> Lines:
    """Where the time goes: the stages that took a hundredth of it or more."""
    lines = Lines(title="stages of spark 2M")
    units = [unit for unit in stages[0] if unit != "stage"]
    lines.add_column("stage")
    for unit in units:
        lines.add_column(unit, justify="right")
    total = sum(stage["s"] for stage in stages)
    for stage in stages:
        if stage["s"] >= total / 100:
            lines.add_row(stage["stage"], *[f"{stage[unit]:,.1f}" for unit in units])
    return lines


if __name__ == "__main__":
    main()
