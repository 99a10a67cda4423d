"""A run that was broken off and goes on: the same parameters, the same report, as one that was not."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from structlog.testing import capture_logs

from esmm import delivery, export, runs, schema, training, versions
from esmm.config import Checkpoints, Config, EarlyStopping, Model, Optimizer
from esmm.distributed.exchange import Alone
from esmm.errors import ConfigError, DataError
from esmm.metrics import Metrics
from esmm.plan import ReadingPlan, make_plan
from esmm.runs import RunResult, checkpoints_of, give_up
from esmm.schedules import scheduled
from esmm.step import Stepped
from esmm.training import train
from tests import synthetic


class Killed(BaseException):
    """Nothing catches it."""


@pytest.fixture
def learning(config: Config) -> Config:
    """Three epochs of ten steps, a checkpoint after every third, with all that is random turned on."""
    synthetic.publish(config, [130, 70, 99])
    update = {
        "epochs": 3, "batch_size": 30, "checkpoints": Checkpoints(every_steps=3, keep=2), "deterministic": True,
        "optimizer": Optimizer(name="adam", learning_rate=0.01, warm_up_steps=4, weight_decay=0.01),
    }  # fmt: skip
    model = Model(towers=(8, 4), dropout=0.3, layer_norm=True)
    return config.model_copy(update={"training": config.training.model_copy(update=update), "model": model})


def run(config: Config, validation: bool = False, **options: Any) -> RunResult:
    plan = make_plan(config.samples.table, [synthetic.DAY], schema.training_columns(config))
    return train(config, plan, Alone(), [synthetic.DAY], plan if validation else None, **options)


def run_killed_at(step: int, config: Config, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Die right after a step, before anything is made of it."""
    taken = training._Run._take

    def take(self: Any, number: int, read: Any) -> Any:
        found = taken(self, number, read)
        if number == step:
            raise Killed
        return found

    with monkeypatch.context() as patched:
        patched.setattr(training._Run, "_take", take)
        with pytest.raises(Killed):
            run(config, **options)


def elsewhere(config: Config) -> Config:
    return synthetic.with_training(config, directory=f"{config.training.directory}-elsewhere")


def predictions(config: Config, result: RunResult) -> dict[str, np.ndarray]:
    return export.load(config.scoring.models, result["version"])(synthetic.columns(config, 50))


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("step", "resumed"),
    [pytest.param(1, [], marks=SLOW), pytest.param(10, [9], marks=SLOW), (17, [15]),
     pytest.param(30, [27], marks=SLOW)],
)  # fmt: skip
def test_a_killed_run_goes_on_to_the_same_model(
    learning: Config, monkeypatch: pytest.MonkeyPatch, step: int, resumed: list[int]
) -> None:
    expected = run(elsewhere(learning))
    run_killed_at(step, learning, monkeypatch)
    with capture_logs() as lines:
        found = run(learning)
    assert [line["step"] for line in lines if line["event"] == "resuming"] == resumed
    assert found["samples"] == found["planned"] == 3 * 299
    compare(found, expected)
    compare_learnt(learning)
    ours, theirs = predictions(learning, found), predictions(learning, expected)
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], atol=1e-6)


@SLOW
def test_a_run_killed_again_and_again_goes_on_to_the_same_model(
    learning: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At steps drawn by a seed, each time later: from one checkpoint more than once, too."""
    expected = run(elsewhere(learning))
    steps = np.sort(np.random.default_rng(26).choice(np.arange(1, 31), 4, replace=False))
    for step in steps.tolist():
        run_killed_at(step, learning, monkeypatch)
    compare(run(learning), expected)
    compare_learnt(learning)


def compare_learnt(config: Config) -> None:
    """A run has ended with the variables, and what the optimizer keeps of each, that the one elsewhere has."""
    ours, theirs = learnt(config), learnt(elsewhere(config))
    assert list(ours) == list(theirs)
    assert any("second" in name for name in ours)
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], atol=1e-6, err_msg=name)


def learnt(config: Config) -> dict[str, np.ndarray]:
    """Of the last checkpoint, all variables of model and optimizer."""
    root = checkpoints_of(config)
    reader = tf.train.load_checkpoint(f"{root}/{versions.complete(root)[-1]}/state")
    names = sorted(reader.get_variable_to_shape_map())
    return {name: reader.get_tensor(name) for name in names if name.startswith(("model/", "optimizer/"))}


def compare(found: RunResult, expected: RunResult) -> None:
    """Two results tell the same."""
    assert (found["steps"], found["samples"], found["planned"]) == (
        expected["steps"], expected["samples"], expected["planned"],
    )  # fmt: skip
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-6)
    for task, metrics in expected["metrics"].items():
        assert found["metrics"][task] == pytest.approx(metrics, rel=1e-6)


@pytest.mark.slow
def test_a_run_that_has_published_its_model_is_not_done_again(learning: Config) -> None:
    first = run(learning)
    with capture_logs() as lines:
        assert run(learning) == first
    assert [line["event"] for line in lines] == ["reading plan", "trained before"]
    assert versions.complete(learning.scoring.models) == [first["version"]]

    shutil.rmtree(Path(learning.scoring.models, first["version"]))
    again = run(learning)
    assert again["version"] != first["version"]
    compare(again, first)


@SLOW
def test_a_run_that_was_trained_but_not_published_is_published(
    learning: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(elsewhere(learning))
    with monkeypatch.context() as patched:
        patched.setattr(delivery, "export", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run(learning)
    with capture_logs() as lines:
        found = run(learning)
    assert not [line for line in lines if line["event"] in ("training", "epoch done")]
    compare(found, expected)
    np.testing.assert_array_equal(
        predictions(learning, found)["pcvr"], predictions(learning, expected)["pcvr"]
    )


@pytest.mark.slow
def test_a_run_killed_after_it_has_published_publishes_no_second_model(
    learning: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not note that it was over. Given up, it is trained anew all the same."""
    config = synthetic.with_training(learning, epochs=1)
    with monkeypatch.context() as patched:
        patched.setattr(runs, "finish", lambda *_, **__: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run(config)
    [model] = versions.complete(config.scoring.models)
    assert run(config)["version"] == model
    assert runs.finished(checkpoints_of(config)).model == model
    give_up(checkpoints_of(config))
    assert run(config)["version"] > model


@SLOW
def test_fresh_begins_anew_and_so_does_another_config(
    learning: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_killed_at(17, learning, monkeypatch)
    give_up(checkpoints_of(learning))
    for config in (learning, changed_rate(learning)):
        with capture_logs() as lines:
            found = run(config)
        assert not [line for line in lines if line["event"] == "resuming"]
        assert (found["steps"], found["samples"]) == (30, 3 * 299)


def changed_rate(config: Config) -> Config:
    optimizer = config.training.optimizer.model_copy(update={"learning_rate": 0.02})
    return synthetic.with_training(config, optimizer=optimizer)


@pytest.mark.slow
def test_another_batch_size_takes_what_is_left_once(
    learning: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And goes on at the learning rate that it had."""
    rates = []

    def spied(*arguments: Any, **named: Any) -> Any:
        rates.append(scheduled(*arguments, **named))
        return rates[-1]

    monkeypatch.setattr(training, "scheduled", spied)
    run_killed_at(17, learning, monkeypatch)
    larger = synthetic.with_training(learning, batch_size=70)
    found = run(larger)
    # 15 steps of 30, then 149 or so rows of the second epoch and 299 of the third in batches of up to 70.
    assert (found["steps"], found["samples"], found["planned"]) == (15 + 3 + 5, 3 * 299, 3 * 299)
    before, after = rates
    assert after(16) == pytest.approx(before(16), abs=0.001)  # of 0.01


def test_checkpoints_come_by_time_too(learning: Config) -> None:
    often = Checkpoints.model_validate({"every": "0.000001s", "keep": 100})
    config = synthetic.with_training(learning, checkpoints=often)
    run(config)
    assert len(versions.complete(f"{config.training.directory}/checkpoints")) == 30


@pytest.mark.slow
def test_the_best_epochs_model_is_the_one_that_is_published(learning: Config) -> None:
    """A rate that destroys what the first epoch has learnt."""
    optimizer = Optimizer(name="adam", learning_rate=0.02, schedule="constant")
    one = {"epochs": 1, "optimizer": optimizer}
    expected = run(elsewhere(synthetic.with_training(learning, **one)))
    settings = {
        "epochs": 3, "optimizer": optimizer,
        # Nothing improves by as much as this, after the first.
        "early_stopping": EarlyStopping(metric="ctr.log_loss", patience=1, min_change=1.0),
    }  # fmt: skip
    config = synthetic.with_training(learning, **settings)
    found = run(config, validation=True)
    assert (found["steps"], found["planned"]) == (20, 2 * 299)
    np.testing.assert_allclose(
        predictions(config, found)["pctr"], predictions(config, expected)["pctr"], atol=1e-6
    )
    facts = export.load(config.scoring.models, found["version"]).facts
    assert facts["epoch"] == 1
    assert facts["validation"] == found["validation"]


@pytest.mark.slow
def test_validation_measures_the_model_as_it_is_exported(learning: Config) -> None:
    config = synthetic.with_training(learning, epochs=1)
    found = run(config, validation=True)
    expected = Metrics()
    for number, rows in enumerate([130, 70, 99]):
        samples = synthetic.columns(config, rows, seed=number)
        predicted = export.load(config.scoring.models, found["version"])(samples)
        expected.update(**{name: samples[name] for name in ("click", "purchase", "weight")}, **predicted)
    assert found["validation"] is not None
    for task, metrics in expected.result().items():
        assert found["validation"][task] == pytest.approx(metrics, rel=1e-5)


@SLOW
def test_the_published_model_is_calibrated_on_the_validation_samples(
    learning: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the best epoch, the first of two; after a failure in between, too."""
    stopping = EarlyStopping(metric="ctr.log_loss", min_change=1.0)
    config = synthetic.with_training(learning, calibrate=True, early_stopping=stopping)
    with monkeypatch.context() as patched:
        patched.setattr(delivery, "export", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run(config, validation=True)
    facts = export.load(config.scoring.models, run(config, validation=True)["version"]).facts
    raw = run(synthetic.with_training(elsewhere(learning), early_stopping=stopping), validation=True)

    assert facts["epoch"] == 1
    stated = facts["calibration"]
    assert stated["before"]["ctr"] == pytest.approx(facts["validation"]["ctr"], rel=1e-6)
    assert stated["before"]["ctr"] == pytest.approx(raw["validation"]["ctr"], rel=1e-5)
    assert abs(stated["before"]["ctcvr"]["pcoc"] - 1) > 0.01
    predict, after = (
        export.load(config.scoring.models, versions.complete(config.scoring.models)[0]),
        Metrics(),
    )
    for number, rows in enumerate([130, 70, 99]):
        samples = synthetic.columns(config, rows, seed=number)
        after.update(**{name: samples[name] for name in ("click", "purchase", "weight")}, **predict(samples))
    for task, metrics in after.result().items():
        assert stated["after"][task] == pytest.approx(metrics, rel=1e-5)
    for task in ("ctr", "ctcvr"):
        assert stated["after"][task]["pcoc"] == pytest.approx(1, abs=1e-3)
        assert stated["after"][task]["auc"] == pytest.approx(stated["before"][task]["auc"], abs=1e-4)
        assert stated["knots"][task] >= 1


@pytest.mark.parametrize("key", ["early_stopping", "calibrate"])
def test_what_takes_samples_to_validate_on_says_so(learning: Config, key: str) -> None:
    config = synthetic.with_training(learning, **{key: EarlyStopping() if key == "early_stopping" else True})
    with pytest.raises(ConfigError, match=rf"^training\.{key}: expected samples to validate on"):
        run(config)


def test_samples_without_a_purchase_cannot_calibrate(
    learning: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said after the first epoch, which is kept, and not after the last."""
    counted = Metrics.update
    monkeypatch.setattr(Metrics, "update", lambda self, click, purchase, *rest, **predictions: counted(
        self, click, np.zeros(len(purchase)), *rest, **predictions))  # fmt: skip
    with pytest.raises(DataError, match=r"^validation samples: .* without purchases .*, found a rate of 0"):
        run(synthetic.with_training(learning, calibrate=True, checkpoints=Checkpoints()), validation=True)
    assert [state["step"] for state in kept(learning)] == [10]


def kept(config: Config) -> list[dict[str, Any]]:
    """The states of all checkpoints that there are."""
    root = checkpoints_of(config)
    return [versions.manifest(root, version).facts for version in versions.complete(root)]


def test_a_run_killed_while_it_validates_has_kept_the_epoch(
    learning: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = synthetic.with_training(learning, epochs=1, checkpoints=Checkpoints())

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(training, "Validation", lambda *_: killed)
        with pytest.raises(Killed):
            run(config, validation=True)
    assert [(state["step"], state["is_judged"]) for state in kept(config)] == [(10, False)]
    with capture_logs() as lines:
        found = run(config, validation=True)
    assert not [line for line in lines if line["event"] in ("training", "epoch done")]
    assert (found["steps"], found["samples"]) == (10, 299)
    assert found["validation"] is not None
    assert [(state["step"], state["is_judged"]) for state in kept(config)] == [(10, False), (10, True)]


@pytest.mark.slow
def test_samples_to_validate_on_that_cannot_be_read_are_one_error(learning: Config) -> None:
    """The epoch before it is not lost: once they can be read, the run goes on with them."""
    config = synthetic.with_training(learning, epochs=1)
    plan = make_plan(config.samples.table, [synthetic.DAY], schema.training_columns(config))
    [file] = Path(config.samples.table).rglob("part-1.parquet")
    file.rename(file.with_suffix(".away"))
    with pytest.raises(DataError, match="part-1"):
        train(config, first_file(plan), Alone(), [], plan)
    file.with_suffix(".away").rename(file)
    with capture_logs() as lines:
        found = train(config, first_file(plan), Alone(), [], plan)
    events = [line["event"] for line in lines]
    assert "resuming" in events
    assert "epoch done" not in events
    assert (found["steps"], found["samples"], found["planned"]) == (5, 130, 130)
    assert found["validation"] is not None
    assert found["validation"]["ctr"]["rows"] == 299


def first_file(plan: ReadingPlan) -> ReadingPlan:
    return plan.model_copy(update={"files": plan.files[:1]})


@pytest.mark.slow
def test_a_collapse_of_pcvr_is_warned_of(learning: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Towers whose CVR says one in a thousand, where half of the clicked rows are purchases."""
    taken = training.make_step

    def make_step(model: Any, *arguments: Any) -> Any:
        step = taken(model, *arguments)

        def collapsed(batch: Any, *rest: Any) -> Stepped:
            stepped = step(batch, *rest)
            pcvr = 0.001 * np.ones(len(stepped.predictions["pcvr"]))
            return stepped._replace(predictions={**stepped.predictions, "pcvr": pcvr})

        return collapsed

    with capture_logs() as lines:
        run(learning)
    assert not [line for line in lines if line["event"] == "pCVR has collapsed"]
    monkeypatch.setattr(training, "make_step", make_step)
    give_up(checkpoints_of(learning))
    with capture_logs() as lines:
        run(learning)
    warnings = [line for line in lines if line["event"] == "pCVR has collapsed"]
    assert [line["epoch"] for line in warnings] == [1, 2, 3]
    assert warnings[0]["mean_pcvr_of_clicked"] == "0.00100"
