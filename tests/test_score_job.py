"""jobs/score.py and what a person may get wrong: one line, the exit code, and nothing published."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer.testing
import yaml
from pyspark.sql import SparkSession

from esmm import cli
from esmm.config import Config, parse
from esmm.publish import Table
from jobs import score
from tests.test_candidates import write_candidates
from tests.test_scoring import DAY, scores
from tests.test_scoring import candidates as candidates  # a fixture
from tests.test_scoring import model as model  # a fixture

NAN = float("nan")


@pytest.fixture
def file(values: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(autouse=True)
def session(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job takes the tests' session, and leaves it to them."""
    monkeypatch.setattr(SparkSession, "stop", lambda _: None)


def scored(file: Path, *options: str) -> "typer.testing.Result":
    arguments = ["--config", str(file), "--date", str(DAY), *options]
    return typer.testing.CliRunner().invoke(cli.job(score.main), arguments)


@pytest.mark.usefixtures("candidates", "model")
def test_it_says_what_it_scored(file: Path, config: Config) -> None:
    write_candidates(config, user_id=[1, 1, 77], item_id=[1, 88, 99])
    found = scored(file)
    assert found.exit_code == 0, found.output
    assert "2 users, 1 of them unknown\n3 items, 2 of them unknown\n3 rows in " in found.output
    assert len([line for line in found.output.splitlines() if line.startswith(("|1 ", "|77 "))]) == 3


BY_BID = ["--set", "scoring.rank_by=pctcvr * bid", "--set", "scoring.pass_through=[bid]"]
Case = tuple[dict[str, list[Any]], list[str], int, str]
"""Candidates, options, exit code and the line's start."""
BAD: dict[str, Case] = {
    "no column of items": (
        {"user_id": [1], "item": [1]}, [], 1,
        "scoring.candidates.columns.item_id: expected a column of ",
    ),
    "a null user": (
        {"user_id": [1, None], "item_id": [1, 2]}, [], 1,
        "scoring.candidates: expected a user and an item in every row, neither negative, found {'user_id': None, ",
    ),
    "a price of NaN": (
        {"user_id": [1, 1], "item_id": [1, 2], "bid": [0.5, NAN]}, BY_BID, 1,
        "scoring.rank_by: expected a number for every candidate, found none for user 1 and item 2",
    ),
    "a column to rank by that is not there": (
        {"user_id": [1], "item_id": [1]}, ["--set", "scoring.rank_by=pctcvr * bid"], 2,
        "scoring.rank_by: expected an expression of pctr, pcvr, pctcvr, features and what passes through, found ",
    ),
    "a table that is not there": (
        {"user_id": [1], "item_id": [1]}, ["--set", "scoring.candidates={table: nowhere}"], 1,
        "scoring.candidates.table: expected a table of the catalog, found nothing there (nowhere)",
    ),
    "a database that is not there": (
        {"user_id": [1], "item_id": [1]}, ["--set", "scoring.candidates={table: ads.nowhere}"], 1,
        "scoring.candidates.table: expected a table of the catalog, found nothing there (ads.nowhere)",
    ),
    "a table of scores without Hive": (
        {"user_id": [1], "item_id": [1]}, ["--set", "scoring.catalog=ads.scores"], 2,
        "scoring.catalog: expected a session with a Hive metastore, found in-memory",
    ),
    "users without items": (
        {"user_id": [1], "item_id": [1]}, ["--set", "scoring.users={path: users}"], 2,
        "scoring: expected candidates, or users and items, found candidates and users",
    ),
    "a model that is not there": (
        {"user_id": [1], "item_id": [1]}, ["--model", "v1"], 1, "{models}: expected the published model v1, found ",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("candidates", "model")
@pytest.mark.parametrize("case", BAD)
def test_a_mistake_ends_in_one_line(file: Path, config: Config, case: str) -> None:
    columns, options, code, line = BAD[case]
    write_candidates(config, **columns)
    check_refused(config, scored(file, *options), code, line.replace("{models}", config.scoring.models))


@pytest.mark.usefixtures("candidates", "model")
@pytest.mark.parametrize("price", [NAN, None])
def test_a_feature_to_rank_by_that_is_no_number(
    spark: SparkSession, file: Path, config: Config, price: float | None
) -> None:
    """It is item 3's. To the model it is 0; a rank is made of it only where the config says what it counts as."""
    log = Path(config.logs.items.source) / "part-0.parquet"
    items = pq.read_table(log)
    prices = [price if item == 3 else 2.0 for item in items["item_id"].to_pylist()]
    place = items.column_names.index("price")
    pq.write_table(items.set_column(place, "price", pa.array(prices, pa.float64())), log)
    by_price = ["--set", "scoring.rank_by=0 * pctcvr + price"]
    line = "scoring.rank_by: expected a number for every candidate, found none for user 1 and item 3"
    check_refused(config, scored(file, *by_price), 1, line)
    found = scored(file, "--set", "scoring.rank_by=0 * pctcvr + coalesce(price, 7)")
    assert found.exit_code == 0, found.output
    ranks = scores(spark, config)
    assert set(ranks["score"][ranks["item_id"] == 3]) == {7.0}


@pytest.mark.usefixtures("candidates")
@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index"])
def test_a_model_with_one_byte_changed(file: Path, config: Config, model: str, name: str) -> None:
    path = Path(config.scoring.models, model, name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    line = f"{config.scoring.models}/{model}/{name}: expected the file with SHA-256 "
    check_refused(config, scored(file), 1, line)


@pytest.mark.usefixtures("candidates", "model")
def test_a_model_of_other_columns(file: Path, values: dict[str, Any]) -> None:
    values["lists"]["clicked"]["length"] = 7
    file.write_text(yaml.safe_dump(values))
    line = "expected a model of the config's columns, found 'clicked_item' otherwise"
    check_refused(parse(values), scored(file), 1, line)


def check_refused(config: Config, found: "typer.testing.Result", code: int, line: str) -> None:
    errors = [text for text in found.output.splitlines() if text.startswith("error")]
    assert (found.exit_code, len(errors)) == (code, 1), found.output
    assert line in errors[0]
    assert "Traceback" not in found.output
    table = Table(str(config.scoring.table))
    assert table.days() == []
    assert table.claims.keys() == []
    assert not list(Path(table.path).glob("run=*"))
