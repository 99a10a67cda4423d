"""Simulated logs: what is in the files, and that the truth is what the rules find in them."""

import datetime as dt
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import yaml
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from esmm import cli, samples
from esmm import config as configs
from esmm.publish import Table
from esmm.simulate import simulate
from jobs import simulate_logs
from tests import brute_force

TIMES = {"exposures": "shown_at", "clicks": "clicked_at", "purchases": "bought_at"}
IDS = {"exposures": "exposure_id", "clicks": "click_id", "purchases": "purchase_id"}
MINUTE = 60_000_000


def made(values: dict[str, Any], **knobs: object) -> configs.Config:
    """Logs by the small config and the given knobs; the config."""
    values["simulation"] |= knobs
    config = configs.parse(values)
    simulate(config)
    return config


def table(config: configs.Config, name: str) -> pd.DataFrame:
    assert config.simulation is not None
    return pd.read_parquet(Path(config.simulation.directory) / name)


def microseconds(times: pd.Series) -> pd.Series:
    return times.astype("datetime64[us, UTC]").astype(np.int64)


def unique(config: configs.Config, name: str) -> pd.DataFrame:
    """A log's rows, each once, with the time in microseconds."""
    rows = table(config, name).drop_duplicates(IDS[name])
    return rows.assign(at=microseconds(rows[TIMES[name]]))


def events(rows: pd.DataFrame) -> list[brute_force.Event]:
    columns = rows[["user_id", "item_id", "at"]].itertuples(index=False)
    return [brute_force.Event(n, *values) for n, values in enumerate(columns)]


@pytest.mark.parametrize("late_purchases", [0.0, 0.3])
def test_the_truth_is_what_the_rules_find_in_the_logs(values: dict[str, Any], late_purchases: float) -> None:
    # So few users and items that a user sees an item again before clicking it or buying it.
    config = made(
        values, users=5, items=6, days=4, exposures_per_day=150, click_rate=0.3, purchase_rate=0.5,
        orphans=0.1, late_purchases=late_purchases,
    )  # fmt: skip
    exposures = unique(config, "exposures").reset_index(drop=True)
    clicked, bought = brute_force.labels(
        events(exposures), events(unique(config, "clicks")), events(unique(config, "purchases")),
        click_window=30 * MINUTE, purchase_window=24 * 60 * MINUTE,
    )  # fmt: skip
    truth = table(config, "truth").set_index("exposure_id").loc[exposures["exposure_id"]]
    assert truth["click"].tolist() == clicked
    assert truth["purchase"].tolist() == bought
    assert 0 < truth["purchase"].sum() < (truth["click"] & truth["purchase_if_clicked"]).sum()


def test_the_samples_have_the_labels_of_the_truth(values: dict[str, Any], spark: SparkSession) -> None:
    config = made(values)
    assert config.simulation is not None
    day = config.simulation.start + dt.timedelta(days=1)  # mature, as all but the last of the three
    [manifest] = samples.build(spark, config, [day]).or_raise()
    assert manifest.rows == 1_000
    built = spark.read.parquet(*Table(config.samples.table).files([day])).toPandas()
    exposures = table(config, "exposures").drop_duplicates("exposure_id")
    truth = exposures.merge(table(config, "truth"), on="exposure_id")
    truth["exposed_at"] = microseconds(truth["shown_at"])
    both = built.merge(truth, on=["user_id", "item_id", "exposed_at"], suffixes=("", "_true"))
    assert len(both) == 1_000
    assert both["click"].tolist() == both["click_true"].tolist()
    assert both["purchase"].tolist() == both["purchase_true"].tolist()
    assert both["click"].sum() > 50
    assert both["purchase"].sum() > 2


def test_the_truth_holds_every_exposure_once_by_its_own_day(config: configs.Config) -> None:
    rows = simulate(config)
    truth = table(config, "truth")
    assert rows["truth"] == len(truth) == truth["exposure_id"].nunique() == 3_000
    assert truth["day"].value_counts().to_dict() == {f"2026-03-2{n}": 1_000 for n in (4, 5, 6)}
    assert set(truth["exposure_id"]) == set(table(config, "exposures")["exposure_id"])
    assert truth[["pctr", "pcvr"]].min().min() > 0
    assert truth[["pctr", "pcvr"]].max().max() < 1
    assert (truth["purchase"] <= truth["click"]).all()


def test_clicks_and_purchases_come_within_their_windows(values: dict[str, Any]) -> None:
    config = made(values, orphans=0, purchase_rate=0.5, late_purchases=0)
    exposures, clicks, purchases = (unique(config, name) for name in TIMES)
    pair = ["user_id", "item_id"]
    causes = {"clicks": (exposures, clicks, 30 * MINUTE), "purchases": (clicks, purchases, 1440 * MINUTE)}
    for cause, effect, window in causes.values():
        both = effect.merge(cause, on=pair, suffixes=("", "_cause"))
        delay = both["at"] - both["at_cause"]
        # The shortest delay from any cause that comes before: there is one, and it is within the window.
        shortest = delay[delay >= 0].groupby(both.iloc[:, 0]).min()
        assert len(shortest) == len(effect) > 100
        assert shortest.max() <= window
    assert (purchases["at"].max() - exposures["at"].max()) / MINUTE > 60


def test_rows_are_filed_by_the_day_they_arrive(values: dict[str, Any]) -> None:
    config = made(values, exposures_per_day=20_000, late_rows=0.05)
    for name, time in TIMES.items():
        rows = table(config, name)
        happened = rows[time].dt.tz_convert(config.time_zone).dt.normalize().dt.tz_localize(None)
        days_late = (pd.to_datetime(rows["day"].astype(str)) - happened).dt.days
        assert set(days_late) <= {0, 1}
        if name != "purchases":
            assert days_late.mean() == pytest.approx(0.05, abs=0.02)
        assert not rows[time].is_monotonic_increasing


def test_dirt_is_as_much_as_asked_for(values: dict[str, Any]) -> None:
    config = made(values, exposures_per_day=20_000, duplicates=0.03, orphans=0.1)
    exposures, clicks = table(config, "exposures"), table(config, "clicks")
    assert exposures["exposure_id"].duplicated().sum() / 60_000 == pytest.approx(0.03, abs=0.003)
    columns = ["exposure_id", "user_id", "item_id", "shown_at", "device"]
    assert len(exposures.drop_duplicates(columns)) == 60_000
    found = table(config, "truth")["click"].sum()
    # An orphan may chance upon an exposure, and two clicks on the same one.
    assert clicks["click_id"].nunique() / found == pytest.approx(1.1, abs=0.05)


def test_late_purchases_come_after_the_window(values: dict[str, Any]) -> None:
    on_time = made(values, exposures_per_day=5_000, late_purchases=0)
    last = {0.0: table(on_time, "purchases")["bought_at"].max()}
    late = made(values, late_purchases=0.5)
    last[0.5] = table(late, "purchases")["bought_at"].max()
    assert last[0.0] < pd.Timestamp("2026-03-28 00:30", tz="Europe/Paris")
    assert last[0.5] > pd.Timestamp("2026-03-29", tz="Europe/Paris")
    truth = table(late, "truth")
    drawn = truth["click"] & truth["purchase_if_clicked"]
    assert truth["purchase"].sum() / drawn.sum() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_days_on_which_the_clocks_change(values: dict[str, Any], day: str, hours: int) -> None:
    config = made(values, start=day, days=1, exposures_per_day=20_000, duplicates=0)
    zone = ZoneInfo(config.time_zone)
    shown_at = table(config, "exposures")["shown_at"].dt.tz_convert(zone)
    start = pd.Timestamp(day, tz=zone)
    assert shown_at.min() >= start
    assert shown_at.max() < start + pd.Timedelta(hours=hours)
    assert shown_at.max() > start + pd.Timedelta(hours=hours - 0.5)
    at_two, at_one = ((shown_at.dt.hour == hour).sum() for hour in (2, 1))
    # By the local clock the hour from 2 is not there on one day and there twice on the other.
    assert at_two == 0 if hours == 23 else 0.8 < at_two / at_one < 1.6
    evening, night = (shown_at.dt.hour.isin(of).sum() for of in ((20, 21), (3, 4)))
    assert evening > 10 * night


def test_a_seed_gives_the_same_files_and_another_gives_others(config: configs.Config) -> None:
    def contents() -> dict[str, bytes]:
        assert config.simulation is not None
        root = Path(config.simulation.directory)
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.parquet"))}

    simulate(config)
    first = contents()
    simulate(config)
    assert contents() == first
    simulate(config.model_copy(update={"seed": 8}))
    other = contents()
    assert all(other[path] != first[path] for path in first if path in other)


def test_ids_and_candidates_fit_the_tables(config: configs.Config) -> None:
    simulate(config)
    items, users, candidates = (table(config, name) for name in ("items", "users", "candidates"))
    assert (items["item_id"] == range(1, 101)).all()
    assert (users["user_id"] == range(1, 201)).all()
    for name in TIMES:
        rows = table(config, name)
        assert rows["user_id"].isin(users["user_id"]).all()
        assert rows["item_id"].isin(items["item_id"]).all()
    assert items.groupby("subcategory")["category"].nunique().max() == 1
    assert not candidates.duplicated().any()
    assert candidates.groupby("user_id").size().median() == pytest.approx(18, abs=2)  # 20 without repeats
    unknown = ~candidates["user_id"].isin(users["user_id"])
    assert 0 < unknown.mean() < 0.02


def test_the_job(values: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(values))
    arguments = ["--config", str(file), "--set", "simulation.days=1"]
    result = CliRunner().invoke(cli.job(simulate_logs.main), arguments)
    assert result.exit_code == 0
    assert "truth=1000" in result.stderr
    del values["simulation"]
    file.write_text(yaml.safe_dump(values))
    result = CliRunner().invoke(cli.job(simulate_logs.main), ["--config", str(file)])
    assert result.exit_code == 2
    assert result.stderr == "error: simulation: expected a section that describes the market, found none\n"
