"""Real Horovod ranks: they train like one, and none waits for another that has gone."""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import horovod.spark
import numpy as np
import pytest
from pyspark.sql import SparkSession

from esmm import schema, versions
from esmm.config import Config, EarlyStopping, Failure, Optimizer
from esmm.distributed import spark_ranks
from esmm.distributed.launch import Work
from esmm.errors import ConfigError, DataError, RankLostError
from esmm.layers.ways import WAYS
from esmm.plan import make_plan
from esmm.runs import RunResult
from tests import plain, ranks, synthetic

ROOT = Path(__file__).resolve().parent.parent


def horovodrun(config: Config, directory: Path, size: int, module: str = "tests.ranks") -> None:
    """Run a module of the tests on `size` ranks."""
    (directory / "config.json").write_text(config.model_dump_json())
    launcher = Path(sys.executable).with_name("horovodrun")
    command = [
        launcher,
        "-np",
        size,
        "--gloo",
        "-H",
        f"localhost:{size}",
        sys.executable,
        "-m",
        module,
        directory,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_NUM_INTRAOP_THREADS": "1"}
    subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, check=True, timeout=240)


ADAM = Optimizer(name="adam", learning_rate=0.01, weight_decay=0.1, clip_norm=0.05)


@pytest.mark.parametrize(("size", "optimizer"), [
    pytest.param(2, ADAM, id="two, Adam"),
    pytest.param(2, Optimizer(), id="two", marks=pytest.mark.slow),
    pytest.param(3, Optimizer(), id="three", marks=pytest.mark.slow),
])  # fmt: skip
def test_ranks_train_like_one_process(
    config: Config, tmp_path: Path, size: int, optimizer: Optimizer
) -> None:
    """However tables are held; with Adam, weights decay and gradients are clipped, too, by the norm of their sum."""
    config = with_ranks(config, size, optimizer=optimizer)
    horovodrun(config, tmp_path, size)
    shares = list(ranks.batches(config, size))
    whole = [{name: np.concatenate([share[name] for share in step]) for name in step[0]} for step in shares]
    assert {len(part["click"]) for step in shares for part in step} == {0, 3, ranks.BATCH}
    assert not len(whole[20]["click"])
    start = dict(np.load(tmp_path / "start-sparse-0.npz"))
    expected = plain.train(config, start, whole)
    for way in WAYS:
        check_way(tmp_path, size, way, start, expected)
        for rank in range(size):
            sums = np.load(tmp_path / f"end-{way}-{rank}.npz")["sums"]
            np.testing.assert_array_equal(sums[:, 0], [step["weight"].sum() for step in whole])
            np.testing.assert_array_equal(sums[:, 1], [(step["weight"] > 0).sum() for step in whole])
    if size == 2:
        check_exchanges(tmp_path)


def check_way(
    directory: Path, size: int, way: str, start: dict[str, np.ndarray], expected: dict[str, np.ndarray]
) -> None:
    """All ranks began with the same and ended with what is expected, to the last bit the same on each."""
    began, *_ = [dict(np.load(directory / f"start-{way}-{rank}.npz")) for rank in range(size)]
    ends = [dict(np.load(directory / f"end-{way}-{rank}.npz")) for rank in range(size)]
    assert set(began) == set(start) == set(expected) == set(ends[0]) - {"sums"}
    for name, values in expected.items():
        np.testing.assert_array_equal(began[name], start[name], err_msg=f"{way}: {name}")
        for end in ends:
            np.testing.assert_allclose(end[name], values, atol=1e-7, err_msg=f"{way}: {name}")
            np.testing.assert_array_equal(end[name], ends[0][name])


def check_exchanges(directory: Path) -> None:
    """What `ranks.exchanges` and `ranks.leave` left."""
    for rank in range(2):
        found = json.loads((directory / f"exchanges{rank}.json").read_text())
        assert found == {
            "one": 3.0,
            "many": [[10.0] * 3] * 2,
            "both": [7, 2, 7, 1],
            "of rank 1": [[1.0, 1.0]] * 3,
            "none": [0, 4],
            "received": [[10, 20, 21], [11, 12, 22]][rank],
            "counts": [[1, 2], [2, 1]][rank],
            "object": {"from": 0},
        }
    expected = "expected all ranks to go on, found KeyError: 'a mistake', in step 0 (starting)"
    assert (directory / "lost.txt").read_text() == f"rank 1 on {platform.node()}: {expected}"


def with_ranks(config: Config, ranks: int, **training: object) -> Config:
    return synthetic.with_training(config, **{"ranks": ranks, "batch_size": 50, **training})


def run_on_spark(spark: SparkSession, config: Config) -> RunResult:
    plan = make_plan(config.samples.table, None, schema.training_columns(config))
    validation = plan if config.training.calibrate else None
    return spark_ranks.run(spark.sparkContext, config, lambda: Work(plan, [synthetic.DAY], validation))


@pytest.mark.slow
def test_spark_runs_two_ranks(
    spark: SparkSession, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    # The first epoch is the best, since none improves by as much.
    stopping = EarlyStopping(metric="ctr.log_loss", min_change=1.0)
    config = with_ranks(config, 2, epochs=2, calibrate=True, early_stopping=stopping)
    synthetic.publish(config, [150, 90])
    result = run_on_spark(spark, config)
    # Whoever has the 150 rows takes three steps an epoch, and so does the other.
    assert (result["steps"], result["samples"], result["metrics"]["ctr"]["rows"]) == (6, 480, 240)
    lines = re.findall(r"rank starts .* of=240 rank=(\d) rows=(\d+) size=2", capsys.readouterr().err)
    assert sorted(rank for rank, _ in lines) == ["0", "1"]
    assert sorted(rows for _, rows in lines) == ["150", "90"]
    assert versions.complete(config.scoring.models) == [result["version"]]

    # Calibrated by what both ranks make of their rows with the best epoch's model, which rank 0 alone has restored.
    calibration = versions.manifest(config.scoring.models, result["version"]).facts["calibration"]
    assert result["validation"] is not None
    for task in ("ctr", "ctcvr"):
        before, after = calibration["before"][task], calibration["after"][task]
        assert before == pytest.approx(result["validation"][task], rel=1e-5)
        assert (before["rows"], after["rows"]) == (240, 240)
        assert abs(before["pcoc"] - 1) > 0.01
        assert after["pcoc"] == pytest.approx(1, abs=1e-3)


def test_too_few_slots_are_an_error_that_says_how_many(spark: SparkSession, config: Config) -> None:
    config = with_ranks(config, 3)
    synthetic.publish(config, [10])
    expected = r"^training.ranks: expected 3 free task slots in Spark, one a rank, found 2$"
    with pytest.raises(DataError, match=expected):
        run_on_spark(spark, config)


def test_an_interface_that_is_not_there_is_an_error_of_the_config(
    spark: SparkSession, config: Config
) -> None:
    config = with_ranks(config, 2, nics=("nonesuch0",))
    synthetic.publish(config, [10])
    expected = r"^training.nics: expected network interfaces that the driver has, found nonesuch0$"
    with pytest.raises(ConfigError, match=expected):
        run_on_spark(spark, config)


def test_what_horovod_says_of_spark_is_one_line(
    spark: SparkSession, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug stays what it is."""
    config = with_ranks(config, 2, failure=Failure(max_restarts=0))
    synthetic.publish(config, [10])
    errors = [Exception("Spark job has failed, see the error above."), KeyError("a mistake of ours")]
    monkeypatch.setattr(horovod.spark, "run", lambda *_, **__: (_ for _ in ()).throw(errors.pop(0)))
    expected = (
        "^Spark: expected a task for each rank to its end, found Spark job has failed, see the error above.$"
    )
    with pytest.raises(RankLostError, match=expected):
        run_on_spark(spark, config)
    with pytest.raises(KeyError):
        run_on_spark(spark, config)


@pytest.mark.slow
def test_an_error_of_one_rank_is_the_runs(spark: SparkSession, config: Config) -> None:
    """The second of two files is replaced by one of the same length that is none."""
    config = with_ranks(config, 2)
    table = synthetic.publish(config, [60, 60])
    plan = make_plan(config.samples.table, None, schema.training_columns(config))
    damaged = Path(table.path, table.manifest(synthetic.DAY).files[1].path)
    damaged.write_bytes(bytes(damaged.stat().st_size))
    with pytest.raises(DataError, match=r"part-1.parquet: expected a readable Parquet file"):
        spark_ranks.run(spark.sparkContext, config, lambda: Work(plan))
    assert not versions.complete(config.scoring.models)


def test_the_error_that_others_followed_from_is_raised() -> None:
    lost = RankLostError("rank 0", expected="the other ranks to go on", found="one that stopped")
    cause = DataError("part-1.parquet", expected="a readable Parquet file", found="another")
    with pytest.raises(DataError, match=r"^part-1\.parquet"):
        spark_ranks.first_result([lost, cause])
