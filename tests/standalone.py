"""A standalone Spark cluster on this machine: a master and workers of the pip package, with a secret.

with cluster(tmp_path, workers=2) as (master, properties):
    …                            # spark-submit.sh --master MASTER --properties-file PROPERTIES …
"""

import contextlib
import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyspark

from tests.metastore import java

ROOT = Path(__file__).resolve().parent.parent
_DEADLINE = 120


@contextlib.contextmanager
def cluster(directory: Path, workers: int) -> Iterator[tuple[str, Path]]:
    """The address of a master with workers of one core each, and the file of settings that jobs need to talk to it."""
    properties = directory / "secret.conf"
    properties.touch(mode=0o600)
    properties.write_text(
        "spark.authenticate true\n"
        f"spark.authenticate.secret {secrets.token_hex(16)}\n"
        "spark.network.crypto.enabled true\n"
        "spark.driver.host 127.0.0.1\n"
        "spark.driver.bindAddress 127.0.0.1\n"
    )
    with contextlib.ExitStack() as stack:
        [address] = stack.enter_context(
            _daemon(
                directory,
                "master",
                "--port",
                "0",
                properties=properties,
                says=r"Spark master at (spark://\S+)",
            )
        )
        for number in range(workers):
            (directory / f"worker-{number}").mkdir()
            arguments = (
                address,
                "--cores",
                "1",
                "--memory",
                "2g",
                "--work-dir",
                f"{directory}/worker-{number}",
            )
            stack.enter_context(
                _daemon(
                    directory, "worker", *arguments, properties=properties, says=r"registered with master"
                )
            )
        yield address, properties


@contextlib.contextmanager
def _daemon(
    directory: Path, role: str, *arguments: str, properties: Path, says: str
) -> Iterator[tuple[str, ...]]:
    """One of Spark's daemons while the block runs, once its log says that it is ready: the groups of what it says."""
    home = Path(pyspark.__file__).parent
    # Spark's own log, at the level at which it says that it is ready.
    settings = directory / "log4j2.properties"
    settings.write_text(
        "rootLogger.level = info\nrootLogger.appenderRef.console.ref = console\n"
        "appender.console.type = Console\nappender.console.name = console\nappender.console.target = SYSTEM_ERR\n"
        "appender.console.layout.type = PatternLayout\nappender.console.layout.pattern = %m%n\n"
    )
    command = [
        home / "bin/spark-class", f"org.apache.spark.deploy.{role}.{role.capitalize()}",
        "--host", "127.0.0.1", "--webui-port", "0", "--properties-file", properties, *arguments,
    ]  # fmt: skip
    own_java = {"JAVA_HOME": str(Path(java()).parent.parent)} if "/" in java() else {}
    environment = {
        **os.environ, **own_java, "SPARK_HOME": str(home), "SPARK_DAEMON_MEMORY": "512m",
        "SPARK_DAEMON_JAVA_OPTS": f"-Dlog4j2.configurationFile={settings}",
    }  # fmt: skip
    log = directory / f"{role}-{time.monotonic_ns()}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(word) for word in command], env=environment, cwd=directory, stdout=output, stderr=output
        )
    try:
        yield _said(log, process, says)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def _said(log: Path, process: "subprocess.Popen[bytes]", pattern: str) -> tuple[str, ...]:
    end = time.monotonic() + _DEADLINE
    while time.monotonic() < end:
        found = re.search(pattern, log.read_text())
        if found:
            return found.groups()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
            break
    raise AssertionError(f"{pattern} is not in\n{log.read_text()}")
