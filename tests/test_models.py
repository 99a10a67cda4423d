"""ESMM: what its towers share, what they do not, and what they compute."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from esmm import models
from esmm.config import Config
from esmm.models import Model
from tests import plain, synthetic

Batch = dict[str, tf.Tensor]


@pytest.fixture
def model(config: Config) -> Model:
    return models.make(config, tf.float64)


def variables_of(model: Model) -> plain.Arrays:
    return {variable.name.removesuffix(":0"): variable.numpy() for variable in model.variables}


def item_gradient(model: Model, batch: Batch, scalar: Callable[[models.Logits], tf.Tensor]) -> np.ndarray:
    """The gradient of something by the whole table of items."""
    look_ups = model.look_up(batch)
    indices_u, values_ud = look_ups["item"].rows
    with tf.GradientTape() as tape:
        tape.watch(values_ud)
        total = scalar(model(batch, look_ups))
    table = np.zeros(model.inputs.tables["item"].weights.shape)
    table[indices_u] = tape.gradient(total, values_ud)
    return table


def batch_of(config: Config, item: int, clicked_item: int) -> Batch:
    """One sample in which nothing is there but the candidate, where it is not -1, and one entry of the list."""
    batch = synthetic.take(synthetic.columns(config, 1), slice(0), size=1)
    batch["item"][0] = item
    batch["clicked_item"][0, 0], batch["clicked_weight"][0, 0] = clicked_item, 0.5
    return synthetic.tensors(batch)


def test_an_entity_has_one_table(config: Config, model: Model) -> None:
    names = sorted(name for name in variables_of(model) if name.startswith("table/"))
    assert names == sorted(f"table/{name}" for name in config.embeddings)
    assert model.inputs.tables["item"].columns == ("item", "clicked_item")


@pytest.mark.parametrize("tower", ["ctr", "cvr"])
@pytest.mark.parametrize(("item", "clicked_item"), [(7, -1), (-1, 7)])
def test_either_tower_and_either_use_of_an_item_change_its_row(
    config: Config, model: Model, tower: str, item: int, clicked_item: int
) -> None:
    gradient = item_gradient(
        model, batch_of(config, item, clicked_item), lambda logits: getattr(logits, tower)[0]
    )
    assert np.flatnonzero(gradient.any(axis=1)).tolist() == [plain.bucket(7, config.embeddings["item"].rows)]


def test_a_loss_reaches_the_table_from_candidate_and_history(config: Config, model: Model) -> None:
    batch = batch_of(config, 7, 8)
    arrays = {name: tensor.numpy() for name, tensor in batch.items()} | {"weight": np.ones(1)}
    batch = synthetic.tensors(arrays)
    found = item_gradient(model, batch, lambda logits: tf.add_n(list(model.losses(batch, logits).values())))
    expected = plain.gradients(config, variables_of(model), arrays)["table/item"]
    assert (np.abs(expected).sum(axis=1) > 0).sum() == 2
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_nothing_there_has_no_gradient(config: Config, model: Model) -> None:
    batch = batch_of(config, -1, -1)
    assert not item_gradient(model, batch, lambda logits: logits.ctr[0] + logits.cvr[0]).any()


def test_probabilities_are_as_in_numpy(config: Config, model: Model) -> None:
    batch = synthetic.columns(config, 60)
    tensors = synthetic.tensors(batch)
    found = model.predictions(model(tensors, model.look_up(tensors)))
    expected = plain.predictions(config, variables_of(model), batch)
    for name in ("pctr", "pcvr", "pctcvr"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-10)
    np.testing.assert_allclose(found["pctcvr"], found["pctr"] * found["pcvr"], rtol=1e-12)


def test_towers_start_different_and_models_equal(config: Config, model: Model) -> None:
    again = models.make(config, tf.float64)
    for ours, theirs in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(model.dense_variables) == 8
    assert not np.allclose(model.dense_variables[2], model.dense_variables[6])
