"""The variants: what their towers share, what they are fitted to, what they predict, and that each can be used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tensorflow as tf

from esmm import config as configs
from esmm import export, models, optimizers
from esmm.config import Config, parse
from esmm.config.model import TASKS
from esmm.distributed.exchange import Alone
from esmm.errors import ConfigError
from esmm.models import VARIANTS, Logits, Model
from esmm.models.bodies import BODIES
from esmm.step import NO_SIGNALS, make_step
from tests import plain, synthetic

Batch = dict[str, tf.Tensor]
APART = ["base", "esmm_ns", "division"]
TOGETHER = ["esmm", "escm2_ips", "escm2_dr", "dcmt"]


@pytest.fixture
def model(config: Config) -> Model:
    return models.make(config, tf.float64)


def with_model(config: Config, **settings: Any) -> Config:
    return config.model_copy(update={"model": config.model.model_copy(update=settings)})


def made(config: Config, variant: str, **settings: Any) -> Model:
    return models.make(with_model(config, variant=variant, **settings), tf.float64)


def towers_of(model: Model) -> list[str]:
    return [tower for group in model.towers for tower in group]


def variables_of(model: Model) -> plain.Arrays:
    return {variable.name.removesuffix(":0"): variable.numpy() for variable in model.variables}


def batch_of(config: Config, item: int, clicked_item: int) -> Batch:
    """One sample in which nothing is there but the candidate, where it is not -1, and one entry of the list."""
    batch = synthetic.take(synthetic.columns(config, 1), slice(0), size=1)
    batch["item"][0] = item
    batch["clicked_item"][0, 0], batch["clicked_weight"][0, 0] = clicked_item, 0.5
    return synthetic.tensors(batch)


def gradients(model: Model, batch: Batch, scalar: Callable[[Logits], tf.Tensor]) -> dict[str, np.ndarray]:
    """The gradient of something by every variable, tables whole."""
    look_ups = model.look_up(batch)
    in_use = {name: found.rows.values_ud for name, found in look_ups.items()}
    with tf.GradientTape() as tape:
        tape.watch(in_use)
        total = scalar(model(batch, look_ups))
    dense, by_row = tape.gradient(total, (model.dense_variables, in_use), unconnected_gradients="zero")
    found = {variable.name: each.numpy() for variable, each in zip(model.dense_variables, dense, strict=True)}
    for name, table in model.tables.items():
        found[table.weights.name] = np.zeros(table.weights.shape)
        found[table.weights.name][look_ups[name].rows.indices_u] = by_row[name]
    assert len(found) == len(model.trainable_variables)
    return found


def total_loss(model: Model, batch: Batch) -> Callable[[Logits], tf.Tensor]:
    return lambda logits: tf.add_n([*model.losses(batch, logits).values()])


def test_the_config_knows_the_variants_their_tasks_and_the_bodies(config: Config) -> None:
    fields = configs.Model.model_fields
    assert tuple(VARIANTS) == get_args(fields["variant"].annotation) == tuple(TASKS)
    assert tuple(BODIES) == get_args(fields["body"].annotation)
    batch = synthetic.tensors(synthetic.columns(config, 3))
    for variant, tasks in TASKS.items():
        made_ = made(config, variant)
        assert list(made_.losses(batch, made_(batch, made_.look_up(batch)))) == list(tasks)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"task_weights": {"cvr": 1}},
            "model.task_weights: expected tasks of esmm (ctr, ctcvr), found 'cvr'",
        ),
        (
            {"variant": "base", "task_weights": {"ctcvr": 1}},
            "model.task_weights: expected tasks of base (ctr, cvr), found 'ctcvr'",
        ),
        (
            {"task_weights": {"ctr": -1}},
            "model.task_weights.ctr: expected greater than or equal to 0, found -1",
        ),
        ({"label_smoothing": 1}, "model.label_smoothing: expected less than 1, found 1"),
        ({"propensity_floor": 0}, "model.propensity_floor: expected greater than 0, found 0"),
    ],
)
def test_settings_of_no_use_are_refused(
    values: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    values["model"] |= settings
    with pytest.raises(ConfigError) as caught:
        parse(values)
    assert str(caught.value) == message


def test_a_task_weighs_what_is_said_or_else_what_the_variant_has() -> None:
    model = configs.Model(variant="dcmt", task_weights={"cvr": 0.5})
    assert model.tasks == {"ctr": 1, "ctcvr": 1, "cvr": 0.5, "counterfactual": 0.02, "prior": 0.001}


@pytest.mark.parametrize("variant", TOGETHER)
def test_an_entity_has_one_table(config: Config, variant: str) -> None:
    model = made(config, variant)
    names = sorted(name for name in variables_of(model) if "table/" in name)
    assert names == sorted(f"table/{name}" for name in config.embeddings)
    assert sorted(model.tables) == sorted(config.embeddings)
    assert model.tables["item"].columns == ("item", "clicked_item")


@pytest.mark.parametrize("variant", TOGETHER)
@pytest.mark.parametrize(("item", "clicked_item"), [(7, -1), (-1, 7)])
def test_any_tower_and_either_use_of_an_item_change_its_row(
    config: Config, variant: str, item: int, clicked_item: int
) -> None:
    model, batch = made(config, variant), batch_of(config, item, clicked_item)
    for tower in towers_of(model):
        found = gradients(model, batch, lambda logits, tower=tower: logits[tower][0])["table/item:0"]
        assert np.flatnonzero(found.any(axis=1)).tolist() == [plain.bucket(7, 100)]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("variant", APART)
def test_nothing_is_shared_where_towers_are_apart(config: Config, variant: str, body: str) -> None:
    """Each tower has variables of its own, drawn otherwise, and its gradient reaches no other's."""
    model, batch = made(config, variant, body=body), synthetic.tensors(synthetic.columns(config, 20))
    one, other = towers_of(model)
    found = gradients(model, batch, lambda logits: tf.reduce_sum(logits[one]))
    reached = {name for name, gradient in found.items() if gradient.any()}
    assert reached == {name for name in found if name.startswith(f"{one}/")}
    assert {name for name in found if name not in reached} == {
        name.replace(f"{one}/", f"{other}/") for name in reached
    }
    variables = variables_of(model)
    assert not np.allclose(variables[f"{one}/table/item"], variables[f"{other}/table/item"])
    assert sorted(model.tables) == sorted(
        f"{tower}/{name}" for tower in (one, other) for name in config.embeddings
    )


def test_a_shared_bottom_is_one_and_lies_below_the_towers(config: Config) -> None:
    model = made(config, "dcmt", body="shared_bottom", bottom=(6,))
    batch = synthetic.columns(config, 20)
    tensors, variables = synthetic.tensors(batch), variables_of(model)
    x = plain.inputs(config, variables, batch)
    hidden = np.maximum(x @ variables["bottom/kernel_0"] + variables["bottom/bias_0"], 0)
    logits = model(tensors, model.look_up(tensors))
    for tower in ("ctr", "cvr", "counterfactual"):
        expected = plain.tower(variables, tower, hidden)[0]
        np.testing.assert_allclose(logits[tower], expected, rtol=1e-9, atol=1e-12)
        found = gradients(model, tensors, lambda logits, tower=tower: tf.reduce_sum(logits[tower]))
        assert found["bottom/kernel_0:0"].any()


def test_the_body_that_contributing_shows_works(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).resolve().parent.parent / "CONTRIBUTING.md").read_text()
    shown: dict[str, Any] = {}
    exec(text.partition("```python\n")[2].partition("```")[0], shown)
    monkeypatch.setitem(BODIES, "mmoe", shown["Mmoe"])
    model, batch = made(config, "esmm", body="mmoe"), synthetic.tensors(synthetic.columns(config, 20))
    found = gradients(model, batch, total_loss(model, batch))
    assert {"expert_0/kernel_0:0", "cvr/gate:0"} <= set(found)
    assert all(gradient.any() for gradient in found.values())


def test_a_loss_reaches_the_table_from_candidate_and_history(config: Config, model: Model) -> None:
    batch = batch_of(config, 7, 8)
    arrays = {name: tensor.numpy() for name, tensor in batch.items()} | {"weight": np.ones(1)}
    batch = synthetic.tensors(arrays)
    found = gradients(model, batch, total_loss(model, batch))["table/item:0"]
    expected = plain.gradients(config, variables_of(model), arrays)["table/item"]
    assert (np.abs(expected).sum(axis=1) > 0).sum() == 2
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("variant", TASKS)
def test_nothing_there_has_no_gradient(config: Config, variant: str) -> None:
    model, batch = made(config, variant), batch_of(config, -1, -1)
    found = gradients(model, batch, lambda logits: tf.add_n([tf.reduce_sum(x) for x in logits.values()]))
    assert not any(gradient.any() for name, gradient in found.items() if "table/" in name)


def test_the_loss_of_ctcvr_reaches_both_towers_as_on_paper(config: Config, model: Model) -> None:
    """With p = pCTR, q = pCVR: bought, by a -(1 - p) and by c -(1 - q); not bought, times -p q / (1 - p q)."""
    p, q = np.array([0.2, 0.2, 0.2]), np.array([0.5, 0.5, 0.5])
    logits = {"ctr": tf.constant(np.log(p / (1 - p))), "cvr": tf.constant(np.log(q / (1 - q)))}
    batch = {"click": tf.constant([1, 1, 0]), "purchase": tf.constant([1, 0, 0]), "weight": tf.ones(3)}
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = model.losses(batch, logits)["ctcvr"]
    found = tape.gradient(loss, logits)
    # 0.1 / 0.9 of 1 - p = 0.8 and of 1 - q = 0.5.
    np.testing.assert_allclose(found["ctr"], [-0.8, 0.8 / 9, 0.8 / 9], rtol=1e-9)
    np.testing.assert_allclose(found["cvr"], [-0.5, 0.5 / 9, 0.5 / 9], rtol=1e-9)


@pytest.mark.parametrize("variant", ["esmm", "esmm_ns", "escm2_ips", "escm2_dr", "dcmt"])
def test_with_stop_gradient_purchases_do_not_bend_pctr(config: Config, variant: str) -> None:
    model = made(config, variant, stop_gradient=True)
    logits = {tower: tf.zeros(2, tf.float64) for tower in towers_of(model)}
    batch = {"click": tf.constant([1, 1]), "purchase": tf.constant([1, 0]), "weight": tf.ones(2)}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        losses = model.losses(batch, logits)
    reached = {task for task, loss in losses.items() if tape.gradient(loss, logits["ctr"]) is not None}
    assert reached == {"ctr"}


def test_only_clicked_rows_teach_the_cvr_tower_of_base(config: Config) -> None:
    samples = synthetic.columns(config, 60)
    model = made(config, "base")
    every, clicked = (
        gradients(model, batch, total_loss(model, batch))
        for batch in (
            synthetic.tensors(samples),
            synthetic.tensors({name: each[samples["click"] == 1] for name, each in samples.items()}),
        )
    )
    assert 0 < samples["click"].sum() < 60
    for name, gradient in every.items():
        assert np.allclose(gradient, clicked[name], atol=1e-12) == name.startswith("cvr/"), name


@pytest.mark.parametrize("variant", TASKS)
def test_predictions_are_probabilities_and_multiply(config: Config, variant: str) -> None:
    model = models.make(with_model(config, variant=variant))
    some = np.array([-200, -80, -20, -3, -0.5, 0, 1, 17, 80, 200], np.float32)
    grid = np.array(np.meshgrid(some, some)).reshape(2, -1)
    first, second, *_ = towers_of(model)
    found = model.predictions({first: tf.constant(grid[0]), second: tf.constant(grid[1])})
    pctr, pcvr, pctcvr = (found[name].numpy() for name in ("pctr", "pcvr", "pctcvr"))
    np.testing.assert_allclose(pctcvr, pctr * pcvr, rtol=0, atol=np.finfo(np.float32).tiny)
    for each in (pctr, pcvr, pctcvr):
        assert each.dtype == np.float32
        assert ((each >= 0) & (each <= 1)).all()


def test_division_divides_and_cuts_at_1(config: Config) -> None:
    """1/8 over 1/2 is 1/4; 1/2 over 1/8 is cut, and pCTCVR then is pCTR."""
    logits = np.log([[1 / 7, 1.0], [1.0, 1 / 7]])
    found = made(config, "division").predictions(
        {"ctcvr": tf.constant(logits[0]), "ctr": tf.constant(logits[1])}
    )
    np.testing.assert_allclose(found["pctr"], [1 / 2, 1 / 8], rtol=1e-12)
    np.testing.assert_allclose(found["pcvr"], [1 / 4, 1], rtol=1e-12)
    np.testing.assert_allclose(found["pctcvr"], [1 / 8, 1 / 8], rtol=1e-12)


def test_probabilities_are_as_in_numpy(config: Config, model: Model) -> None:
    batch = synthetic.columns(config, 60)
    tensors = synthetic.tensors(batch)
    found = model.predictions(model(tensors, model.look_up(tensors)))
    expected = plain.predictions(config, variables_of(model), batch)
    for name in ("pctr", "pcvr", "pctcvr"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-10)


def test_towers_start_different_and_models_equal(config: Config, model: Model) -> None:
    again = models.make(config, tf.float64)
    for ours, theirs in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(model.dense_variables) == 8
    kernels = [each for each in model.dense_variables if each.name.endswith("kernel_1:0")]
    assert not np.allclose(*kernels)


@pytest.fixture
def attentive(values: dict[str, Any]) -> Config:
    """With all that a batch's rows might share by mistake: attention, boosts, smoothing, a floor that cuts."""
    values["lists"]["clicked"]["entities"] = ["item", "category"]
    values["lists"]["bought"] = values["lists"]["clicked"] | {"event": "purchase", "pooling": "mean"}
    values["lists"]["clicked"] |= {"pooling": "attention", "boost": {"category": 2.0}}
    values["model"] |= {
        "body": "shared_bottom",
        "bottom": [6],
        "label_smoothing": 0.1,
        "propensity_floor": 0.4,
    }
    return parse(values)


@pytest.mark.parametrize("variant", TASKS)
def test_a_batch_is_the_sum_of_its_parts(attentive: Config, variant: str) -> None:
    """So N ranks of batch B are one rank of batch N × B, padding included."""
    samples, model = synthetic.columns(attentive, 31), made(attentive, variant)
    samples["weight"] = np.random.default_rng(0).choice([0.0, 0.5, 3.0], 31).astype(np.float32)
    cuts = [slice(0, 31), slice(0, 12), slice(12, 31)]
    whole, *halves = (synthetic.tensors(synthetic.take(samples, cut, 31)) for cut in cuts)

    def losses(batch: Batch) -> dict[str, float]:
        return {task: float(x) for task, x in model.losses(batch, model(batch, model.look_up(batch))).items()}

    one, other = (losses(half) for half in halves)
    for task, loss in losses(whole).items():
        assert one[task] + other[task] == pytest.approx(loss, rel=1e-12)
    found = [gradients(model, batch, total_loss(model, batch)) for batch in (whole, *halves)]
    for name, gradient in found[0].items():
        np.testing.assert_allclose(found[1][name] + found[2][name], gradient, atol=1e-11)


SOME = ["esmm_ns", "escm2_dr"]
ALL = [*SOME, *(pytest.param(variant, marks=pytest.mark.slow) for variant in TASKS if variant not in SOME)]


@pytest.mark.parametrize("variant", ALL)
def test_every_variant_trains_and_is_exported(attentive: Config, variant: str) -> None:
    config = with_model(attentive, variant=variant, dropout=0.1)
    model = models.make(config)
    optimizer = optimizers.make(model.variables, config.training.optimizer)
    step = make_step(model, optimizer, Alone(), config)
    start = {variable.name: variable.numpy() for variable in model.variables}
    batch = synthetic.tensors(synthetic.columns(config, 200))
    losses = []
    for number in range(1, 9):
        stepped = step(batch, tf.constant(number, tf.int64), tf.constant(NO_SIGNALS))
        assert bool(stepped.is_sound)
        losses.append({task: float(loss) for task, loss in stepped.losses.items()})
    assert losses[-1]["ctr"] < losses[0]["ctr"]
    assert all(np.any(variable != start[variable.name]) for variable in model.trainable_variables)

    version = export.export(model, config, config.scoring.models, {})
    samples = synthetic.columns(config, 30, seed=1)
    tensors = synthetic.tensors(samples)
    expected = model.predictions(model(tensors, model.look_up(tensors)))
    for name, found in export.load(config.scoring.models, version)(samples).items():
        np.testing.assert_allclose(found, expected[name], atol=1e-6)
