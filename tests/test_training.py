"""Training: exact steps, whole runs, what they leave behind, and how they fail."""

import platform
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from structlog.testing import capture_logs
from tensorflow.python.summary.summary_iterator import summary_iterator

from esmm import config as configs
from esmm import export, models, optimizers, rowgroups, schema, storage, versions
from esmm.checkpoints import Checkpoints, State
from esmm.config import Config, Optimizer
from esmm.distributed.exchange import Alone, Whereabouts
from esmm.errors import DataError
from esmm.layers.tables import Batch, Rows
from esmm.layers.ways import merged
from esmm.plan import make_plan
from esmm.progress import NOTHING, Totals
from esmm.runs import RunResult, checkpoints_of, give_up
from esmm.step import NO_SIGNALS, make_step
from esmm.training import train
from tests import plain, synthetic


def run(config: Config) -> RunResult:
    plan = make_plan(config.samples.table, None, schema.training_columns(config))
    return train(config, plan, Alone(), [synthetic.DAY])


def test_equal_rows_are_merged_and_summed() -> None:
    found = merged(Rows(tf.constant([7, 2, 7], tf.int64), tf.constant([[1.0], [2.0], [4.0]])))
    assert found.indices_u.numpy().tolist() == [7, 2]
    assert found.values_ud.numpy().tolist() == [[5.0], [2.0]]


PLAIN: dict[str, dict[str, Any]] = {
    "adagrad": {"schedule": "constant"},
    "adam": {"name": "adam", "learning_rate": 0.01},
    "decayed and clipped": {"weight_decay": 0.1, "clip_norm": 0.05},
    "adam, decayed and clipped": {
        "name": "adam",
        "learning_rate": 0.01,
        "weight_decay": 0.1,
        "clip_norm": 0.05,
    },
}


@pytest.mark.parametrize("case", PLAIN)
def test_steps_are_those_of_a_plain_loop(config: Config, case: str) -> None:
    """50 steps in float64, of 12 rows and of fewer filled up with padding, some all padding, some of weight 0."""
    config = synthetic.with_training(config, optimizer=Optimizer.model_validate(PLAIN[case]))
    random = np.random.default_rng(0)
    samples = synthetic.columns(config, 500)
    samples["weight"] = random.choice([0.0, 0.5, 1.0, 3.0], 500).astype(np.float32)
    cuts = np.cumsum([0, *random.choice([0, 1, 7, 12], 50)])
    batches = [{name: v[first:last] for name, v in samples.items()} for first, last in pairwise(cuts)]
    batches[3] = batches[3] | {"weight": np.zeros_like(batches[3]["weight"])}
    moved = compare_with_plain(config, batches)
    assert all(moved.values()), moved


@pytest.mark.parametrize("stop_gradient", [False, True])
def test_tasks_weigh_what_the_config_says(config: Config, stop_gradient: bool) -> None:
    model = config.model.model_copy(
        update={"task_weights": {"ctr": 0.0, "ctcvr": 3.0}, "stop_gradient": stop_gradient}
    )
    config = config.model_copy(update={"model": model})
    samples = synthetic.columns(config, 40)
    moved = compare_with_plain(
        config, [synthetic.take(samples, slice(n, n + 10), 10) for n in range(0, 40, 10)]
    )
    assert moved["cvr/kernel_0"]
    assert moved["ctr/kernel_0"] is not stop_gradient


def compare_with_plain(config: Config, batches: list[dict[str, np.ndarray]]) -> dict[str, bool]:
    """Take the steps, ours and plain ones; whether each variable has moved."""
    model = models.make(config, tf.float64)
    optimizer = optimizers.make(model.variables, config.training.optimizer)
    start = {variable.name.removesuffix(":0"): variable.numpy() for variable in model.variables}
    step = make_step(model, optimizer, Alone(), config)
    for number, batch in enumerate(batches):
        padded = synthetic.take(batch, slice(None), size=12)
        stepped = step(synthetic.tensors(padded), tf.constant(number, tf.int64), tf.constant(NO_SIGNALS))
        assert float(stepped.weight) == batch["weight"].sum()
        assert int(stepped.samples) == np.count_nonzero(batch["weight"])
    expected = plain.train(config, start, batches)
    for variable in model.variables:
        np.testing.assert_allclose(variable, expected[variable.name.removesuffix(":0")], atol=1e-9)
    return {name: not np.array_equal(start[name], expected[name]) for name in start}


@pytest.mark.parametrize("broken", ["loss ctr", "gradient of ctr/kernel_0"])
def test_a_step_that_is_not_finite_says_what_is_not_and_changes_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    model = models.make(config)
    optimizer = optimizers.make(model.variables, config.training.optimizer)
    samples = synthetic.columns(config, 10)
    right = model.losses

    @tf.custom_gradient
    def steep(logits: tf.Tensor) -> Any:
        return tf.zeros(()), lambda _: tf.fill(tf.shape(logits), np.inf)

    def losses(batch: Batch, logits: Any) -> dict[str, tf.Tensor]:
        found = right(batch, logits)
        return found | {"ctr": found["ctr"] + (np.nan if broken == "loss ctr" else steep(logits["ctr"]))}

    monkeypatch.setattr(model, "losses", losses)
    start = [variable.numpy() for variable in (*model.variables, *optimizer.variables)]
    step = make_step(model, optimizer, Alone(), config)
    stepped = step(synthetic.tensors(samples), tf.constant(1, tf.int64), tf.constant(NO_SIGNALS))
    assert not bool(stepped.is_finite[broken])
    for variable, before in zip((*model.variables, *optimizer.variables), start, strict=True):
        np.testing.assert_array_equal(variable, before)


def test_a_run_learns_and_says_how_well(config: Config) -> None:
    config = synthetic.with_training(
        config, epochs=4, batch_size=64, optimizer=Optimizer(learning_rate=0.2), log_every=10
    )
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
        "host": platform.node(),
    }  # fmt: skip
    # The log loss of the metrics is computed from the probabilities, the loss from the logits.
    for task in ("ctr", "ctcvr"):
        assert result["metrics"][task]["log_loss"] == pytest.approx(result["losses"][task], rel=1e-4)
    assert result["metrics"]["ctr"]["rows"] == 1501


def test_a_rank_that_waits_for_samples_says_so_whatever_they_are_for(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heart would else beat on, where a storage does not answer, and all others wait."""

    class Noting(Whereabouts, Alone):
        pass

    exchange, doing = Noting(), []

    def load(*arguments: Any) -> Any:
        doing.append(exchange.last.doing)
        return loaded(*arguments)

    loaded = rowgroups.load
    monkeypatch.setattr(rowgroups, "load", load)
    synthetic.publish(config, [60])
    plan = make_plan(config.samples.table, None, schema.training_columns(config))
    train(config, plan, exchange, [synthetic.DAY], plan)
    assert doing == [
        "reading batch 1, training",
        "reading batch 1, validating",
        "reading batch 1, looking at samples",
    ]
    assert exchange.last.doing == "exporting"


@pytest.mark.slow
def test_a_run_again_gives_the_same_model(config: Config) -> None:
    config = synthetic.with_training(config, epochs=2).model_copy(
        update={"model": config.model.model_copy(update={"dropout": 0.3})}
    )
    synthetic.publish(config, [300, 200])
    first = run(config)
    give_up(checkpoints_of(config))
    second = run(config)
    assert first["losses"] == second["losses"]
    samples = synthetic.columns(config, 20)
    ours, theirs = (export.load(config.scoring.models, one["version"])(samples) for one in (first, second))
    np.testing.assert_array_equal(ours["pctcvr"], theirs["pctcvr"])


def test_a_run_leaves_a_checkpoint_an_epoch_scalars_and_a_manifest(config: Config) -> None:
    config = synthetic.with_training(config, epochs=2, batch_size=50, log_every=5)
    synthetic.publish(config, [400])
    result = run(config)

    root = f"{config.training.directory}/checkpoints"
    states = [State.model_validate(versions.manifest(root, one).facts) for one in versions.complete(root)]
    assert [(state.position.epoch, state.step, state.samples) for state in states] == [
        (1, 8, 400),
        (2, 16, 800),
    ]
    model = models.make(config)
    optimizer = optimizers.make(model.variables, config.training.optimizer)
    parts = {"model": model, "optimizer": optimizer}
    Checkpoints(root, parts, keep=1).restore(versions.complete(root)[-1])
    samples = synthetic.columns(config, 30)
    tensors = synthetic.tensors(samples)
    restored = model.predictions(model(tensors, model.look_up(tensors)))
    exported = export.load(config.scoring.models, result["version"])
    for name, values in exported(samples).items():
        np.testing.assert_allclose(restored[name], values, atol=1e-6)
    start = config.training.optimizer.initial_accumulator
    assert isinstance(optimizer, optimizers.Adagrad)
    assert all(np.min(sums) >= 0.99 * start < np.max(sums) for sums in optimizer.slots["sum"].values())

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
    config = synthetic.with_training(config, directory=f"{root}/training").model_copy(
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
    config = synthetic.with_training(config, optimizer=Optimizer(learning_rate=1e30), batch_size=50)
    synthetic.publish(config, [200])
    with pytest.raises(
        DataError, match=r"^training, step 2: expected finite losses and gradients, found others in loss ctr"
    ):
        run(config)
    assert not versions.complete(f"{config.training.directory}/checkpoints")
    assert not versions.complete(config.scoring.models)


def test_the_scalars_of_an_epoch_that_broke_off_are_kept_in_an_object_store(
    config: Config, tmp_path: Path
) -> None:
    root = f"memory:/{tmp_path}/training"
    config = synthetic.with_training(
        config, optimizer=Optimizer(learning_rate=1e30), batch_size=50, directory=root, log_every=1
    )
    synthetic.publish(config, [200])
    with pytest.raises(DataError, match=r"^training, step 2: "):
        run(config)
    fs, path = storage.at(root)
    [events] = fs.glob(f"{path}/events/*/events*")
    fs.get_file(events, str(tmp_path / "events"))
    found = [
        value.tag for event in summary_iterator(str(tmp_path / "events")) for value in event.summary.value
    ]
    assert "loss/ctr" in found


def test_totals_add_up_and_mean_nothing_where_nothing_weighs() -> None:
    one, two = Totals({"ctr": 1.0, "ctcvr": 0.5}, 2.0, 3), Totals({"ctr": 5.0, "ctcvr": 0.0}, 4.0, 4)
    assert NOTHING + one + two == Totals({"ctr": 6.0, "ctcvr": 0.5}, 6.0, 7)
    assert (one + two).means == {"ctr": 1.0, "ctcvr": 0.5 / 6}
    assert Totals({"ctr": 0.0}, 0.0, 0).means == {"ctr": 0.0}
