"""A market of users and items with latent tastes: who is shown what, and how likely they click and buy.

    market = Market.draw(config.simulation, seed=7)
    shown = market.show(rng, day=0, hours=np.array([9, 21]))      # two exposures: user, item, hour, device
    pctr, pcvr = market.probabilities(shown)                      # [0.08, 0.31], [0.11, 0.14]
    click, purchase = draw_outcomes(rng, pctr, pcvr, confounding=0.0)

docs/simulator.md has the formulas in one place. Everything that the probabilities depend on is a feature
that the logs hold or a function of an id that they hold. What the logs do not hold is the `confounding`
of the two draws: what else made that user click at that moment, and buy.

Arrays are (n,), n exposures, unless their name ends in their shape: u users, i items, d dimensions of
taste, k items to choose from.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

import numpy as np

from esmm.attribution import Bools, Floats, Ints
from esmm.config import Simulation
from esmm.population import DEVICES, Items, Users, affinity, pick

CLICK_TASTE, BUY_TASTE = 1.5, 1.2
"""Logits that one standard deviation of affinity is worth."""
HOUR_EFFECT, BEST_HOUR = 0.25, 21
"""The hour's effect on clicking is a cosine of this height, in logits, that peaks at this hour."""
DEVICE_EFFECTS = np.array([0.1, -0.2, 0.0])
"""In logits of clicking, for each of DEVICES."""
OTHER_DEVICE = 0.15
"""Exposures that are not on the user's own device, but on any."""
HOURLY = np.array(
    [28, 16, 9, 6, 5, 8, 18, 36, 50, 54, 56, 60, 72, 66, 56, 54, 58, 68, 82, 98, 112, 116, 92, 56.0]
)
"""How busy each hour of the local clock is, relative to the others."""
CHOICES = 10
"""Items that the policy chooses one from."""

_CALIBRATION_EXPOSURES, _CALIBRATION_CLICKS = 100_000, 200_000


@dataclass(frozen=True)
class Shown:
    """Exposures: who was shown what, when by the local clock, on what."""

    user: Ints
    """Index of the user, from 0."""
    item: Ints
    """Index of the item, from 0."""
    hour: Ints
    device: Ints
    """Index into DEVICES."""


@dataclass(frozen=True)
class Market:
    """What does not change while the market runs."""

    selection: float
    users: Users
    items: Items
    click_intercept: float = 0.0
    buy_intercept: float = 0.0

    @classmethod
    def draw(cls, settings: Simulation, seed: int) -> Self:
        """The market that the settings and the seed stand for, with the rates that the settings ask for."""
        rng = np.random.default_rng([seed % 2**64, 0])
        market = cls(settings.selection, Users.draw(rng, settings), Items.draw(rng, settings))
        return market._with_rates(rng, settings)

    def show(self, rng: np.random.Generator, day: int, hours: Ints) -> Shown:
        """One exposure at each hour, chosen by the policy from what is on the market on that day.

        A user comes by activity. CHOICES items come by popularity; of these, one is shown with probability
        proportional to exp(selection · affinity), which is what the largest of selection · affinity +
        Gumbel noise comes to.
        """
        user = pick(rng, self.users.activity_u, hours.shape)
        items_k = pick(
            rng,
            np.where(self.items.first_day_i <= day, self.items.popularity_i, 0.0),
            (*hours.shape, CHOICES),
        )
        affinity_k = affinity(self.users.click_taste_ud[user, None], self.items.vector_id[items_k])
        best = np.argmax(self.selection * affinity_k + rng.gumbel(size=affinity_k.shape), axis=1)
        item = np.take_along_axis(items_k, best[:, None], axis=1)[:, 0]
        elsewhere = rng.random(hours.shape) < OTHER_DEVICE
        device = np.where(elsewhere, rng.integers(len(DEVICES), size=hours.shape), self.users.device_u[user])
        return Shown(user, item, hours, device)

    def probabilities(self, shown: Shown) -> tuple[Floats, Floats]:
        """pCTR, and pCVR: P(purchase | shown and made to click), for exposures that are clicked or not."""
        click, buy = self._logits(shown)
        return _sigmoid(self.click_intercept + click), _sigmoid(self.buy_intercept + buy)

    def _logits(self, shown: Shown) -> tuple[Floats, Floats]:
        """Logits of clicking and of buying, the intercepts aside."""
        user, item = shown.user, shown.item
        click = (
            CLICK_TASTE * affinity(self.users.click_taste_ud[user], self.items.vector_id[item])
            + self.items.appeal_i[item]
            + self.users.clickiness_u[user]
            + HOUR_EFFECT * np.cos((shown.hour - BEST_HOUR) * (2 * np.pi / 24))
            + DEVICE_EFFECTS[shown.device]
        )
        buy = (
            BUY_TASTE * affinity(self.users.buy_taste_ud[user], self.items.vector_id[item])
            + self.items.worth_i[item]
            + self.users.buying_mood_u[user]
        )
        return click, buy

    def _with_rates(self, rng: np.random.Generator, settings: Simulation) -> Self:
        """The market with the intercepts that give the settings' rates on a sample of the last day."""
        hours = pick(rng, HOURLY, (_CALIBRATION_EXPOSURES,))
        click, buy = self._logits(self.show(rng, settings.days - 1, hours))
        click_intercept = _solve(lambda b: float(_sigmoid(b + click).mean()), settings.click_rate)
        pctr = _sigmoid(click_intercept + click)
        # Clicks, each of an exposure with the chance that it is clicked, and the draw that made it one.
        clicked = pick(rng, pctr, (_CALIBRATION_CLICKS,))
        click_draw = pctr[clicked] * (1 - rng.random(_CALIBRATION_CLICKS))
        buy_draw = _correlated(rng, _quantile(click_draw), settings.confounding)
        buy_intercept = _solve(
            lambda b: float((buy_draw < _sigmoid(b + buy[clicked])).mean()), settings.purchase_rate
        )
        return dataclasses.replace(self, click_intercept=click_intercept, buy_intercept=buy_intercept)


def draw_outcomes(
    rng: np.random.Generator, pctr: Floats, pcvr: Floats, confounding: float
) -> tuple[Bools, Bools]:
    """Whether each exposure is clicked, and whether it would end in a purchase if it were.

    Two normal variables of correlation `confounding` decide, one each, whether their quantile is below the
    probability. So P(click) = pctr and P(purchase if clicked) = pcvr whatever the confounding, while
    P(purchase | click) is pcvr only where it is 0. (A Gaussian copula.)
    """
    normal = rng.standard_normal(pctr.shape)
    return _uniform(normal) < pctr, _correlated(rng, normal, confounding) < pcvr


def _correlated(rng: np.random.Generator, normal: Floats, correlation: float) -> Floats:
    """Uniform draws from normal ones that have that correlation with the given normal ones."""
    other = rng.standard_normal(normal.shape)
    return _uniform(correlation * normal + np.sqrt(1 - correlation**2) * other)


def _solve(rate: Callable[[float], float], target: float) -> float:
    """The intercept at which a rate that rises with it reaches the target: bisection."""
    low, high = -40.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) < target else (low, middle)
    return (low + high) / 2


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-logits))


# NumPy has neither the normal distribution's function nor its inverse.
_uniform = np.vectorize(NormalDist().cdf, otypes=[np.float64])
_quantile = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])
