"""Two real Horovod ranks that read: shards of one row group and of five, and files that break under them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from esmm import config as configs
from esmm import schema
from esmm.epochs import Epoch
from esmm.plan import make_plan
from tests import reading_ranks, synthetic
from tests.test_distributed import horovodrun

FILES = [500, 100, 100, 100, 100, 90]

EXPECTED = {
    "truncated": r"expected \d+ bytes, as planned, found \d+",
    "deleted": "expected a Parquet file, found no file",
    "another_schema": "column seller: expected int64, found double",
    "null_id": "column seller: expected no null, found 1 of them, the first in row 89 of row group 0",
    "short_list": "column clicked_seller: expected lists of 5, found 4 entries in row 89 of row group 0",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """What each of the two ranks found in each case, after one start of both."""
    directory = tmp_path_factory.mktemp("ranks")
    root = Path(__file__).resolve().parent.parent
    overrides = [f"embeddings.{name}={{rows: 100, dim: 4}}"
                 for name in ("user", "item", "seller", "brand", "category", "subcategory", "context")]  # fmt: skip
    config = configs.load(root / "conf/demo.yaml", [
        *overrides, "lists.clicked.length=5", "model.towers=[8]", "training.batch_size=64", "training.epochs=2",
        f"samples.table={directory}/sound/samples", f"training.directory={directory}/sound/training",
        f"scoring.models={directory}/sound/models",
    ])  # fmt: skip
    synthetic.publish(config, FILES)
    plan = make_plan(config.samples.table, None, schema.training_columns(config))
    seed = next(
        seed for seed in range(1000) if shards(Epoch(plan, ranks=2, batch_size=64, seed=seed)) == [1, 5]
    )
    config = config.model_copy(update={"seed": seed})
    for name in reading_ranks.FAULTS:
        table = synthetic.publish(reading_ranks.with_table(config, directory, name), FILES)
        if name == "common_metadata":
            reading_ranks.common_metadata(Path(table.files([synthetic.DAY])[0].removeprefix("file://")))
    horovodrun(config, directory, 2, "tests.reading_ranks")
    return directory, [json.loads((directory / f"outcome{rank}.json").read_text()) for rank in range(2)]


def shards(epoch: Epoch) -> list[int]:
    """Row groups of each rank."""
    return sorted(sum(len(block.pieces) for block in epoch.blocks(rank)) for rank in range(2))


@pytest.mark.slow
def test_shards_of_one_row_group_and_of_five_both_finish(outcomes: tuple[Path, list[dict[str, Any]]]) -> None:
    _, found = outcomes
    for rank in found:
        # Whoever has the 500 rows takes 8 steps of 64 rows an epoch, and so does the other with 490.
        assert rank["sound"] | {"seconds": 0} == {"steps": 16, "samples": 2 * 990, "seconds": 0}


@pytest.mark.slow
@pytest.mark.parametrize("fault", EXPECTED)
def test_a_fault_is_the_same_error_on_every_rank(
    outcomes: tuple[Path, list[dict[str, Any]]], fault: str
) -> None:
    _, (one, other) = outcomes
    assert one[fault]["kind"] == other[fault]["kind"] == "DataError"
    assert one[fault]["error"] == other[fault]["error"]
    assert max(one[fault]["seconds"], other[fault]["seconds"]) < 30
    assert re.search(rf"/{fault}/samples/.*part-5\.parquet(, |: ){EXPECTED[fault]}$", one[fault]["error"])


@pytest.mark.slow
def test_a_payload_is_refused_on_every_rank_and_not_run(
    outcomes: tuple[Path, list[dict[str, Any]]],
) -> None:
    directory, found = outcomes
    for rank in found:
        error = rank["common_metadata"]
        assert "_common_metadata: expected no such file, since opening it can run code" in error["error"]
        assert error["seconds"] < 30
    assert list(directory.rglob("_common_metadata"))
    assert not list(directory.rglob("was-run"))
