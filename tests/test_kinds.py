"""Kinds of features in the graph: vocabularies, buckets, crosses and standardised numbers, against Python and NumPy."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from esmm import export, models, schema
from esmm.config import Config, Embedding, NumberFeature, parse
from esmm.fitted import Fitted, Moments
from esmm.layers import hashing
from esmm.layers.buckets import bucketised
from esmm.layers.inputs import Inputs, number
from esmm.layers.rules import Vocabulary
from esmm.layers.tables import EmbeddingTable
from tests import kinds, synthetic

F64 = tf.float64
LARGE = 2**63 - 1


@pytest.fixture
def config(values: dict[str, Any]) -> Config:
    return parse(kinds.with_every_kind(values))


@pytest.fixture
def fitted() -> Fitted:
    moments = {f"seller_{figure}_7d": Moments(0.1, 3.0) for figure in schema.STATISTICS}
    return Fitted(
        {"item": np.array([0, 3, 4, 49])},
        {"price": Moments(0.25, 0.5), **moments},
        {"band": np.array([-0.5, 0.25, 1.0], np.float32)},
    )


def test_ids_of_a_vocabulary_have_rows_of_their_own_and_all_others_share_one() -> None:
    vocabulary = Vocabulary([0, 9, 4121, LARGE])
    ids = [9, 8, LARGE, -1, 0, 9, 1, LARGE - 1, 4121, -7]
    assert vocabulary(tf.constant(ids, tf.int64)).numpy().tolist() == [2, 0, 4, -1, 1, 2, 0, 0, 3, -1]
    assert vocabulary.size == 5


@given(st.sets(st.integers(0, LARGE)), st.lists(st.integers(-3, LARGE)))
@settings(deadline=None, max_examples=50)
def test_a_vocabulary_is_as_a_dictionary(known: set[int], others: list[int]) -> None:
    row_of = {one: row for row, one in enumerate(sorted(known), 1)}
    ids = [*others, *known]
    found = Vocabulary(sorted(known))(tf.constant(ids, tf.int64)).numpy().tolist()
    assert found == [-1 if one < 0 else row_of.get(one, 0) for one in ids]


def test_a_table_with_a_vocabulary_is_as_large_as_that() -> None:
    embedding = Embedding(rows=1000, dim=2)
    table = EmbeddingTable("item", embedding, ["item"], 1, F64, Vocabulary([7, 9]))
    rows, places, _ = table.look_up({"item": tf.constant([5, 9, -1, 6], tf.int64)})
    assert table.weights.shape == (3, 2)
    assert rows.indices_u.numpy().tolist() == [0, 2]
    assert places["item"].numpy().tolist() == [[0], [1], [-1], [0]]


def test_a_value_that_is_a_boundary_is_in_the_upper_bucket_and_0_in_none() -> None:
    values = tf.constant([-9, -1, -0.5, 0, 0.5, 1, 9.99, 10, 1e30], tf.float32)
    assert bucketised(values, [-1, 1, 10]).numpy().tolist() == [0, 1, 1, -1, 1, 2, 2, 3, 3]
    assert bucketised(values, []).numpy().tolist() == [0, 0, 0, -1, 0, 0, 0, 0, 0]


@given(st.lists(st.tuples(*[st.integers(-2, LARGE)] * 3), min_size=1))
@settings(deadline=None, max_examples=50)
def test_crosses_are_as_by_pythons_integers(ids: list[tuple[int, int, int]]) -> None:
    parts = [tf.constant(part, tf.int64) for part in zip(*ids, strict=True)]
    assert hashing.cross(parts).numpy().tolist() == [kinds.cross(*each) for each in ids]


def test_crosses_of_small_ids_differ_and_spread_evenly() -> None:
    """300 × 300 pairs: all differ; over 1000 rows their chi-square is 999 ± 45, and 5 deviations are allowed."""
    one, other = (part.ravel() for part in np.meshgrid(np.arange(300), np.arange(300)))
    ids = hashing.cross([tf.constant(one), tf.constant(other)])
    assert len(np.unique(ids)) == 90_000
    counts = np.bincount(hashing.bucket(ids, 1000).numpy(), minlength=1000)
    assert abs(((counts - 90) ** 2 / 90).sum() - 999) < 5 * 45


def test_standardised_numbers_are_transformed_first_and_scaled_last() -> None:
    """(ln(1 + 7) - 1) / 0.5 / 2, worked by hand."""
    feature = NumberFeature(kind="number", source="items.price", transform="log1p", standardise=True, scale=2)
    found = number(tf.constant([7.0]), feature, F64, Moments(1.0, 0.5))
    np.testing.assert_allclose(found, [1.0794415416798357], rtol=1e-12)


def test_inputs_of_every_kind_are_as_in_numpy(config: Config, fitted: Fitted) -> None:
    inputs = Inputs(config, F64, fitted)
    batch = synthetic.columns(config, 60)
    batch["price"][:3] = [0, 0.25, 40]
    tables = {name: table.weights.numpy() for name, table in inputs.tables.items()}
    expected = kinds.inputs(config, fitted, tables, batch)
    assert inputs.width == expected.shape[1]
    tensors = synthetic.tensors(batch)
    np.testing.assert_allclose(inputs(tensors, inputs.look_up(tensors)), expected, atol=1e-12)


def test_padding_looks_up_nothing_whatever_the_kind(config: Config, fitted: Fitted) -> None:
    inputs = Inputs(config, F64, fitted)
    batch = synthetic.tensors(synthetic.take(synthetic.columns(config, 3), slice(0), size=2))
    look_ups = inputs.look_up(batch)
    assert not any(int(tf.size(found.rows.indices_u)) for found in look_ups.values())
    embedded = inputs.width - len(schema.number_features(config))
    np.testing.assert_array_equal(inputs(batch, look_ups)[:, :embedded], np.zeros((2, embedded)))


def test_training_changes_all_variables_but_vocabularies(config: Config, fitted: Fitted) -> None:
    model = models.make(config, fitted=fitted)
    left = {v.ref() for v in model.variables} - {v.ref() for v in model.trainable_variables}
    assert [ref.deref().numpy().tolist() for ref in left] == [[-1, 0, 3, 4, 49]]
    assert {table.weights.ref() for table in model.tables.values()} <= {
        v.ref() for v in model.trainable_variables
    }


def test_the_exported_model_takes_columns_alone_and_gives_the_same(config: Config, fitted: Fitted) -> None:
    model = models.make(config, fitted=fitted)
    for table in model.tables.values():
        table.weights.assign(table.weights * 20)
    version = export.export(model, config, config.scoring.models, {})
    samples = synthetic.columns(config, 100)
    predict = export.load(config.scoring.models, version)
    assert set(predict.inputs["serving_default"]) == {
        column.name for column in schema.feature_columns(config)
    }
    tensors = synthetic.tensors(samples)
    expected = model.predictions(model(tensors, model.look_up(tensors)))
    for name, values in predict(samples).items():
        np.testing.assert_allclose(values, expected[name], atol=1e-6)
    # What each kind is made of counts.
    for name in ("segment", "price", "item"):
        changed = samples | {name: np.roll(samples[name], 1)}
        assert not np.allclose(predict(changed)["pctr"], predict(samples)["pctr"], atol=1e-4)
