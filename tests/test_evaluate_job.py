"""jobs/evaluate.py --promote and jobs/roll_back.py: who becomes champion, and what is said where nobody does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.testing
import yaml
from pyspark.sql import SparkSession

from esmm import cli, models, registry
from esmm.config import Config, parse
from esmm.export import export
from jobs import evaluate
from tests import synthetic

DAY = str(synthetic.DAY)
DROP = "evaluation.gates.max_auc_drop={ctr: 1.0}"


@pytest.fixture
def values(values: dict[str, Any]) -> dict[str, Any]:
    """Without what takes logs or the simulator's truth."""
    values["evaluation"] |= {"as_nightly": False, "truth": None, "gates": {}}
    return values


@pytest.fixture
def file(values: dict[str, Any], config: Config, tmp_path: Path) -> Path:
    """The config, and samples of its columns."""
    synthetic.publish(config, [300])
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(autouse=True)
def session(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs take the tests' session, and leave it to them."""
    monkeypatch.setattr(SparkSession, "stop", lambda _: None)


def made(config: Config) -> str:
    """An untrained model of the config's features."""
    return export(models.make(config), config, config.scoring.models, {})


def ran(job: Callable[..., None], file: Path, *options: str) -> "typer.testing.Result":
    sets = [text for option in options if "=" in option for text in ("--set", option)]
    flags = [option for option in options if "=" not in option]
    return typer.testing.CliRunner().invoke(cli.job(job), ["--config", str(file), *sets, *flags])


def promoted(file: Path, *options: str) -> "typer.testing.Result":
    return ran(evaluate.main, file, "--from", DAY, "--to", DAY, "--promote", *options)


def champion(config: Config, version: str) -> registry.Champion:
    """Made so whoever was it."""
    models = config.scoring.models
    return registry.promote(models, version, over=registry.champion(models))


def without_price(values: dict[str, Any]) -> Config:
    features = {name: feature for name, feature in values["features"].items() if name != "price"}
    return parse(values | {"features": features})


def test_a_champion_that_knows_fewer_features_is_compared(
    file: Path, values: dict[str, Any], config: Config
) -> None:
    root = config.scoring.models
    first = champion(config, made(without_price(values)))
    version = made(config)
    found = promoted(
        file, "evaluation.gates.max_auc_drop={ctr: 0.0, cvr: 0.0}", "evaluation.gates.min_auc={ctr: 1.0}"
    )
    assert found.exit_code == 1, found.output
    assert "ctr.auc: expected at least 1, found 0." in found.output
    assert registry.champion(root) == first
    assert f"champion: {version}" in promoted(file, DROP).output


def test_a_champion_that_takes_what_samples_lack_is_in_nobodys_way(
    file: Path, values: dict[str, Any], config: Config
) -> None:
    """Of the samples' features price is none any more, or never was."""
    values["features"]["cost"] = values["features"]["price"]
    champion(config, first := made(parse(values)))
    second = made(config)
    found = promoted(file, DROP)
    assert found.exit_code == 1, found.output
    expected = "a model of the config's columns as champion, or --without-champion, found 'cost' besides"
    assert f"error: {config.scoring.models}/{first}: expected {expected}" in found.output
    assert f"champion: {second}" in promoted(file, DROP, "--without-champion").output
    champion(config, first)
    assert f"champion: {second}" in promoted(file).output, "no gate asks for the champion"
