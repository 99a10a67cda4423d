"""What a benchmark reports, on measurements whose values are known."""

import importlib.metadata
import json
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from benchmarks import harness


def scripted(calls: list[str], name: str, values: Iterable[float]) -> Callable[[], harness.Figures]:
    """A measurement that notes its turn and finds the next of `values` seconds, for ten rows."""
    found = iter(values)

    def measure() -> harness.Figures:
        calls.append(name)
        seconds = next(found)
        return {"s": seconds, "rows/s": 10 / seconds}

    return measure


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[str] = []
    report = harness.run(
        "speed",
        {"old": scripted(calls, "old", [2.0, 8.0, 4.0]), "new": scripted(calls, "new", [1.0, 1.0, 4.0])},
        ratios={"old over new": ("old", "new", "s")},
        directory=tmp_path / "bench",
    )
    assert calls == ["old", "new"] * 3, "in turn"
    assert report["figures"]["old"]["s"] == {"median": 4.0, "min": 2.0, "max": 8.0, "values": [2.0, 8.0, 4.0]}
    assert report["figures"]["new"]["rows/s"]["values"] == [10.0, 10.0, 2.5]
    # By round: 2/1, 8/1, 4/4. The ratio of the medians would be 4.
    assert report["ratios"]["old over new"]["values"] == [2.0, 8.0, 1.0]
    assert report["ratios"]["old over new"]["median"] == 2.0
    assert json.loads((tmp_path / "bench/speed.json").read_text()) == report
    printed = capsys.readouterr().out
    for cell in ("old", "rows/s", "4.000", "old over new", "speed.json"):
        assert cell in printed


def test_report_says_on_what_it_was_measured(tmp_path: Path) -> None:
    report = harness.run("none", {"a": lambda: {"s": 1.0}}, directory=tmp_path)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=harness.ROOT, capture_output=True, text=True, check=True
    )
    assert report["commit"]["id"] == head.stdout.strip()
    assert isinstance(report["commit"]["dirty"], bool)
    assert report["packages"]["pyspark"] == importlib.metadata.version("pyspark")
    machine = report["machine"]
    assert machine["cpu"]
    assert machine["cores"] >= 1
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    assert machine["memory_gib"] == pytest.approx(memory, abs=0.1)


def test_fewer_than_three_repetitions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected at least 3, found 2"):
        harness.run("a", {}, repetitions=2, directory=tmp_path)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.012345, "0.01235"), (1.23456, "1.235"), (123.456, "123.5"), (23456.7, "23,457")],
)
def test_digits(value: float, shown: str) -> None:
    assert harness.numbers(harness.summary([value]))[0] == shown
