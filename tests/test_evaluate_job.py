"""jobs/evaluate.py --promote and jobs/roll_back.py: who becomes champion, and what is said where nobody does."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer.testing
import yaml
from sklearn.metrics import roc_auc_score

from esmm import cli, gates, models, registry, schema, versions
from esmm.config import Config, parse
from esmm.export import export, load
from esmm.publish import Table
from jobs import evaluate, roll_back
from tests import synthetic
from tests.conftest import small
from tests.sample_files import with_column
from tests.test_score_job import session as session  # a fixture: the jobs take the tests' session

DAY = str(synthetic.DAY)
DROP = "evaluation.gates.max_auc_drop={ctr: 0.0}"


@pytest.fixture
def values(values: dict[str, Any]) -> dict[str, Any]:
    """Without any gate, and without what takes logs or the simulator's truth."""
    values["evaluation"] |= {"as_nightly": False, "truth": None, "gates": {}}
    return values


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two untrained models, the second without the feature price: exported once, since that takes seconds."""
    directory = tmp_path_factory.mktemp("made")
    for seed, left_out in enumerate((None, "price")):
        config = without(small(directory) | {"seed": seed}, left_out)
        model = models.make(config)
        for table in model.tables.values():
            table.weights.assign(table.weights * 20)  # so that rows differ
        export(model, config, str(directory / "models"), {})
    return directory / "models"


@pytest.fixture
def exported(made: Path, config: Config) -> list[str]:
    """The versions of both, where the config has its models."""
    shutil.copytree(made, config.scoring.models)
    return versions.complete(config.scoring.models)


@pytest.fixture
def file(values: dict[str, Any], config: Config, tmp_path: Path) -> Path:
    """The config, and samples of its columns."""
    synthetic.publish(config, [300])
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def publish_again(config: Config) -> None:
    """With a manifest of what the files hold now."""
    table = Table(config.samples.table)
    table.publish(synthetic.DAY, table.manifest(synthetic.DAY).run, config=config.digest())


def without(values: dict[str, Any], left_out: str | None) -> Config:
    features = {name: feature for name, feature in values["features"].items() if name != left_out}
    return parse(values | {"features": features})


def empty_model(config: Config, directory: Path) -> str:
    """The version of one that says of itself that it takes the config's columns, and cannot score."""
    columns = {
        column.name: {"type": column.type, "length": column.length}
        for column in schema.feature_columns(config)
    }
    directory.mkdir(exist_ok=True)
    version = versions.new_version()
    versions.put(config.scoring.models, version, directory, {"columns": columns})
    return version


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


def test_the_champion_is_measured_on_the_same_rows(file: Path, config: Config, exported: list[str]) -> None:
    """Clicked is what the champion finds likely, though it knows fewer features: so its AUC is 1."""
    version, first = exported
    samples = synthetic.columns(config, 300)
    likely = load(config.scoring.models, first)(samples)["pctr"]
    samples["click"] = (likely > np.median(likely)).astype(np.int8)
    samples["purchase"] = samples["purchase"] & samples["click"]
    [stored] = Path(config.samples.table).glob("run=*/ds=*/part-0.parquet")
    synthetic.write(config, samples, str(stored))
    publish_again(config)
    own = roc_auc_score(samples["click"], load(config.scoring.models, version)(samples)["pctr"])
    assert own < 0.9
    theirs = champion(config, first)

    refused = promoted(file, "--model", version, DROP)
    assert refused.exit_code == 1, refused.output
    [line] = [line for line in refused.output.splitlines() if line.startswith("error: ")]
    said = re.search(r"ctr.auc: expected at least (\S+), 0 below the champion's, found (\S+)$", line)
    assert said is not None, line
    assert [float(each) for each in said.groups()] == pytest.approx([1.0, own], abs=1e-3)
    assert registry.champion(config.scoring.models) == theirs


def test_a_champion_that_takes_what_samples_lack_is_in_nobodys_way(
    file: Path, values: dict[str, Any], config: Config, exported: list[str], tmp_path: Path
) -> None:
    """A feature of the champion's, cost, has been taken out of the config since."""
    values["features"]["cost"] = values["features"]["price"]
    first = champion(config, empty_model(parse(values), tmp_path / "empty"))
    found = promoted(file, "--model", exported[0], DROP)
    assert found.exit_code == 1, found.output
    expected = "a model of the config's columns as champion, or --without-champion, found 'cost' besides"
    assert f"error: {config.scoring.models}/{first.version}: expected {expected}" in found.output
    assert gates.rival(config, exported[0], first) is None, "no gate asks for the champion"
    found = promoted(file, "--model", exported[0], DROP, "--without-champion")
    assert f"champion: {exported[0]}" in found.output


def test_every_gate_that_does_not_hold_is_named(file: Path, config: Config, exported: list[str]) -> None:
    found = promoted(
        file, "--model", exported[0], "evaluation.gates={min_auc: {ctr: 0.99}, pcoc: {ctcvr: [0.0, 0.001]}}"
    )
    assert found.exit_code == 1, found.output
    where = (
        f"error: {config.scoring.models}/{exported[0]}: expected a model that passes evaluation.gates, found "
    )
    assert f"{where}ctr.auc: expected at least 0.99, found 0." in found.output
    assert "; ctcvr.pcoc: expected 0 to 0.001, found " in found.output
    assert registry.champion(config.scoring.models) is None


def column_changed(name: str, change: Callable[[list[Any]], pa.Array]) -> Callable[[pa.Table], pa.Table]:
    def changed(samples: pa.Table) -> pa.Table:
        return with_column(samples, name, change(samples[name].to_pylist()))

    return changed


BAD: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "a list that is too long": (
        column_changed("clicked_item", lambda lists: pa.array([2 * entries for entries in lists])),
        ".parquet, column clicked_item: expected lists of 5 without nulls, found 3000 values and 0 nulls in 300 rows",
    ),
    "a list that is too short": (
        column_changed("clicked_item", lambda lists: pa.array([entries[:3] for entries in lists])),
        ".parquet, column clicked_item: expected lists of 5 without nulls, found 900 values and 0 nulls in 300 rows",
    ),
    "lists that are long and short by turns": (
        column_changed("clicked_item", lambda lists: pa.array([[*lists[0], 7], lists[1][1:], *lists[2:]])),
        "error: column clicked_item: expected lists of at most 5, found one of 6",
    ),
    "a float in place of an id": (
        column_changed("item", lambda ids: pa.array(ids, "float64")),
        f"/samples/ds={DAY}, column item: expected int64, found double",
    ),
    "a column that is not there": (
        lambda samples: samples.drop_columns(["price"]),
        f"/samples/ds={DAY}, column price: expected float, found no column",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_samples_of_another_schema_than_the_models_are_not_scored(
    file: Path, config: Config, exported: list[str], case: str, recwarn: pytest.WarningsRecorder
) -> None:
    change, line = BAD[case]
    [stored] = Path(config.samples.table).glob("run=*/ds=*/part-0.parquet")
    pq.write_table(change(pq.ParquetFile(stored).read()), stored)
    publish_again(config)
    found = ran(evaluate.main, file, "--from", DAY, "--to", DAY, "--model", exported[0])
    assert (found.exit_code, line in found.output) == (1, True), found.output
    assert "Traceback" not in found.output
    assert not [warning for warning in recwarn if "Traceback" in str(warning.message)]
    assert not Path(config.evaluation.directory).exists()


def test_who_is_promoted_meanwhile_stays(
    file: Path, config: Config, exported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    version, other = exported
    monkeypatch.setattr(gates, "check", lambda *_, **__: champion(config, other))
    found = promoted(file, "--model", version)
    assert found.exit_code == 3, found.output
    assert f"champion.json: expected no champion, as before the evaluation, found {other}" in found.output


def test_rolling_back(file: Path, config: Config, tmp_path: Path) -> None:
    first, second = (empty_model(config, tmp_path / "empty") for _ in range(2))
    champion(config, first)
    champion(config, second)
    found = ran(roll_back.main, file)
    assert (found.exit_code, found.output) == (0, f"champion: {first}\n")
    found = ran(roll_back.main, file)
    assert found.exit_code == 1
    assert f"champion.json: expected a champion before this one, found {first}, the first one" in found.output


def test_rolling_back_to_what_scoring_refuses_is_warned_of(
    file: Path, values: dict[str, Any], config: Config, tmp_path: Path
) -> None:
    """The first one's feature, cost, has been taken out of the config since."""
    values["features"]["cost"] = values["features"]["price"]
    first = empty_model(parse(values), tmp_path / "empty")
    champion(config, first)
    champion(config, empty_model(config, tmp_path / "empty"))
    found = ran(roll_back.main, file)
    assert (found.exit_code, found.stdout) == (0, f"champion: {first}\n")
    [line] = found.stderr.splitlines()
    assert "jobs/score.py refuses the champion" in line
    assert f"/{first}: expected a model of the config's columns, found 'cost' besides" in line
    assert registry.resolve(config.scoring.models, None) == first
