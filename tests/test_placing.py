"""Which table is held in which way, and what that makes ranks send."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from structlog.testing import capture_logs

from esmm import config as configs
from esmm import models, placing, schema
from esmm.config import Config
from esmm.distributed.exchange import Alone
from esmm.errors import DataError
from esmm.fitted import NOTHING
from esmm.layers.ways import sent
from esmm.plan import ReadingPlan, make_plan
from tests import synthetic


def ranks(size: int) -> Alone:
    """One of so many, that gets what rank 0 has."""
    exchange = Alone()
    exchange.size = size
    return exchange


def planned(config: Config) -> ReadingPlan:
    return make_plan(config.samples.table, None, schema.training_columns(config))


@pytest.mark.parametrize(("way", "expected"), [
    ("dense", 1.5 * 4 * 1000 * 17),  # 2 · 3/4 of the table and its counts
    ("sparse", 3 * 200 * (64 + 8)),  # to each of the others: 16 floats and an index a row
    ("sharded", 0.75 * 200 * (2 * 64 + 8)),  # 3/4 of the rows are elsewhere: an index and 16 floats each way
])  # fmt: skip
def test_bytes_of_four_ranks_with_200_rows_of_1000_in_use(way: str, expected: float) -> None:
    assert sent(way, 4, rows=1000, dim=16, in_use=200) == expected
    assert sent(way, 1, rows=1000, dim=16, in_use=200) == 0


def test_rows_in_use_are_counted_once_whatever_the_column(values: dict[str, Any]) -> None:
    values["embeddings"]["pair"] = {"rows": 1000, "dim": 4}
    values["features"]["pair"] = {"kind": "cross", "of": ["segment", "hour"], "embedding": "pair"}
    config = configs.parse(values)
    batch = synthetic.columns(config, 60)
    found = placing.rows_in_use(config, batch)
    items = {*batch["item"].tolist(), *batch["clicked_item"].ravel().tolist()}
    assert found["item"] == len(items - {-1})
    pairs = set(zip(batch["segment"].tolist(), batch["hour"].tolist(), strict=True))
    assert found["pair"] == len([pair for pair in pairs if -1 not in pair]) < len(pairs)


def test_tables_are_held_by_size_density_or_as_the_config_says(values: dict[str, Any]) -> None:
    """One batch of 128 uses about 50 ids a table: most rows of 55, few of 100,000; 3 GB is above the limit."""
    values["embeddings"] |= {
        "seller": {"rows": 55, "dim": 4}, "brand": {"rows": 100_000, "dim": 4}, "category": {"rows": 60, "dim": 4,
        "held": "sparse"}, "user": {"rows": 50_000_000, "dim": 8}, "context": {"rows": 60, "dim": 4, "held": "sharded"},
    }  # fmt: skip
    values["training"]["shard_above_gib"] = 2.9
    config = configs.parse(values)
    synthetic.publish(config, [100, 100])
    found = placing.chosen(config, planned(config), ranks(2), NOTHING)
    assert {name: found[name] for name in ("seller", "brand", "category", "user", "context")} == {
        "seller": "dense", "brand": "sparse", "category": "sparse", "user": "sharded", "context": "sharded",
    }  # fmt: skip
    values["training"]["shard_above_gib"] = 3.0  # 50 million × 8 floats, and as many sums: 2.98 GiB
    assert placing.chosen(configs.parse(values), planned(config), ranks(2), NOTHING)["user"] == "sparse"


def test_one_process_holds_tables_whole_and_reads_nothing_to_know_it(values: dict[str, Any]) -> None:
    values["embeddings"]["brand"]["held"] = "dense"
    values["embeddings"]["user"]["held"] = "sharded"
    config = configs.parse(values)
    found = placing.chosen(config, ReadingPlan(columns={}, files=()), Alone(), NOTHING)
    assert found == dict.fromkeys(found, "whole") | {"user": "sharded"}


def test_samples_that_cannot_be_read_are_one_error(config: Config) -> None:
    table = synthetic.publish(config, [60])
    plan = planned(config)
    file = Path(table.path, table.manifest(synthetic.DAY).files[0].path)
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(DataError, match=r"part-0.parquet: expected a readable Parquet file"):
        placing.chosen(config, plan, ranks(2), NOTHING)


def test_traffic_is_the_mean_over_steps(config: Config) -> None:
    model = models.make(config)
    ways = dict.fromkeys(config.embeddings, "sparse")
    traffic = placing.Traffic(model, ways, ranks=2)
    for used in (10, 20):
        traffic.add({name: tf.constant(used) for name in config.embeddings})
    assert traffic.summary()["item"] == {"way": "sparse", "rows": 15.0, "bytes": 15 * (4 * 4 + 8)}
    assert np.isclose(traffic.summary()["seller"]["bytes"], 15 * (4 * 4 + 8))


def test_what_was_sent_is_logged_by_table_and_in_all() -> None:
    item, seller = (
        {"way": "sharded", "rows": 15.0, "bytes": 2000},
        {"way": "dense", "rows": 7.5, "bytes": 300},
    )
    with capture_logs() as lines:
        placing.log_traffic({"item": item, "seller": seller})
    assert [line.get("name") for line in lines] == ["item", "seller", None]
    assert lines[0]["held"] == "sharded"
    assert lines[0]["rows_a_step"] == 15.0
    assert [line["bytes_a_step"] for line in lines] == [2000, 300, 2300]
