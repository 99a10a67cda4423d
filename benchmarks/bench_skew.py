"""What a bot and a best-seller cost: the same number of rows with and without a user and an item of that kind.

    make bench-skew      # build/bench/skew.json: skew_ratio

In the skewed logs one user has 5 % of all events and one item 20 % of all exposures, on top of the skew that all logs
of `benchmarks.raw_logs` have. The samples hold a list of the last 20 items, built without statistics and with those
of items, of users and of both; and without statistics, but with a list of the last 20 clicks, of which the user, a bot
that looks at everything, has none. The ratio is of the build's seconds, Spark's start aside, each in a new process;
skew_ratio is the greatest of the three.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.bench_samples import built
from benchmarks.harness import ROOT, Figures, run
from benchmarks.raw_logs import Events, RawLogs

DIRECTORY = ROOT / "build/bench/skew"
STATISTICS = {
    "of_item": {"by": ["item"]},
    "of_user": {"by": ["user"]},
    "of_user_and_item": {"by": ["user", "item"]},
}
CLICKED = {
    "clicked": {
        "event": "click",
        "length": 20,
        "half_life": "1d",
        "look_back": "7d",
        "entities": ["item", "seller"],
    }
}
TARGET = 1.5


@dataclass(frozen=True)
class SkewedLogs(RawLogs):
    """Logs in which user 1 and item 1 have more than their share."""

    user_share: float = 0.05
    """Share of the events that are user 1's."""
    item_share: float = 0.20
    """Share of the exposures that are of item 1."""

    @property
    def digest(self) -> str:
        """As of all logs, and of this file too."""
        own = super().digest + Path(__file__).read_text()
        return hashlib.sha256(own.encode()).hexdigest()[:12]

    def _exposures(self, random: np.random.Generator) -> Events:
        """Some of what others would have had: exposures of all times, and with them their clicks and purchases."""
        exposures = super()._exposures(random)
        rows = len(exposures["at"])
        for column, share in (("user_id", self.user_share), ("item_id", self.item_share)):
            exposures[column] = np.where(random.random(rows) < share, 1, exposures[column])
        return exposures


@dataclass(frozen=True)
class ClicklessLogs(SkewedLogs):
    """Logs in which user 1 looks and never clicks: all exposures have as many clicks before them, none."""

    def _effects(self, random: np.random.Generator, causes: Events, rate: float, *, delay_ms: int) -> Events:
        effects = super()._effects(random, causes, rate, delay_ms=delay_ms)
        others = effects["user_id"] != 1
        return {name: values[others] for name, values in effects.items()}


EVEN = RawLogs(1_000_000, users=50_000)
SKEWED = {"even": EVEN, "skewed": SkewedLogs(**dataclasses.asdict(EVEN))}
CLICKLESS = {"even": EVEN, "skewed": ClicklessLogs(**dataclasses.asdict(EVEN))}


def main() -> None:
    """Take all measurements three times over."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    report = run(
        "skew",
        {
            f"{name}{suffix}": build(made, suffix, statistics, lists)
            for suffix, logs, statistics, lists in (
                ("", SKEWED, {}, {}),
                (", statistics", SKEWED, STATISTICS, {}),
                (", no click", CLICKLESS, {}, CLICKED),
            )
            for name, made in logs.items()
        },
        ratios={
            "skewed over even": ("skewed", "even", "s"),
            "skewed over even, statistics": ("skewed, statistics", "even, statistics", "s"),
            "skewed over even, no click": ("skewed, no click", "even, no click", "s"),
        },
        conclude=concluded,
    )
    Console().print(f"skew_ratio {report['skew_ratio']:.2f} (to reach: {TARGET:g})", highlight=False)


def concluded(report: Mapping[str, Any]) -> dict[str, Any]:
    """The figure that there is a target for."""
    return {"skew_ratio": max(ratio["median"] for ratio in report["ratios"].values())}


def build(
    made: RawLogs, suffix: str, statistics: Mapping[str, Any], lists: Mapping[str, Any]
) -> Callable[[], Figures]:
    """Build the samples of all days of some logs, from an empty directory."""
    logs = made.made_in(DIRECTORY / "logs")
    directory = DIRECTORY / f"spark-{made.digest}{suffix.replace(', ', '-').replace(' ', '-')}"

    return lambda: built(directory, made, logs, statistics, lists)[0]


if __name__ == "__main__":
    main()
