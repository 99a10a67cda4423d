"""jobs/evaluate.py --promote and jobs/roll_back.py: who becomes champion, and what is said where nobody does."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer.testing
import yaml
from pyspark.sql import SparkSession
from sklearn.metrics import roc_auc_score

from esmm import cli, gates, models, registry
from esmm.config import Config, parse
from esmm.export import export, load
from jobs import evaluate, roll_back
from tests import synthetic

DAY, ROWS = str(synthetic.DAY), 300
DROP = "evaluation.gates.max_auc_drop={ctr: 1.0}"


@pytest.fixture
def values(values: dict[str, Any]) -> dict[str, Any]:
    """Without any gate, and without what takes logs or the simulator's truth."""
    values["evaluation"] |= {"as_nightly": False, "truth": None, "gates": {}}
    return values


@pytest.fixture
def file(values: dict[str, Any], config: Config, tmp_path: Path) -> Path:
    """The config, and samples of its columns."""
    synthetic.publish(config, [ROWS])
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(autouse=True)
def session(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs take the tests' session, and leave it to them."""
    monkeypatch.setattr(SparkSession, "stop", lambda _: None)


def made(config: Config, seed: int = 1) -> str:
    """An untrained model of the config's features, whose numbers differ from row to row."""
    model = models.make(config.model_copy(update={"seed": seed}))
    for table in model.tables.values():
        table.weights.assign(table.weights * 20)
    return export(model, config, config.scoring.models, {})


def auc(config: Config, version: str) -> float:
    """Of clicks, by scikit-learn."""
    samples = synthetic.columns(config, ROWS)
    found: float = roc_auc_score(samples["click"], load(config.scoring.models, version)(samples)["pctr"])
    return found


def ran(job: Callable[..., None], file: Path, *options: str) -> "typer.testing.Result":
    """Options with a = are settings."""
    given = [text for option in options for text in (["--set", option] if "=" in option else [option])]
    return typer.testing.CliRunner().invoke(cli.job(job), ["--config", str(file), *given])


def promoted(file: Path, *options: str) -> "typer.testing.Result":
    return ran(evaluate.main, file, "--from", DAY, "--to", DAY, "--promote", *options)


def champion(config: Config, version: str) -> registry.Champion:
    """Made so whoever was it."""
    models = config.scoring.models
    return registry.promote(models, version, over=registry.champion(models))


def without_price(values: dict[str, Any]) -> Config:
    features = {name: feature for name, feature in values["features"].items() if name != "price"}
    return parse(values | {"features": features})


def test_the_champion_is_measured_on_the_same_rows(
    file: Path, values: dict[str, Any], config: Config
) -> None:
    """Of two models the worse one does not replace the better one, though that knows fewer features."""
    theirs = without_price(values)
    first = champion(config, max((made(theirs, seed) for seed in range(3)), key=partial(auc, config)))
    version = min((made(config, seed) for seed in range(3, 6)), key=partial(auc, config))
    least, found = auc(config, first.version), auc(config, version)
    assert found < least - 0.01

    refused = promoted(file, "--model", version, "evaluation.gates.max_auc_drop={ctr: 0.0}")
    assert refused.exit_code == 1, refused.output
    [line] = [line for line in refused.output.splitlines() if line.startswith("error: ")]
    said = re.search(r"ctr.auc: expected at least (\S+), 0 below the champion's, found (\S+)$", line)
    assert said is not None, line
    assert [float(each) for each in said.groups()] == pytest.approx([least, found], abs=1e-3)
    assert registry.champion(config.scoring.models) == first

    allowed = promoted(
        file, "--model", version, f"evaluation.gates.max_auc_drop={{ctr: {least - found + 0.01}}}"
    )
    assert f"champion: {version}" in allowed.output


def test_every_gate_that_does_not_hold_is_named(file: Path, config: Config) -> None:
    version = made(config)
    found = promoted(file, "evaluation.gates={min_auc: {ctr: 0.99}, pcoc: {ctcvr: [0.0, 0.001]}}")
    assert found.exit_code == 1, found.output
    where = f"error: {config.scoring.models}/{version}: expected a model that passes evaluation.gates, found "
    assert f"{where}ctr.auc: expected at least 0.99, found 0." in found.output
    assert "; ctcvr.pcoc: expected 0 to 0.001, found " in found.output
    assert registry.champion(config.scoring.models) is None


def test_who_is_promoted_meanwhile_stays(file: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = made(config), made(config)
    monkeypatch.setattr(gates, "check", lambda *_, **__: champion(config, first))
    found = promoted(file, "--model", second)
    assert found.exit_code == 3, found.output
    assert f"champion.json: expected no champion, as before the evaluation, found {first}" in found.output


def test_rolling_back(file: Path, config: Config) -> None:
    versions = [made(config), made(config)]
    for version in versions:
        champion(config, version)
    found = ran(roll_back.main, file)
    assert (found.exit_code, found.output) == (0, f"champion: {versions[0]}\n")
    found = ran(roll_back.main, file)
    assert found.exit_code == 1
    assert (
        f"champion.json: expected a champion before this one, found {versions[0]}, the first one"
        in found.output
    )


def test_a_champion_that_takes_what_samples_lack_is_in_nobodys_way(
    file: Path, values: dict[str, Any], config: Config
) -> None:
    """A feature of the first model, cost, has been taken out of the config since."""
    values["features"]["cost"] = values["features"]["price"]
    champion(config, first := made(parse(values)))
    second = made(config)
    found = promoted(file, DROP)
    assert found.exit_code == 1, found.output
    expected = "a model of the config's columns as champion, or --without-champion, found 'cost' besides"
    assert f"error: {config.scoring.models}/{first}: expected {expected}" in found.output
    assert f"champion: {second}" in promoted(file, DROP, "--without-champion").output
    assert gates.rival(config, second, champion(config, first)) is None, "no gate asks for the champion"
