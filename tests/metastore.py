"""A metastore service from Spark's own jars, and Spark sessions on it in processes of their own.

    with service(tmp_path) as uri, Session(uri, tmp_path) as session:
        session.ask("sql", "show databases")     # [["default"]]

A session's process is this module run as a program: it reads a line of JSON, [command, *arguments], and answers by
another.
"""

import contextlib
import datetime as dt
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark

ROOT = Path(__file__).resolve().parent.parent
DAY = dt.date(2026, 3, 25)
_DEADLINE = 120
_QUIET = [
    "-Dhive.async.log.enabled=false",
    "-Dlog4j2.configurationFile=" + str(ROOT / "conf/spark/log4j2.properties"),
]


def java() -> str:
    """The Java that Spark's scripts would take here."""
    find = 'SPARK_HOME=$1 source "$2/conf/spark/spark-env.sh"; echo "${JAVA_HOME:+$JAVA_HOME/bin/}java"'
    home = str(Path(pyspark.__file__).parent)
    return subprocess.check_output(["bash", "-c", find, "bash", home, str(ROOT)], text=True).strip()


@contextlib.contextmanager
def service(directory: Path) -> Iterator[str]:
    """The address of a metastore that keeps its data below a directory, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    database = f"jdbc:derby:;databaseName={directory}/metastore;create=true"
    command = [
        java(), "-Xmx512m", "-cp", f"{Path(pyspark.__file__).parent}/jars/*", *_QUIET,
        f"-Djavax.jdo.option.ConnectionURL={database}", "-Ddatanucleus.schema.autoCreateAll=true",
        "-Dhive.metastore.schema.verification=false", f"-Dderby.stream.error.file={directory}/derby.log",
        f"-Dhive.metastore.warehouse.dir={directory}/warehouse",
        "org.apache.hadoop.hive.metastore.HiveMetaStore", "-p", str(port),
    ]  # fmt: skip
    with (directory / "metastore.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory)
    try:
        _wait_for(port, process, directory / "metastore.log")
        yield f"thrift://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + _DEADLINE
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
            break
    raise AssertionError(f"no metastore on port {port}:\n{log.read_text()}")


class Session:
    """A Spark session on a metastore, in a process of its own."""

    def __init__(self, uri: str, directory: Path) -> None:
        command = [sys.executable, "-m", "tests.metastore", uri, str(directory / "warehouse")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "SPARK_CONF_DIR": str(ROOT / "conf/spark")},
        )  # fmt: skip

    def tell(self, command: str, *arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the session ended with {self._process.wait()}"
        return json.loads(line)

    def ask(self, command: str, *arguments: Any) -> Any:
        self.tell(command, *arguments)
        return self.answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def stage(directory: Path, generation: int) -> int:
    """Four files of which every row says the generation; the rows that they have together."""
    directory.mkdir(parents=True)
    for number in range(4):
        rows = pa.table({"value": pa.array([generation] * (100 + generation), pa.int64())})
        pq.write_table(rows, directory / f"part-{number}.parquet")
    return 4 * (100 + generation)


def _sql(spark: Any, statement: str) -> list[list[Any]]:
    return [list(row) for row in spark.sql(statement).collect()]


def _publish(spark: Any, root: str, generation: int) -> str:
    from esmm.catalog import CatalogClaims, CatalogPointers
    from esmm.publish import Table, new_run

    url, run = Table(root).url(), new_run()
    pointers = CatalogPointers(spark, "ads.numbers", url, {})
    table = Table(root, pointers, CatalogClaims(spark, "ads.numbers", url))
    with table.claimed([DAY], run):
        stage(Path(table.path) / f"run={run}/ds={DAY}", generation)
        table.publish(DAY, run, config="digest")
    return run


def _watch(spark: Any, statement: str, until: str) -> str:
    while not Path(until).exists():
        _say(_sql(spark, statement))
    return "done"


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(uri: str, warehouse: str) -> None:
    from pyspark.sql import SparkSession

    spark = (
        SparkSession.builder.master("local[1]")
        .config("spark.sql.catalogImplementation", "hive")
        .config("spark.hadoop.hive.metastore.uris", uri)
        .config("spark.sql.warehouse.dir", warehouse)
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.memory", "1g")
        .getOrCreate()
    )
    commands = {"sql": _sql, "publish": _publish, "watch": _watch}
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        _say(commands[command](spark, *arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
