"""Samples from raw logs by DuckDB, in a process of its own: runs duckdb_samples.sql and says how long it took.

python -m benchmarks.duckdb_samples --logs LOGS --output DIRECTORY --figures figures.json     # {"s": 4.4}
"""

import argparse
import json
from pathlib import Path

import duckdb

from benchmarks.harness import timed

SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,  # as local[2] has
    "memory_limit": "6GiB",
    # The order of rows means nothing, and keeping it costs memory and time.
    "preserve_insertion_order": False,
    # Rows of a partition that wait in memory; fewer are faster, since they fit a processor's cache better.
    "partitioned_write_flush_threshold": 131_072,
}


def build(logs: Path, output: Path) -> None:
    """Write the samples of all days to `output`, a directory that is not there yet, as ds=DAY/*.parquet."""
    statements = Path(__file__).with_suffix(".sql").read_text()
    with duckdb.connect(config=SETTINGS) as connection:
        connection.execute("set variable logs = $1", [str(logs)])
        connection.execute("set variable output = $1", [str(output)])
        connection.execute(statements)


def main() -> None:
    """Build, and write the seconds from opening the database to the last file."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("logs", "output", "figures"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    seconds = timed(lambda: build(options.logs, options.output))
    options.figures.write_text(json.dumps({"s": seconds}))


if __name__ == "__main__":
    main()
