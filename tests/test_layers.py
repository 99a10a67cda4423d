"""Hashing, look-ups, pooling and towers, against Python's integers, NumPy and hand-worked numbers."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from esmm.config import Config, Embedding, NumberFeature, parse
from esmm.layers import hashing, pooling, tables, towers, variables
from esmm.layers.inputs import Inputs, number
from tests import plain, synthetic

F64 = tf.float64


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), st.integers(1, 2**40))
@settings(deadline=None, max_examples=50)
def test_ids_are_hashed_as_by_pythons_integers(ids: list[int], rows: int) -> None:
    found = hashing.bucket(tf.constant(ids, tf.int64), rows).numpy()
    assert found.tolist() == [plain.bucket(one, rows) for one in ids]


@pytest.mark.parametrize("step", [1, 64, 1000])
def test_ids_spread_evenly(step: int) -> None:
    """Chi-square of 100k ids over 1000 rows: 999 degrees of freedom, so 999 ± 45; 5 deviations are allowed."""
    rows = hashing.bucket(tf.range(0, 100_000 * step, step, tf.int64), 1000).numpy()
    counts = np.bincount(rows, minlength=1000)
    assert abs(((counts - 100) ** 2 / 100).sum() - 999) < 5 * 45


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_pooling_is_a_weighted_sum(data: st.DataObject) -> None:
    samples, entries, rows, floats = (data.draw(st.integers(low, 5)) for low in (0, 1, 0, 1))
    places = data.draw(hnp.arrays(np.int32, (samples, entries), elements=st.integers(-1, rows - 1)))
    weights = data.draw(
        hnp.arrays(np.float64, (samples, entries), elements=st.sampled_from([0.0, 0.25, 1.0]))
    )
    values = np.random.default_rng(0).normal(size=(rows, floats))
    expected = np.zeros((samples, floats))
    for sample, entry in np.ndindex(samples, entries):
        if places[sample, entry] >= 0:
            expected[sample] += weights[sample, entry] * values[places[sample, entry]]
    found = pooling.pool(tf.constant(values), tf.constant(places), tf.constant(weights)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_batchs_rows_are_gathered_once() -> None:
    table = tables.EmbeddingTable("item", Embedding(rows=1000, dim=3), ["item", "clicked"], 1, F64)
    batch = {
        "item": tf.constant([7, -1, 9], tf.int64),
        "clicked": tf.constant([[9, 9, -1], [4, -1, -1], [-1, -1, -1]], tf.int64),
    }
    rows, places, _ = table.look_up(batch)
    row = {one: plain.bucket(one, 1000) for one in (7, 9, 4)}
    assert rows.indices_u.numpy().tolist() == [row[7], row[9], row[4]]
    np.testing.assert_array_equal(rows.values_ud, table.weights.numpy()[list(row.values())])
    assert places["item"].numpy().tolist() == [[0], [-1], [1]]
    assert places["clicked"].numpy().tolist() == [[1, 1, -1], [2, -1, -1], [-1, -1, -1]]


def test_ids_that_share_a_row_share_its_place() -> None:
    table = tables.EmbeddingTable("item", Embedding(rows=1, dim=2), ["item"], 1, F64)
    rows, places, _ = table.look_up({"item": tf.constant([5, 6, -1], tf.int64)})
    assert rows.indices_u.numpy().tolist() == [0]
    assert places["item"].numpy().tolist() == [[0], [0], [-1]]


def test_absent_ids_pool_to_zero_and_look_up_nothing(config: Config) -> None:
    inputs = Inputs(config, F64)
    batch = synthetic.tensors(synthetic.take(synthetic.columns(config, 3), slice(0), size=2))
    look_ups = inputs.look_up(batch)
    assert {name: int(tf.size(found.rows.indices_u)) for name, found in look_ups.items()} == dict.fromkeys(
        inputs.tables, 0
    )
    np.testing.assert_array_equal(inputs(batch, look_ups), np.zeros((2, inputs.width)))


def test_a_bags_rows_are_summed_by_weight(values: dict[str, Any]) -> None:
    for section in ("logs", "attribution", "lists", "simulation"):
        del values[section]
    values["features"] = {"item": {"kind": "id", "source": "samples.205", "embedding": "item"}}
    values["bags"] = {"seen": {"source": "samples.109", "embedding": "brand", "length": 3}}
    inputs = Inputs(parse(values), F64)
    batch = {
        "item": tf.constant([7, -1], tf.int64),
        "seen": tf.constant([[5, 6, 5], [8, -1, -1]], tf.int64),
        "seen_weight": tf.constant([[2.5, 1.0, 0.5], [0.25, 0.0, 0.0]]),
    }
    item, brand = (inputs.tables[name].weights.numpy() for name in ("item", "brand"))
    five, six, eight = (brand[plain.bucket(one, 100)] for one in (5, 6, 8))
    expected = [
        np.concatenate([item[plain.bucket(7, 100)], 3.0 * five + 1.0 * six]),
        np.concatenate([np.zeros(4), 0.25 * eight]),
    ]
    assert inputs.width == 8
    np.testing.assert_allclose(inputs(batch, inputs.look_up(batch)), expected, atol=1e-12)


def test_inputs_are_as_in_numpy(config: Config) -> None:
    batch = synthetic.columns(config, 40)
    inputs = Inputs(config, F64)
    variables = {f"table/{name}": table.weights.numpy() for name, table in inputs.tables.items()}
    expected = plain.inputs(config, variables, batch)
    assert inputs.width == expected.shape[1]
    tensors = synthetic.tensors(batch)
    np.testing.assert_allclose(inputs(tensors, inputs.look_up(tensors)), expected, atol=1e-12)


def test_an_entrys_gradient_is_its_weight_and_padding_has_none() -> None:
    """Σ over both samples of the pooled sums: the row of 9 counts with 1 + 0.5 in the list and 1 as candidate."""
    table = tables.EmbeddingTable("item", Embedding(rows=1000, dim=2), ["item", "clicked"], 1, F64)
    batch = {
        "item": tf.constant([9, -1], tf.int64),
        "clicked": tf.constant([[9, 9, -1], [4, -1, -1]], tf.int64),
    }
    weights = tf.constant(
        [[1.0, 0.5, 0.0], [0.8, 0.0, 0.7]], F64
    )  # the last on an absent id: it must not count
    look_up = table.look_up(batch)
    with tf.GradientTape() as tape:
        tape.watch(look_up.rows.values_ud)
        pooled = pooling.pool(look_up.rows.values_ud, look_up.places["clicked"], weights)
        pooled += pooling.pool(look_up.rows.values_ud, look_up.places["item"], tf.ones((2, 1), F64))
        total = tf.reduce_sum(pooled)
    gradient = tape.gradient(total, look_up.rows.values_ud).numpy()
    np.testing.assert_allclose(gradient, [[2.5, 2.5], [0.8, 0.8]])


@pytest.mark.parametrize(
    ("transform", "expected"),
    [("none", [-2.0, 0.0, 3.5]), ("log1p", [-0.8047189562170503, 0.0, 1.0397207708399179])],
)
def test_numbers_are_transformed_and_scaled(transform: str, expected: list[float]) -> None:
    """-ln(1 + 4) / 2 and ln(1 + 7) / 2, worked by hand."""
    feature = NumberFeature(kind="number", source="items.price", transform=transform, scale=2)
    np.testing.assert_allclose(number(tf.constant([-4.0, 0.0, 7.0]), feature, F64), expected, rtol=1e-12)


def test_a_tower_is_as_in_numpy() -> None:
    tower = towers.Tower("ctr", 6, (5, 4), seed=1, dtype=F64, dropout=0.5)
    variables = {v.name.removesuffix(":0"): v.numpy() + 0.01 for v in tower.variables}
    for variable in tower.variables:
        variable.assign(variables[variable.name.removesuffix(":0")])
    x = np.random.default_rng(2).normal(size=(7, 6))
    np.testing.assert_allclose(tower(tf.constant(x)), plain.tower(variables, "ctr", x)[0], rtol=1e-12)


def test_a_normalised_tower_is_as_in_numpy() -> None:
    tower = towers.Tower("ctr", 6, (5,), seed=1, dtype=F64, layer_norm=True)
    random = np.random.default_rng(2)
    for variable in tower.variables:
        variable.assign(random.normal(size=variable.shape))
    hidden, last, last_bias = tower.hidden, tower.kernel.numpy(), tower.bias.numpy()
    [gain], [bias], [kernel] = (
        [each.numpy() for each in part] for part in (hidden.gains, hidden.biases, hidden.kernels)
    )
    x = random.normal(size=(7, 6))
    sums = x @ kernel
    centred = sums - sums.mean(axis=1, keepdims=True)
    outputs = gain * centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) + bias
    expected = (np.maximum(outputs, 0) @ last + last_bias)[:, 0]
    np.testing.assert_allclose(tower(tf.constant(x)), expected, rtol=1e-12)
    # A sample's logit is its own, whatever it shares a batch with.
    np.testing.assert_allclose(tower(tf.constant(x[:1])), expected[:1], rtol=1e-12)


def test_dropout_follows_its_seed_and_keeps_the_mean() -> None:
    tower = towers.Tower("ctr", 1, (4000,), seed=1, dtype=F64, dropout=0.25)
    tower.hidden.kernels[0].assign(tf.ones((1, 4000), F64))
    tower.kernel.assign(tf.ones((4000, 1), F64))
    x, seed = tf.ones((1, 1), F64), tf.constant([3, 4], tf.int64)
    dropped = float(tower(x, seed)[0])
    assert float(tower(x)[0]) == 4000
    # 4000 units of 4/3 each with probability 3/4: 4000 ± 37.
    assert dropped != 4000
    assert abs(dropped - 4000) < 5 * 37
    assert float(tower(x, seed)[0]) == dropped
    assert float(tower(x, seed + 1)[0]) != dropped


def test_variables_depend_on_the_seed_and_their_names_alone() -> None:
    one, same, other_seed, other_name = (
        variables.new_variable(name, (50, 20), 0.1, seed, tf.float32).numpy()
        for name, seed in (("a", 1), ("a", 1), ("a", 2), ("b", 1))
    )
    np.testing.assert_array_equal(one, same)
    assert abs(one.std() - 0.1) < 0.01
    with tf.name_scope("scope"):
        scoped = variables.new_variable("a", (50, 20), 0.1, 1, tf.float32)
    assert scoped.name == "scope/a:0"
    assert abs(np.corrcoef(one.ravel(), scoped.numpy().ravel())[0, 1]) < 0.2
    assert abs(np.corrcoef([one.ravel(), other_seed.ravel(), other_name.ravel()]) - np.eye(3)).max() < 0.2


def test_in_bfloat16_hidden_layers_alone_are_rounded_and_only_in_training() -> None:
    """A sum of 256 and 1 needs nine bits: bfloat16 has eight, so that the 1 is lost there, and nowhere else."""
    tower = towers.Tower("ctr", 1, (1,), seed=1, dtype=tf.float32, precision="bfloat16")
    for variable in tower.variables:
        variable.assign(tf.ones_like(variable))
    x, seed = tf.constant([[256.0], [2.0]]), tf.constant([3, 4], tf.int64)
    assert tower(x).numpy().tolist() == [258.0, 4.0]
    trained = tower(x, seed)
    assert trained.dtype == tf.float32
    assert trained.numpy().tolist() == [257.0, 4.0]
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tower(x, seed))
    gradients = tape.gradient(total, tower.trainable_variables)
    assert {gradient.dtype for gradient in gradients} == {tf.float32}
