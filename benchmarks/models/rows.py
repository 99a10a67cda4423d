"""The rows that models are compared on: samples that the jobs build once, of days to train on and one held out.

    rows = market("strong")              # build/bench/models/strong-3f6bb6e5: config, logs, samples
    rows.days, rows.held_out             # the days before, and the last one
    rows.labels()["purchase_if_clicked"]

A market's rows have the truth beside the labels, of every exposure.
"""

import datetime as dt
import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from benchmarks.harness import ROOT
from esmm import config as configs
from esmm.config import Config
from esmm.publish import Table

DIRECTORY = ROOT / "build/bench/models"
AGREEMENT = {"none": 0.0, "moderate": 0.5, "strong": 0.9}
"""Setting of selection bias to simulation.agreement (docs/simulator.md)."""
KUAIRAND = "kuairand"

_MATTER_NOT = ("model", "training", "evaluation", "scoring")
"""Sections of the config that samples do not depend on."""

Labels = dict[str, np.ndarray]
"""Column to the values of the held-out rows, in their order."""


@dataclass(frozen=True)
class Rows:
    """Samples, and which of their days are for what."""

    name: str
    directory: Path
    days: tuple[dt.date, ...]
    """Days to train on."""
    held_out: dt.date

    @property
    def file(self) -> Path:
        """The config, whose paths lie in the directory."""
        return self.directory / "config.yaml"

    @property
    def config(self) -> Config:
        """The config."""
        return configs.load(self.file)

    @property
    def is_market(self) -> bool:
        """Whether the truth is known."""
        return self.name in AGREEMENT

    def frame(self, days: tuple[dt.date, ...], columns: list[str]) -> pd.DataFrame:
        """Columns of the samples of some days, in the order of the plan that training reads by."""
        files = Table(self.config.samples.table).files(days)
        return pd.concat([pd.read_parquet(file, columns=columns) for file in files], ignore_index=True)

    def labels(self) -> Labels:
        """user_id, click and purchase of the held-out rows; of a market's also the truth's columns."""
        keys = ["user_id", "item_id", "exposed_at"]
        found = self.frame((self.held_out,), [*keys, "click", "purchase"])
        if self.is_market:
            found = found.merge(self._truth(), on=keys, how="left", validate="one_to_one")
            if found.isna().any(axis=None):
                raise ValueError(f"{self.directory}: expected the truth of every held-out row, found less")
        return {str(name): values.to_numpy() for name, values in found.items()}

    def _truth(self) -> pd.DataFrame:
        """The held-out day's truth, under the samples' keys: it has exposures by the names that the logs give them."""
        logs = self.directory / "logs"
        day = [("day", "=", str(self.held_out))]
        truth = pd.read_parquet(logs / "truth", filters=day).rename(
            columns={"pctr": "true_pctr", "pcvr": "true_pcvr"}
        )
        exposures = pd.read_parquet(logs / "exposures").drop_duplicates("exposure_id")
        exposures["exposed_at"] = exposures["shown_at"].dt.as_unit("us").astype(np.int64)
        columns = ["exposure_id", "true_pctr", "true_pcvr", "purchase_if_clicked"]
        found = truth[columns].merge(exposures, on="exposure_id", validate="one_to_one")
        return found[["user_id", "item_id", "exposed_at", *columns[1:]]]


def market(setting: str, exposures: int | None = None, source: Path = ROOT / "conf/bench.yaml") -> Rows:
    """The rows of a setting of selection bias: all days but the last, which is not mature, the one before held out.

    With `exposures`, so many a day instead of the config's.
    """
    values = _read(source)
    values["simulation"]["agreement"] = AGREEMENT[setting]
    if exposures is not None:
        values["simulation"]["exposures_per_day"] = exposures
    directory = _directory(setting, values)
    config = _written(directory, values, "build/bench/market")
    assert config.simulation is not None
    start, days = config.simulation.start, config.simulation.days
    *days_to_train, held_out = (start + dt.timedelta(days=n) for n in range(days - 1))
    rows = Rows(setting, directory, tuple(days_to_train), held_out)
    if not _built(rows):
        _job("simulate_logs", rows)
        _job("build_samples", rows, "--from", start, "--to", held_out)
    return rows


def kuairand(data: Path, source: Path = ROOT / "conf/kuairand.yaml") -> Rows:
    """The rows of KuaiRand's files, the last day held out."""
    values = _read(source)
    directory = _directory(KUAIRAND, values)
    _written(directory, values, "build/kuairand")
    days = directory / "days"
    if not days.exists():
        _job("import_kuairand", Rows(KUAIRAND, directory, (), dt.date.min), "--data", data, "--days", days)
    *days_to_train, held_out = map(dt.date.fromisoformat, days.read_text().split())
    rows = Rows(KUAIRAND, directory, tuple(days_to_train), held_out)
    if not _built(rows):
        _job("build_samples", rows, "--allow-immature", "--from", rows.days[0], "--to", held_out)
    return rows


def _read(source: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(source.read_text())
    return values


def _directory(name: str, values: dict[str, Any]) -> Path:
    """Where the rows of a config are: another one where samples would be others."""
    matters = {key: value for key, value in values.items() if key not in _MATTER_NOT}
    digest = hashlib.sha256(json.dumps(matters, sort_keys=True, default=str).encode()).hexdigest()
    return DIRECTORY / f"{name}-{digest[:8]}"


def _written(directory: Path, values: dict[str, Any], was: str) -> Config:
    """Write the config with its paths moved into the directory; the config."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "config.yaml"
    file.write_text(yaml.safe_dump(values).replace(was, str(directory)))
    return configs.load(file)


def _built(rows: Rows) -> bool:
    """Whether all days are published already."""
    return {*rows.days, rows.held_out} <= set(Table(rows.config.samples.table).days())


def _job(name: str, rows: Rows, *options: object) -> None:
    """Run a job on two cores, in a process of its own."""
    command = [ROOT / "spark-submit.sh", ROOT / f"jobs/{name}.py", "--config", rows.file, *options]
    subprocess.run([str(word) for word in command], cwd=ROOT, check=True)
