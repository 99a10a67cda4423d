"""The simulator's attribution against the rules taken by the word."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from esmm.attribution import Events, labels
from tests import brute_force

# Few users, items and times: ties, repeats and events at the very edge of a window are then common.
rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 20)), max_size=12)


def events(of: list[tuple[int, int, int]]) -> Events:
    return Events(*np.array(of, dtype=np.int64).reshape(-1, 3).T)


def named(of: list[tuple[int, int, int]]) -> list[brute_force.Event]:
    return [brute_force.Event(n, *event) for n, event in enumerate(of)]


@given(rows, rows, rows, st.integers(0, 6), st.integers(0, 6))
def test_labels_are_those_of_the_rules_taken_by_the_word(
    exposures: list[tuple[int, int, int]],
    clicks: list[tuple[int, int, int]],
    purchases: list[tuple[int, int, int]],
    click_window: int,
    purchase_window: int,
) -> None:
    expected = brute_force.labels(
        named(exposures), named(clicks), named(purchases),
        click_window=click_window, purchase_window=purchase_window,
    )  # fmt: skip
    click, purchase = labels(
        events(exposures), events(clicks), events(purchases),
        click_window=click_window, purchase_window=purchase_window,
    )  # fmt: skip
    assert (click.tolist(), purchase.tolist()) == expected


def test_the_example_of_the_docstring() -> None:
    click, purchase = labels(
        events([(7, 3, 0), (7, 3, 50)]), events([(7, 3, 60)]), events([(7, 3, 95)]),
        click_window=30, purchase_window=40,
    )  # fmt: skip
    assert click.tolist() == purchase.tolist() == [False, True]
