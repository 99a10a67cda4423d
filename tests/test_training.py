"""Training: exact steps, whole runs, what they leave behind, and how they fail."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from structlog.testing import capture_logs
from tensorflow.python.summary.summary_iterator import summary_iterator

from esmm import checkpoints, export, models, schema, versions
from esmm import config as configs
from esmm.config import Config
from esmm.distributed.exchange import Alone, merge
from esmm.errors import DataError
from esmm.layers import Rows
from esmm.optimizers import Adagrad
from esmm.plan import make_plan
from esmm.progress import NOTHING, Totals
from esmm.training import Result, make_step, train
from tests import plain, synthetic


def changed(config: Config, **training: Any) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update=training)})


def run(config: Config) -> Result:
    plan = make_plan(config.samples.table, None, schema.training_columns(config))
    return train(config, plan, Alone(), [synthetic.DAY])


def test_adagrad_is_as_on_paper() -> None:
    """s = 0.1 + 2² = 4.1, w = 1 - 0.5 · 2 / √4.1; then s = 4.1 + 1² = 5.1."""
    variable = tf.Variable([1.0, 1.0], name="w", dtype=tf.float64)
    adagrad = Adagrad([variable], learning_rate=0.5, initial_accumulator=0.1)
    adagrad.apply(variable, tf.constant([2.0, 0.0], tf.float64))
    np.testing.assert_allclose(variable, [1 - 1 / math.sqrt(4.1), 1], rtol=1e-12)
    adagrad.apply(variable, tf.constant([1.0, 0.0], tf.float64))
    np.testing.assert_allclose(variable, [1 - 1 / math.sqrt(4.1) - 0.5 / math.sqrt(5.1), 1], rtol=1e-12)


@pytest.mark.parametrize("indices", [[], [2], [3, 0]])
def test_a_step_by_rows_is_a_dense_step_and_leaves_the_others(indices: list[int]) -> None:
    random = np.random.default_rng(0)
    start, values = random.normal(size=(4, 3)), random.normal(size=(len(indices), 3))
    by_rows, dense = (tf.Variable(start, name=name) for name in ("by_rows", "dense"))
    adagrad = Adagrad([by_rows, dense], 0.5, 0.1)
    gradient = np.zeros((4, 3))
    gradient[indices] = values
    for _ in range(2):
        adagrad.apply_rows(by_rows, Rows(tf.constant(indices, tf.int64), tf.constant(values)))
        adagrad.apply(dense, tf.constant(gradient))
    np.testing.assert_allclose(by_rows, dense, rtol=1e-12)
    untouched = [row for row in range(4) if row not in indices]
    np.testing.assert_array_equal(by_rows.numpy()[untouched], start[untouched])


def test_equal_rows_are_merged_and_summed() -> None:
    found = merge(Rows(tf.constant([7, 2, 7], tf.int64), tf.constant([[1.0], [2.0], [4.0]])))
    assert found.indices_u.numpy().tolist() == [7, 2]
    assert found.values_ud.numpy().tolist() == [[5.0], [2.0]]


def test_steps_are_those_of_a_plain_loop(config: Config) -> None:
    """50 steps in float64, of 12 rows and of fewer filled up with padding, some all padding, some of weight 0."""
    random = np.random.default_rng(0)
    samples = synthetic.columns(config, 500)
    samples["weight"] = random.choice([0.0, 0.5, 1.0, 3.0], 500).astype(np.float32)
    cuts = np.cumsum([0, *random.choice([0, 1, 7, 12], 50)])
    batches = [{name: v[first:last] for name, v in samples.items()} for first, last in pairwise(cuts)]
    batches[3] = batches[3] | {"weight": np.zeros_like(batches[3]["weight"])}
    model = models.make(config, tf.float64)
    optimizer = Adagrad(model.variables, config.training.learning_rate, config.training.initial_accumulator)
    start = {variable.name.removesuffix(":0"): variable.numpy() for variable in model.variables}
    step = make_step(model, optimizer, Alone(), seed=1)
    for number, batch in enumerate(batches):
        padded = synthetic.take(batch, slice(None), size=12)
        stepped = step(synthetic.tensors(padded), tf.constant(number, tf.int64))
        assert float(stepped.weight) == batch["weight"].sum()
        assert int(stepped.samples) == np.count_nonzero(batch["weight"])
    expected = plain.train(config, start, batches)
    moved = [name for name in start if not np.array_equal(start[name], expected[name])]
    assert sorted(moved) == sorted(start)
    for variable in model.variables:
        np.testing.assert_allclose(variable, expected[variable.name.removesuffix(":0")], atol=1e-9)


def test_a_run_learns_and_says_how_well(config: Config) -> None:
    config = changed(config, epochs=4, batch_size=64, learning_rate=0.2, log_every=10)
    synthetic.publish(config, [600, 600, 301])
    with capture_logs() as lines:
        result = run(config)
    epochs = [line for line in lines if line["event"] == "epoch done"]
    assert (result["steps"], result["samples"]) == (4 * 24, 4 * 1501)
    assert float(epochs[-1]["loss_ctr"]) < float(epochs[0]["loss_ctr"]) - 0.02
    assert float(epochs[-1]["auc_ctr"]) > float(epochs[0]["auc_ctr"]) + 0.1
    assert [line["step"] for line in lines if line["event"] == "training"] == list(range(10, 97, 10))
    assert next(line for line in lines if line["event"] == "rank starts") == {
        "event": "rank starts", "log_level": "info", "rank": 0, "size": 1, "rows": 1501, "of": 1501,
        "host": lines[1]["host"],
    }  # fmt: skip
    # The log loss of the metrics is computed from the probabilities, the loss from the logits.
    for task in ("ctr", "ctcvr"):
        assert result["metrics"][task]["log_loss"] == pytest.approx(result["losses"][task], rel=1e-4)
    assert result["metrics"]["ctr"]["rows"] == 1501


def test_a_run_again_gives_the_same_model(config: Config) -> None:
    config = changed(config, epochs=2).model_copy(
        update={"model": config.model.model_copy(update={"dropout": 0.3})}
    )
    synthetic.publish(config, [300, 200])
    first, second = run(config), run(config)
    assert first["losses"] == second["losses"]
    samples = synthetic.columns(config, 20)
    ours, theirs = (export.load(config.scoring.models, one["version"])(samples) for one in (first, second))
    np.testing.assert_array_equal(ours["pctcvr"], theirs["pctcvr"])


def test_a_run_leaves_a_checkpoint_an_epoch_scalars_and_a_manifest(config: Config) -> None:
    config = changed(config, epochs=2, batch_size=50, log_every=5)
    synthetic.publish(config, [400])
    result = run(config)

    root = f"{config.training.directory}/checkpoints"
    facts = [versions.manifest(root, version).facts for version in versions.complete(root)]
    assert [(fact["epoch"], fact["step"], fact["samples"]) for fact in facts] == [(1, 8, 400), (2, 16, 800)]
    model = models.make(config)
    optimizer = Adagrad(model.variables, 0.05, initial_accumulator=0.0)
    assert checkpoints.restore(root, {"model": model, "optimizer": optimizer}) == facts[-1]
    samples = synthetic.columns(config, 30)
    tensors = synthetic.tensors(samples)
    restored = model.predictions(model(tensors, model.inputs.look_up(tensors)))
    exported = export.load(config.scoring.models, result["version"])
    for name, values in exported(samples).items():
        np.testing.assert_allclose(restored[name], values, atol=1e-6)
    start = config.training.initial_accumulator
    assert all(np.min(sums) >= 0.99 * start < np.max(sums) for sums in optimizer.accumulators.values())

    [events] = Path(config.training.directory).glob("events/*/events*")
    written = {
        (value.tag, event.step) for event in summary_iterator(str(events)) for value in event.summary.value
    }
    assert {
        ("loss/ctr", 5),
        ("loss/ctcvr", 15),
        ("speed/samples_per_s", 10),
        ("epoch_ctr/auc", 16),
    } <= written

    stated = exported.facts
    assert (stated["days"], stated["rows"], stated["steps"]) == (["2026-03-24"], 400, 16)
    assert (stated["config_digest"], stated["metrics"]) == (config.digest(), result["metrics"])
    assert configs.parse(stated["config"]) == config


def test_a_run_can_leave_everything_in_an_object_store(config: Config, tmp_path: Path) -> None:
    root = f"memory:/{tmp_path}"
    config = changed(config, directory=f"{root}/training").model_copy(
        update={"scoring": config.scoring.model_copy(update={"models": f"{root}/models"})}
    )
    synthetic.publish(config, [100])
    result = run(config)
    assert versions.complete(f"{root}/models") == [result["version"]]
    assert len(versions.complete(f"{root}/training/checkpoints")) == 1
    loaded = export.load(f"{root}/models", result["version"], cache=tmp_path)
    assert loaded(synthetic.columns(config, 3))["pctr"].shape == (3,)
    assert len(versions.complete(str(tmp_path))) == 0


def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_step(config: Config) -> None:
    config = changed(config, learning_rate=1e30, batch_size=50)
    synthetic.publish(config, [200])
    with pytest.raises(DataError, match=r"^training, step 2: expected finite losses, found ctr (nan|inf)"):
        run(config)
    assert not versions.complete(f"{config.training.directory}/checkpoints")
    assert not versions.complete(config.scoring.models)


def test_totals_add_up_and_mean_nothing_where_nothing_weighs() -> None:
    one, two = Totals({"ctr": 1.0, "ctcvr": 0.5}, 2.0, 3), Totals({"ctr": 5.0, "ctcvr": 0.0}, 4.0, 4)
    assert NOTHING + one + two == Totals({"ctr": 6.0, "ctcvr": 0.5}, 6.0, 7)
    assert (one + two).means == {"ctr": 1.0, "ctcvr": 0.5 / 6}
    assert Totals({"ctr": 0.0}, 0.0, 0).means == {"ctr": 0.0}
