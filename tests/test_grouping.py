"""Candidates grouped by user: the same probabilities as row by row, whatever meets whatever."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from esmm import export, models, schema
from esmm.config import Config, parse
from esmm.export import Predictor
from esmm.fitted import Fitted, Moments
from esmm.layers.grouping import Grouped
from esmm.scoring import predict_in_batches
from tests import kinds, synthetic

USERS = np.array([0, 0, 0, 2, 2, 4, 4, 4, 4, 4])
"""Of five users two, the second and the fourth, have no candidates."""


def config_of(values: dict[str, Any], case: str) -> Config:
    """The small config with some of what meets a candidate, or does not."""
    clicked = values["lists"]["clicked"]
    if case in ("mean", "attention"):
        clicked["pooling"] = case
    if case == "boosts":
        clicked["boost"] = {"category": 3.0, "brand": 2.0}
    if case == "shared_bottom":
        values["model"]["body"] = case
    if case == "division":
        values["model"]["variant"] = case
    if case == "crosses":
        crosses = {
            "of_both": ["segment", "category"],
            "of_user": ["segment", "user"],
            "of_item": ["item", "brand"],
        }
        values["embeddings"]["cross"] = {"rows": 300, "dim": 3}
        values["features"] |= {
            name: {"kind": "cross", "of": of, "embedding": "cross"} for name, of in crosses.items()
        }
    if case == "statistics":
        values["statistics"] = {
            "of_user": {"by": ["user"], "days": [7]},
            "of_both": {"by": ["user", "brand"]},
        }
    if case == "every kind":
        values = kinds.with_every_kind(values)
    if case == "bags":
        for section in ("logs", "attribution", "lists", "simulation"):
            del values[section]
        values["features"] = {"item": {"kind": "id", "source": "samples.205", "embedding": "item"}}
        values["bags"] = {"seen": {"source": "samples.109", "embedding": "brand", "length": 3}}
    return parse(values)


CASES = [
    "sum", "mean", "attention", "boosts", "shared_bottom", "division", "crosses", "statistics", "every kind", "bags",
]  # fmt: skip


def samples(config: Config) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Columns by row and by user, few ids, so that entries meet candidates; the last user's lists are empty."""
    random = np.random.default_rng(5)

    def made(column: schema.Column, rows: int) -> np.ndarray:
        shape = rows if column.length is None else (rows, column.length)
        if column.type == "int64":
            return random.integers(-1, 4, shape)
        return random.uniform(0.1, 2, shape).astype(np.float32)

    users = {column.name: made(column, 5) for column in schema.user_columns(config)}
    for column in schema.user_columns(config):
        if column.length is not None:
            users[column.name][4] = -1 if column.type == "int64" else 0
    return {column.name: made(column, len(USERS)) for column in schema.row_columns(config)}, users


def loaded(config: Config) -> Predictor:
    """A model whose numbers differ from row to row."""
    fitted = Fitted(
        vocabularies={"item": np.array([0, 3])},
        moments=dict.fromkeys(
            ["price", *(c.name for c in schema.statistic_columns(config))], Moments(1.0, 0.5)
        ),
        boundaries={"band": np.array([0.5, 1.0, 1.5])},
    )
    model = models.make(config, fitted=fitted)
    for table in model.tables.values():
        table.weights.assign(table.weights * 20)
    return export.load(config.scoring.models, export.export(model, config, config.scoring.models, {}))


@pytest.mark.parametrize("case", CASES)
def test_probabilities_are_those_of_the_rows_alone(values: dict[str, Any], case: str) -> None:
    config = config_of(values, case)
    predict, (rows, users) = loaded(config), samples(config)
    expected = predict(rows | {name: array[USERS] for name, array in users.items()})
    found = predict(rows | users | {schema.USER_OF_ROW: USERS})
    for name in schema.PREDICTIONS:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-6)
        assert expected[name].std() > 0.001


def test_users_are_cut_into_batches_with_their_rows(config: Config) -> None:
    """Of three rows at most: the third user's fall into two batches."""
    predict, (rows, users) = loaded(config), samples(config)
    grouped = rows | {schema.USER_OF_ROW: USERS}
    expected = predict(grouped | users)
    seen: list[tuple[int, int]] = []

    def watched(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.append((len(columns["user"]), len(columns["item"])))
        return predict(columns)

    found = predict_in_batches(watched, grouped, 3, users)
    assert seen == [(1, 2), (3, 3), (1, 2), (1, 3)]
    for name in schema.PREDICTIONS:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("users", [0, 2])
def test_no_rows(config: Config, users: int) -> None:
    rows, of_user = samples(config)
    columns = {name: array[:0] for name, array in rows.items()}
    columns |= {name: array[:users] for name, array in of_user.items()}
    found = loaded(config)(columns | {schema.USER_OF_ROW: USERS[:0]})
    assert {name: array.shape for name, array in found.items()} == dict.fromkeys(schema.PREDICTIONS, (0,))


@pytest.mark.parametrize("of_user", [set(), {"a"}, {"b"}, {"a", "c"}, {"a", "b", "c"}])
def test_a_product_is_that_of_the_whole_vectors(of_user: set[str]) -> None:
    random = np.random.default_rng(1)
    whole = {name: random.normal(size=(3, width)) for name, width in (("a", 2), ("b", 1), ("c", 3))}
    place, kernel = np.array([1, 0, 1]), random.normal(size=(6, 4))
    for name in of_user:
        whole[name] = whole[name][place]  # two of the three rows are of one user
    parts = {name: tf.constant(part[[1, 0]] if name in of_user else part) for name, part in whole.items()}
    grouped = Grouped(parts, of_user, tf.constant(place))
    vectors = np.concatenate([*whole.values()], axis=1)
    np.testing.assert_allclose(grouped @ tf.Variable(kernel), vectors @ kernel, rtol=1e-12)
    # What is no product is made of the whole vectors.
    np.testing.assert_array_equal(tf.nn.relu(grouped), np.maximum(vectors, 0))


def test_a_users_ids_are_looked_up_once(config: Config) -> None:
    """However many rows a user has: the batch's ids are those of the rows and, once, those of the users."""
    model, (rows, users) = models.make(config), samples(config)
    batch = synthetic.tensors(rows | users | {schema.USER_OF_ROW: USERS})
    places = {name: look_up.places for name, look_up in model.look_up(batch).items()}
    assert places["item"]["clicked_item"].shape == (5, 5)
    assert places["item"]["item"].shape == (10, 1)
