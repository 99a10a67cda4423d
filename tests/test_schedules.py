"""Learning rates by the step."""

from typing import Any

import pytest

from esmm.config import Optimizer
from esmm.schedules import scheduled


def rates(steps: int, ranks: int = 1, **settings: Any) -> list[float]:
    rate = scheduled(Optimizer.model_validate({"learning_rate": 0.1, **settings}), ranks=ranks, steps=steps)
    return [rate(step) for step in range(1, steps + 1)]


def test_a_constant_rate_stays() -> None:
    assert rates(4, schedule="constant") == [0.1, 0.1, 0.1, 0.1]


def test_a_cosine_falls_from_the_rate_to_nearly_none() -> None:
    """cos 0 = 1, cos 45° = √½, cos 90° = 0, cos 135° = -√½."""
    half = 0.5**0.5
    assert rates(4) == pytest.approx([0.1, 0.05 * (1 + half), 0.05, 0.05 * (1 - half)])


def test_a_warm_up_rises_in_a_line_before_either() -> None:
    half = 0.5**0.5
    assert rates(5, schedule="constant", warm_up_steps=4) == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    falling = [0.1, 0.05 * (1 + half), 0.05, 0.05 * (1 - half)]
    assert rates(6, warm_up_steps=2) == pytest.approx([0.05, 0.1, *falling])


def test_a_warm_up_longer_than_the_run_only_rises() -> None:
    assert rates(2, warm_up_steps=4) == pytest.approx([0.025, 0.05])


def test_the_rate_grows_with_the_ranks_if_asked() -> None:
    assert rates(1, ranks=3) == pytest.approx([0.1])
    assert rates(1, ranks=3, scale_by_ranks=True) == pytest.approx([0.3])


def test_a_run_that_goes_on_has_the_rates_that_it_would_have_had() -> None:
    settings = Optimizer.model_validate({"learning_rate": 0.1, "warm_up_steps": 7})
    whole = scheduled(settings, ranks=2, steps=100)
    for taken in (3, 7, 50):
        resumed = scheduled(settings, ranks=2, steps=100, taken=taken, done=taken)
        assert [resumed(step) for step in range(1, 101)] == [whole(step) for step in range(1, 101)]


@pytest.mark.parametrize("times", [2, 0.5])
@pytest.mark.parametrize(
    ("warm_up", "taken", "expected"), [(0, 500, 0.05), (100, 550, 0.05), (100, 50, 0.051)]
)
def test_the_rate_goes_on_where_it_was_when_the_ranks_change(
    warm_up: int, taken: int, expected: float, times: float
) -> None:
    """From 1000 steps to 2000 for the same samples, or to 500: halfway down the cosine, or halfway up before it."""
    settings = Optimizer.model_validate({"learning_rate": 0.1, "warm_up_steps": warm_up})
    before = scheduled(settings, ranks=1, steps=1000)
    assert before(taken + 1) == pytest.approx(expected)
    steps, done = int(1000 * times), int(taken * times)
    after = scheduled(settings, ranks=1, steps=steps, taken=taken, done=done)
    assert after(taken + 1) == pytest.approx(expected, abs=2e-4)
    assert after(taken + steps - done) == pytest.approx(0, abs=2e-6)
