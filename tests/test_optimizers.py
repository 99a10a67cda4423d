"""Learning rates by the step."""

import pytest

from esmm.optimizers import scheduled_rate


def test_a_constant_rate_stays() -> None:
    assert [scheduled_rate("constant", 0.1, step, 4) for step in (1, 2, 4)] == [0.1, 0.1, 0.1]


def test_a_cosine_falls_from_the_rate_to_nearly_none() -> None:
    """cos 0 = 1, cos 45° = √½, cos 90° = 0, cos 135° = -√½."""
    half = 0.5**0.5
    expected = [0.1, 0.05 * (1 + half), 0.05, 0.05 * (1 - half)]
    assert [scheduled_rate("cosine", 0.1, step, 4) for step in (1, 2, 3, 4)] == pytest.approx(expected)
