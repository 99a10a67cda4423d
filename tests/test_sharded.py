"""Tables that are spread over ranks: trained, broken off, resumed by other ranks, exported, and served."""

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from esmm import config as configs
from esmm import export, models, optimizers, versions
from esmm.bundles import join, key_of, write_part
from esmm.config import Config, Optimizer
from esmm.distributed.exchange import Alone
from esmm.errors import DataError
from esmm.layers.tables import Rows
from esmm.layers.variables import new_rows
from esmm.layers.ways import holding
from esmm.spread import Spread
from tests import synthetic

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("of", [1, 2, 3, 5])
def test_parts_of_a_table_begin_as_the_whole_does(of: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esmm.layers.variables._BLOCK", 7)
    whole = new_rows("a", 23, 4, 1, tf.float32).numpy()
    for first in range(of):
        part = new_rows("a", 23, 4, 1, tf.float32, first=first, every=of)
        np.testing.assert_array_equal(part, whole[first::of])
    assert len({tuple(row) for row in whole}) == 23
    assert 0.03 < whole.std() < 0.07


@pytest.mark.parametrize(("ranks", "readers"), [(1, 1), (2, 2), (2, 3), (3, 2), (4, 1), (5, 7)])
def test_other_ranks_read_what_some_have_written(
    tmp_path: Path, ranks: int, readers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esmm.spread._BLOCK", 4)
    tables = {"item": np.random.default_rng(0).normal(size=(37, 3)), "brand": np.arange(8.0).reshape(4, 2)}
    for rank in range(ranks):
        parts = {name: {"rows": tf.Variable(table[rank::ranks])} for name, table in tables.items()}
        Spread(parts, rank, ranks).write(tmp_path)
    for reader in range(readers):
        read = {name: {"rows": tf.Variable(0 * table[reader::readers])} for name, table in tables.items()}
        Spread(read, reader, readers).read(tmp_path)
        for name, table in tables.items():
            np.testing.assert_array_equal(read[name]["rows"], table[reader::readers])


def test_a_part_is_not_written_from_a_copy_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 16 MB no more than some blocks of 64 kB, and what else Python takes meanwhile."""
    monkeypatch.setattr("esmm.spread._BLOCK", 2**10)
    part = tf.Variable(np.random.default_rng(0).normal(size=(2**18, 16)).astype(np.float32))
    part.scatter_nd_update([[3]], tf.ones((1, 16)))
    spread = Spread({"item": {"rows": part}}, 0, 1)
    tracemalloc.start()
    try:
        spread.write(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20
    np.testing.assert_array_equal(np.load(tmp_path / "item/rows-0-of-1.npy"), part.numpy())


@pytest.mark.parametrize(("harm", "expected"), [
    ("missing", r"item/rows: expected a part of each of 3 ranks, found 2 files"),
    ("none", r"item/rows: expected the parts of a table, found 0 files"),
    ("narrow", r"rows-1-of-3\.npy: expected rows of 3 float64, found float64 \(12, 2\)"),
    ("short", r"item/rows: expected about 38 rows, found 25"),
    ("no array", r"rows-1-of-3\.npy: expected an array, found "),
])  # fmt: skip
def test_parts_that_are_no_tables(tmp_path: Path, harm: str, expected: str) -> None:
    table = np.ones((37, 3))
    for rank in range(3):
        Spread({"item": {"rows": tf.Variable(table[rank::3])}}, rank, 3).write(tmp_path)
    second = tmp_path / "item/rows-1-of-3.npy"
    if harm == "missing":
        second.unlink()
    elif harm == "none":
        for file in tmp_path.glob("item/*"):
            file.unlink()
    elif harm == "no array":
        second.write_bytes(b"no array")
    else:
        np.save(second, np.ones((12, 2)) if harm == "narrow" else np.ones((0, 3)))
    with pytest.raises(DataError, match=expected):
        Spread({"item": {"rows": tf.Variable(table[::2])}}, 0, 2).read(tmp_path)


def test_a_saved_model_is_joined_from_parts(tmp_path: Path) -> None:
    """A part's data is not there while it is joined, and is what is loaded."""

    class Served(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = tf.Variable([100.0])
            self.parts = [tf.Variable(tf.zeros((0, 1)), shape=(None, 1)) for _ in range(2)]

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
        def serve(self, rows: tf.Tensor) -> tf.Tensor:
            return (
                tf.compat.v1.nn.embedding_lookup(self.parts, rows, partition_strategy="mod")[:, 0] + self.bias
            )

    served = Served()
    tf.saved_model.save(served, str(tmp_path / "saved"))
    keys = [key_of(served, part) for part in served.parts]
    shards = [tf.Variable([[0.0], [2.0], [4.0]]), tf.Variable([[1.0], [3.0]])]
    indices = [
        write_part(tmp_path / f"part{rank}", {keys[rank]: shard}, rank, 2)
        for rank, shard in enumerate(shards)
    ]
    join(tmp_path / "saved", indices)
    for file in tmp_path.glob("part*/variables/*"):
        file.rename(tmp_path / "saved/variables" / file.name)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    found = loaded.serve(tf.constant([3, 0, 4, 1, 2], tf.int64))
    assert found.numpy().tolist() == [103.0, 100.0, 104.0, 101.0, 102.0]


def held(config: Config, way: str | None, directory: Path) -> Config:
    """The config with all tables held in a way, and everything but the samples in a directory."""
    values = json.loads(config.model_dump_json())
    for embedding in values["embeddings"].values():
        embedding["held"] = way
    values["training"] |= {
        "directory": str(directory / "training"), "epochs": 3, "batch_size": 15, "deterministic": True,
        "checkpoints": {"every_steps": 3, "keep": 2}, "optimizer": {"name": "adam", "learning_rate": 0.01,
                                                                  "clip_norm": 0.5},
    }  # fmt: skip
    values["scoring"]["models"] = str(directory / "models")
    return configs.parse(values)


def test_one_process_may_hold_a_table_as_one_part(config: Config, tmp_path: Path) -> None:
    config = held(config, "sharded", tmp_path)
    whole, one_part = (
        models.make(config),
        models.make(config, hold=holding(Alone(), dict.fromkeys(config.embeddings, "sharded"))),
    )
    columns = synthetic.columns(config, 40)
    version = export.export(one_part, config, str(tmp_path / "models"), {}, exchange=Alone())
    other = export.export(whole, config, str(tmp_path / "models"), {})
    predict, predict_whole = (export.load(str(tmp_path / "models"), each) for each in (version, other))
    for name, values in predict(columns).items():
        np.testing.assert_array_equal(values, predict_whole(columns)[name])
    assert predict.facts["bytes"] == predict_whole.facts["bytes"] > 4 * 100 * 4 * len(config.embeddings)


def run(config: Config, directory: Path, ranks: int, break_off_after: int = 0) -> dict[str, Any]:
    """Train by horovodrun; the result, the same on all ranks, nothing where they broke off."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(config.model_dump_json())
    launcher = Path(sys.executable).with_name("horovodrun")
    command = [
        launcher, "-np", ranks, "--gloo", "-H", f"localhost:{ranks}",
        sys.executable, "-m", "tests.sharded_ranks", directory, break_off_after,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_NUM_INTRAOP_THREADS": "1"}
    subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, check=True, timeout=240)
    results = [json.loads(file.read_text()) for file in sorted(directory.glob("result*.json"))]
    assert all(result == results[0] for result in results)
    assert len(results) == (0 if break_off_after else ranks)
    return results[0] if results else {}


def predictions(config: Config, result: dict[str, Any]) -> dict[str, np.ndarray]:
    return export.load(config.scoring.models, result["version"])(synthetic.columns(config, 200))


@pytest.mark.slow
def test_ranks_that_share_tables_out_train_the_same_model(config: Config, tmp_path: Path) -> None:
    """Broken off in the second epoch; resumed by as many ranks, and by more."""
    synthetic.publish(config, [130, 70, 99])
    whole, spread, elsewhere = (held(config, way, tmp_path / name) for name, way in (
        ("whole", None), ("spread", "sharded"), ("elsewhere", "sharded")))  # fmt: skip
    expected = run(whole, tmp_path / "whole", 2)
    assert expected["samples"] == 3 * 299
    run(spread, tmp_path / "spread", 2, break_off_after=17)
    shutil.copytree(spread.training.directory, elsewhere.training.directory)
    found = run(spread, tmp_path / "spread", 2)
    assert found["steps"] == expected["steps"] > 17
    assert found["validation"]["ctr"]["log_loss"] == pytest.approx(
        expected["validation"]["ctr"]["log_loss"], rel=1e-5
    )
    for name, values in predictions(spread, found).items():
        np.testing.assert_allclose(values, predictions(whole, expected)[name], atol=1e-5)

    by_three = run(elsewhere, tmp_path / "elsewhere", 3)
    assert by_three["samples"] == by_three["planned"] == 3 * 299
    facts = versions.manifest(elsewhere.scoring.models, by_three["version"])
    assert {table["way"] for table in facts.facts["tables"].values()} == {"sharded"}
    assert len([name for name in facts.files if "variables.data" in name]) == 4


def test_the_norm_of_gradients_is_that_of_all_parts() -> None:
    """Two ranks with a row each of gradient 3 and 4, and a dense gradient of 12: 13 in all."""
    dense = tf.Variable([0.0], name="d")
    for own, other in ((3.0, 4.0), (4.0, 3.0)):
        shard = tf.Variable([[0.0]], name="s")
        optimizer = optimizers.make(
            [dense], Optimizer(clip_norm=6.5), [shard], lambda mine, other=other: mine + other**2
        )
        gradients = optimizer._clipped(
            [(dense, tf.constant([12.0]))], [(shard, Rows(tf.constant([0], tf.int64), tf.constant([[own]])))]
        )
        assert float(gradients[0][0][1][0]) == pytest.approx(6.0)
        assert float(gradients[1][0][1].values_ud[0, 0]) == pytest.approx(own / 2)
