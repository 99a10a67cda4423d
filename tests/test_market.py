"""The formulas of docs/simulator.md, worked out otherwise."""

import math

import numpy as np
import pytest

from benchmarks.harness import ROOT
from esmm.config import Simulation, load
from esmm.market import HOURLY, Market, Shown, draw_outcomes
from esmm.population import DEVICES, affinity, pick


def settings(**knobs: object) -> Simulation:
    values = {"directory": "unused", "start": "2026-03-24", "days": 4, "users": 2_000, "items": 500}
    return Simulation.model_validate(values | knobs)


def shown_on(market: Market, day: int = 3, n: int = 100_000) -> Shown:
    rng = np.random.default_rng(11)
    return market.show(rng, day, pick(rng, HOURLY, (n,)))


def mean_affinity(market: Market, shown: Shown) -> float:
    return float(affinity(market.users.click_taste_ud[shown.user], market.items.vector_id[shown.item]).mean())


@pytest.mark.parametrize("confounding", [0.0, 0.6])
@pytest.mark.parametrize(("click_rate", "purchase_rate"), [(0.04, 0.02), (0.3, 0.5)])
def test_the_rates_come_out_about_as_asked_for(
    click_rate: float, purchase_rate: float, confounding: float
) -> None:
    asked = settings(click_rate=click_rate, purchase_rate=purchase_rate, confounding=confounding)
    market = Market.draw(asked, seed=3)
    pctr, pcvr = market.probabilities(shown_on(market, n=400_000))
    click, would_buy = draw_outcomes(np.random.default_rng(5), pctr, pcvr, confounding)
    assert pctr.mean() == pytest.approx(click_rate, rel=0.03)
    noise = 3 / math.sqrt(click.sum() * purchase_rate)
    assert would_buy[click].mean() == pytest.approx(purchase_rate, rel=0.03 + noise)


def test_the_probabilities_follow_the_formulas() -> None:
    market = Market.draw(settings(agreement=0.3), seed=1)
    users, items = market.users, market.items
    user, item, hour, device = 17, 230, 15, DEVICES.index("desktop")
    likes = sum(a * b for a, b in zip(users.click_taste_ud[user], items.vector_id[item], strict=True))
    wants = sum(a * b for a, b in zip(users.buy_taste_ud[user], items.vector_id[item], strict=True))
    click = (
        market.click_intercept + 1.5 * likes / math.sqrt(8) + items.appeal_i[item] + users.clickiness_u[user]
    )
    click += 0.25 * math.cos(2 * math.pi * (15 - 21) / 24) - 0.2
    buy = market.buy_intercept + 1.2 * wants / math.sqrt(8) + items.worth_i[item] + users.buying_mood_u[user]
    pctr, pcvr = market.probabilities(Shown(*(np.array([value]) for value in (user, item, hour, device))))
    assert pctr[0] == pytest.approx(1 / (1 + math.exp(-click)))
    assert pcvr[0] == pytest.approx(1 / (1 + math.exp(-buy)))


@pytest.mark.parametrize("agreement", [-0.5, 0.0, 0.7, 1.0])
def test_affinities_for_clicking_and_buying_agree_as_asked_for(agreement: float) -> None:
    market = Market.draw(settings(agreement=agreement, users=5_000), seed=2)
    rng = np.random.default_rng(0)
    user, item = rng.integers(5_000, size=50_000), rng.integers(500, size=50_000)
    click = affinity(market.users.click_taste_ud[user], market.items.vector_id[item])
    buy = affinity(market.users.buy_taste_ud[user], market.items.vector_id[item])
    # The centres of 8 segments are few draws, hence the tolerance.
    assert np.corrcoef(click, buy)[0, 1] == pytest.approx(agreement, abs=0.15)
    assert click.std() == pytest.approx(1, abs=0.25)


def test_the_policy_chooses_by_a_softmax_of_selection_times_affinity() -> None:
    market = Market.draw(settings(users=1, items=2, selection=2.0), seed=4)
    first, second = affinity(market.users.click_taste_ud, market.items.vector_id)
    chance = market.items.popularity_i[0] / market.items.popularity_i.sum()
    weight = math.exp(2.0 * first), math.exp(2.0 * second)
    # k of the ten choices are the first item; the softmax is over the choices, with their repeats.
    expected = sum(
        math.comb(10, k) * chance**k * (1 - chance) ** (10 - k)
        * k * weight[0] / (k * weight[0] + (10 - k) * weight[1])
        for k in range(11)
    )  # fmt: skip
    assert (shown_on(market).item == 0).mean() == pytest.approx(expected, abs=0.01)


def test_selection_makes_what_is_shown_what_is_liked() -> None:
    at_random, strong = (Market.draw(settings(selection=strength), seed=6) for strength in (0, 2))
    rng = np.random.default_rng(1)
    user = pick(rng, at_random.users.activity_u, (100_000,))
    item = pick(rng, at_random.items.popularity_i, (100_000,))
    anything = Shown(user, item, np.zeros_like(user), np.zeros_like(user))
    assert mean_affinity(at_random, shown_on(at_random)) == pytest.approx(
        mean_affinity(at_random, anything), abs=0.03
    )
    assert mean_affinity(strong, shown_on(strong)) > mean_affinity(at_random, anything) + 0.8


@pytest.mark.parametrize(("agreement", "expected"), [(0.0, 1.01), (0.5, 1.71), (0.9, 2.68)])
def test_clicked_rows_are_bought_more_readily_the_more_tastes_agree(
    agreement: float, expected: float
) -> None:
    """docs/simulator.md, the three settings: its ratios were taken from written logs."""
    bench = load(ROOT / "conf/bench.yaml", [f"simulation.agreement={agreement}"])
    assert bench.simulation is not None
    market = Market.draw(bench.simulation, bench.seed)
    pctr, pcvr = market.probabilities(shown_on(market, day=4))
    assert np.average(pcvr, weights=pctr) / pcvr.mean() == pytest.approx(expected, rel=0.04)
    assert pctr.mean() == pytest.approx(0.05, rel=0.03)


def test_cold_items_are_not_shown_before_their_day() -> None:
    market = Market.draw(settings(cold_items=0.4), seed=8)
    assert (market.items.first_day_i > 0).sum() == 200
    for day in range(4):
        first_days = market.items.first_day_i[shown_on(market, day).item]
        assert set(first_days) == set(range(day + 1))


@pytest.mark.parametrize("confounding", [-0.5, 0.0, 0.4, 1.0])
def test_outcomes_keep_their_probabilities_whatever_the_confounding(confounding: float) -> None:
    half = np.full(200_000, 0.5)
    click, would_buy = draw_outcomes(np.random.default_rng(9), half, half, confounding)
    assert click.mean() == pytest.approx(0.5, abs=0.005)
    assert would_buy.mean() == pytest.approx(0.5, abs=0.005)
    # Sheppard's formula: two normal variables of correlation r are both below 0 with this probability.
    both = 0.25 + math.asin(confounding) / (2 * math.pi)
    assert (click & would_buy).mean() == pytest.approx(both, abs=0.005)


def test_rare_outcomes_keep_their_probabilities_too() -> None:
    rng = np.random.default_rng(10)
    click, would_buy = draw_outcomes(rng, np.full(400_000, 0.02), np.full(400_000, 0.01), 0.8)
    assert click.mean() == pytest.approx(0.02, rel=0.05)
    assert would_buy.mean() == pytest.approx(0.01, rel=0.06)
    assert would_buy[click].mean() > 0.1


def test_a_seed_makes_a_market() -> None:
    one, same, other = (Market.draw(settings(), seed=seed) for seed in (-5, -5, 6))
    np.testing.assert_array_equal(one.items.vector_id, same.items.vector_id)
    assert (one.click_intercept, one.buy_intercept) == (same.click_intercept, same.buy_intercept)
    assert not np.array_equal(one.items.vector_id, other.items.vector_id)


def test_a_few_sellers_users_and_items_are_large() -> None:
    market = Market.draw(settings(items=2_000), seed=7)
    sellers = np.sort(np.bincount(market.items.seller_i))[::-1]
    assert sellers[:5].sum() > 0.3 * sellers.sum()
    activity = np.sort(market.users.activity_u)[::-1]
    assert activity[:200].sum() > 0.3 * activity.sum()
