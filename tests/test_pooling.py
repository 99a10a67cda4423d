"""Behaviour lists to vectors: sums, means, attention and boosts, by hand and in NumPy."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from esmm.config import BehaviourList, Config, Embedding, parse
from esmm.errors import ConfigError
from esmm.layers.inputs import Inputs
from esmm.layers.lists import List
from esmm.layers.tables import EmbeddingTable, LookUp
from tests import plain, synthetic

F64 = tf.float64
POOLINGS = ["sum", "mean", "attention"]
LENGTH, DIM = 4, 3

Batch = dict[str, tf.Tensor]


def listed(pooling: str, **settings: Any) -> tuple[List, dict[str, EmbeddingTable]]:
    """The list `clicked` of categories and brands, and its tables, their entries about 1."""
    behaviour = BehaviourList.model_validate(
        {"event": "click", "length": LENGTH, "half_life": "1d", "look_back": "1d",
         "entities": ["category", "brand"], "pooling": pooling, **settings}
    )  # fmt: skip
    tables = {
        entity: EmbeddingTable(entity, Embedding(rows=100, dim=DIM), [entity, f"clicked_{entity}"], 1, F64)
        for entity in behaviour.entities
    }
    for table in tables.values():
        table.weights.assign(table.weights * 20)
    return List("clicked", behaviour, tables, 1, F64), tables


def batch_of(category: list[int], clicked: list[list[int]], weights: list[list[float]], **more: Any) -> Batch:
    """Samples with a candidate's category, those of the list, and, unless told, no brands."""
    absent = {"brand": [-1] * len(category), "clicked_brand": [[-1] * LENGTH] * len(category)}
    ids = {"category": category, "clicked_category": clicked} | absent | more
    batch = {name: tf.constant(values, tf.int64) for name, values in ids.items()}
    return batch | {"clicked_weight": tf.constant(weights)}


def pooled(
    layer: List, tables: dict[str, EmbeddingTable], batch: Batch
) -> tuple[np.ndarray, list[np.ndarray]]:
    """What the categories pool to, and its sum's gradient by the table and by the attention."""
    look_ups = {entity: table.look_up(batch) for entity, table in tables.items()}
    values_ud = look_ups["category"].rows.values_ud
    with tf.GradientTape() as tape:
        tape.watch(values_ud)
        found = layer(batch, look_ups, candidates(look_ups))[0]
        total = tf.reduce_sum(found)
    gradient = tape.gradient(total, [values_ud, *layer.trainable_variables], unconnected_gradients="zero")
    table = np.zeros(tables["category"].weights.shape)
    table[look_ups["category"].rows.indices_u] = gradient[0]
    return found.numpy(), [table, *(each.numpy() for each in gradient[1:])]


def candidates(look_ups: dict[str, LookUp]) -> dict[str, tf.Tensor]:
    """Each candidate's row, zeros where it is absent."""
    found = {}
    for entity, look_up in look_ups.items():
        padded = tf.concat([tf.zeros((1, DIM), F64), look_up.rows.values_ud], axis=0)
        found[entity] = tf.gather(padded, look_up.places[entity][:, 0] + 1)
    return found


def row(tables: dict[str, EmbeddingTable], identifier: int) -> np.ndarray:
    found: np.ndarray = tables["category"].weights.numpy()[plain.bucket(identifier, 100)]
    return found


ONE = batch_of([3], [[3, 5, 3, -1]], [[0.875, 0.75, 0.5, 0.0]])


def test_a_boost_multiplies_entries_that_share_the_candidates_entity() -> None:
    layer, _ = listed("sum", boost={"category": 2.0})
    assert layer.weights(ONE).numpy().tolist() == [[1.75, 0.75, 1.0, 0.0]]


def test_boosts_of_several_entities_multiply_and_absent_ones_are_not_shared() -> None:
    layer, _ = listed("sum", boost={"category": 2.0, "brand": 3.0})
    batch = batch_of(
        [3, -1], [[3, 3, 5, -1], [-1, 3, 5, 5]], [[0.5] * 4] * 2,
        brand=[7, -1], clicked_brand=[[7, -1, 7, 8], [-1, -1, 7, 8]],
    )  # fmt: skip
    assert layer.weights(batch).numpy().tolist() == [[3.0, 1.0, 1.5, 0.5], [0.5, 0.5, 0.5, 0.5]]


def test_sums_and_means_by_hand() -> None:
    for pooling, over in (("sum", 1.0), ("mean", 1.75 + 0.75 + 1.0)):
        layer, tables = listed(pooling, boost={"category": 2.0})
        found, [gradient] = pooled(layer, tables, ONE)
        three, five = row(tables, 3), row(tables, 5)
        np.testing.assert_allclose(found, [(2.75 * three + 0.75 * five) / over], rtol=1e-12)
        np.testing.assert_allclose(gradient[plain.bucket(3, 100)], 2.75 / over, rtol=1e-12)


def test_a_mean_is_over_the_entries_that_are_there() -> None:
    """The second entry has a weight, as its brand is known, but no category."""
    layer, tables = listed("mean")
    batch = batch_of([3], [[4, -1, 5, -1]], [[0.75, 0.5, 0.25, 0.0]], clicked_brand=[[1, 2, 3, -1]])
    found, _ = pooled(layer, tables, batch)
    np.testing.assert_allclose(found, [0.75 * row(tables, 4) + 0.25 * row(tables, 5)], rtol=1e-12)


def test_attention_is_as_in_numpy() -> None:
    layer, tables = listed("attention", boost={"category": 2.0})
    random = np.random.default_rng(3)
    for variable in layer.trainable_variables:
        variable.assign(random.normal(size=variable.shape))
    clicked = [[3, 5, 9, 3], [8, 7, 6, -1]]
    weights = [[0.875, 0.75, 0.5, 0.25], [0.5, 0.25, 0.125, 0.0]]
    found, _ = pooled(layer, tables, batch_of([3, -1], clicked, weights))
    unit = {v.name.removesuffix(":0"): v.numpy() for v in layer.trainable_variables}
    for sample, candidate in enumerate([row(tables, 3), np.zeros(DIM)]):
        expected = np.zeros(DIM)
        for identifier, weight in zip(clicked[sample], weights[sample], strict=True):
            if identifier >= 0:
                e = row(tables, identifier)
                seen = np.concatenate([e, candidate, e - candidate, e * candidate])[np.newaxis]
                score = plain.tower(unit, "attention/clicked_category", seen)[0][0]
                boost = 2 if (sample, identifier) == (0, 3) else 1
                expected += weight * boost * score * e
        np.testing.assert_allclose(found[sample], expected, rtol=1e-12)


def test_attention_begins_as_the_sum() -> None:
    (attention, tables), (summed, _) = listed("attention"), listed("sum")
    for each in attention.trainable_variables:
        if "kernel" in each.name:
            each.assign(tf.zeros_like(each))
    np.testing.assert_allclose(pooled(attention, tables, ONE)[0], pooled(summed, tables, ONE)[0], rtol=1e-12)


def test_attention_looks_at_the_candidate_and_learns() -> None:
    """By finite differences: by the rows, of which the candidate's is no entry here, and some of each kernel."""
    layer, tables = listed("attention")
    batch = batch_of([9], [[3, 5, 3, -1]], [[0.875, 0.75, 0.5, 0.0]])
    _, [gradient, *by_unit] = pooled(layer, tables, batch)
    variables = [tables["category"].weights, *layer.trainable_variables[: len(by_unit)]]
    for variable, found in zip(variables, [gradient, *by_unit], strict=True):
        start = variable.numpy()
        for place in list(zip(*np.nonzero(found), strict=True))[:9]:
            sides = []
            for change in (1e-6, -1e-6):
                moved = start.copy()
                moved[place] += change
                variable.assign(moved)
                sides.append(pooled(layer, tables, batch)[0].sum())
            variable.assign(start)
            assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(found[place], rel=1e-4, abs=1e-8)
    assert gradient[plain.bucket(9, 100)].all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_has_no_part_and_no_gradient(pooling: str) -> None:
    """Neither an absent id that has a weight, nor an id without one; nor do they change what others get."""
    layer, tables = listed(pooling, boost={"category": 2.0})
    ids, weights = [[3, 5, -1, -1]], [[0.75, 0.5, 0.0, 0.0]]
    found, gradients = pooled(layer, tables, batch_of([3], ids, weights))
    ids, weights = [[3, 5, -1, 8]], [[0.75, 0.5, 0.25, 0.0]]
    again, others = pooled(layer, tables, batch_of([3], ids, weights))
    np.testing.assert_array_equal(found, again)
    for one, other in zip(gradients, others, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not others[0][plain.bucket(8, 100)].any()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_an_empty_list_pools_to_zero(pooling: str) -> None:
    layer, tables = listed(pooling, boost={"category": 2.0})
    batch = batch_of([3, -1], [[-1] * 4] * 2, [[0.0] * 4] * 2)
    found, gradients = pooled(layer, tables, batch)
    assert not found.any()
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_inputs_with_boosts_are_as_in_numpy(values: dict[str, Any], pooling: str) -> None:
    values["lists"]["clicked"] |= {"pooling": pooling, "boost": {"category": 2.0, "brand": 1.5, "item": 4.0}}
    config = parse(values)
    batch = synthetic.columns(config, 40, ids=6)
    inputs = Inputs(config, F64)
    variables = {f"table/{name}": table.weights.numpy() for name, table in inputs.tables.items()}
    tensors = synthetic.tensors(batch)
    found = inputs(tensors, inputs.look_up(tensors))
    np.testing.assert_allclose(found, plain.inputs(config, variables, batch), atol=1e-12)


@pytest.mark.parametrize(
    ("boost", "message"),
    [
        ({"price": 2}, "lists.clicked.boost: expected entities of the list (item, seller), found 'price'"),
        ({"brand": 2}, "lists.clicked.boost: expected entities of the list (item, seller), found 'brand'"),
        ({"item": 0}, "lists.clicked.boost.item: expected greater than 0, found 0"),
    ],
)
def test_a_boost_that_is_of_no_use_is_refused(
    values: dict[str, Any], boost: dict[str, float], message: str
) -> None:
    values["lists"]["clicked"] |= {"entities": ["item", "seller"], "boost": boost}
    with pytest.raises(ConfigError) as caught:
        parse(values)
    assert str(caught.value) == message


def test_attention_is_a_dense_variable_and_not_a_table(config: Config, values: dict[str, Any]) -> None:
    assert not Inputs(config, F64).dense_variables
    values["lists"]["clicked"]["pooling"] = "attention"
    inputs = Inputs(parse(values), F64)
    dense = {variable.ref() for variable in inputs.dense_variables}
    tables = {table.weights.ref() for table in inputs.tables.values()}
    assert {variable.ref() for variable in inputs.trainable_variables} == dense | tables
    assert len(dense) == 4 * len(values["lists"]["clicked"]["entities"])
