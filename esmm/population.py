"""Who and what a simulated market consists of: users and items, their features and their latent tastes.

    rng = np.random.default_rng(7)
    users, items = Users.draw(rng, settings), Items.draw(rng, settings)
    affinity(users.click_taste_ud[5], items.vector_id[9])      # 0.83: standard deviations of liking

What users like is a matter of an item's category, subcategory, brand and seller above all, so that what they
clicked before tells what they will like of things they have not seen.

The last letters of a name are its shape: u users, i items, d dimensions of taste.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from esmm.attribution import Floats, Ints
from esmm.config import Simulation

TASTE_DIMENSIONS = 8
CATEGORIES, SUBCATEGORIES, SEGMENTS = 20, 5, 8
"""Categories, subcategories of each, and segments of users."""
ITEMS_PER_SELLER, ITEMS_PER_BRAND = 20, 25
"""On average; their sizes follow Zipf's law."""
ITEM_SHARES = {"category": 0.40, "subcategory": 0.25, "brand": 0.10, "seller": 0.10, "own": 0.15}
USER_SHARES = {"segment": 0.35, "own": 0.65}
"""Where the variance of a vector comes from."""
APPEAL, CLICKINESS, TRUST, BUYING_MOOD, PRICE = 0.4, 0.4, 0.3, 0.4, 0.4
"""Standard deviations in logits: an item's pull and a user's readiness to click; a seller's standing, a
user's readiness to buy and the price's effect on buying."""
DEARNESS_BETWEEN = 0.7
"""Of the variance of the logarithm of prices, what lies between categories."""
ACTIVITY = 1.1
"""Standard deviation of the logarithm of a user's activity."""
POPULARITY_EXPONENT = 0.7
"""How often an item gets among the choices falls with its rank to this power."""
DEVICES = ("phone", "desktop", "tablet")
DEVICE_SHARES = (0.65, 0.25, 0.10)


@dataclass(frozen=True)
class Users:
    """The users, in the order of their indices."""

    activity_u: Floats
    """How many exposures a user gets, relative to the others."""
    segment_u: Ints
    device_u: Ints
    """Index into DEVICES of the user's own."""
    click_taste_ud: Floats
    buy_taste_ud: Floats
    clickiness_u: Floats
    buying_mood_u: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator, settings: Simulation) -> Self:
        """Users whose tastes for clicking and for buying have the correlation `agreement`."""
        n = settings.users
        segment = rng.integers(SEGMENTS, size=n)
        click_taste = _mixed(rng, n, USER_SHARES, {"segment": segment})
        other_taste = _mixed(rng, n, USER_SHARES, {"segment": segment})
        agreement = settings.agreement
        return cls(
            activity_u=np.exp(ACTIVITY * rng.standard_normal(n)),
            segment_u=segment,
            device_u=pick(rng, np.array(DEVICE_SHARES), (n,)),
            click_taste_ud=click_taste,
            buy_taste_ud=agreement * click_taste + np.sqrt(1 - agreement**2) * other_taste,
            clickiness_u=CLICKINESS * rng.standard_normal(n),
            buying_mood_u=BUYING_MOOD * rng.standard_normal(n),
        )

    def table(self) -> pa.Table:
        """What the logs know of the users; an id is an index plus 1."""
        segments = [f"segment-{n}" for n in self.segment_u]
        return pa.table({"user_id": np.arange(len(segments)) + 1, "segment": segments})


@dataclass(frozen=True)
class Items:
    """The items, in the order of their indices."""

    popularity_i: Floats
    """How often an item is among the choices, relative to the others."""
    first_day_i: Ints
    """The day, from 0, on which an item comes onto the market."""
    category_i: Ints
    subcategory_i: Ints
    """From 0 within the category."""
    seller_i: Ints
    brand_i: Ints
    price_i: Floats
    vector_id: Floats
    appeal_i: Floats
    worth_i: Floats
    """What the item's seller and price add to the logit of buying."""

    @classmethod
    def draw(cls, rng: np.random.Generator, settings: Simulation) -> Self:
        """Items whose vectors come from their groups, of which a few sellers and brands are large."""
        n = settings.items
        category, subcategory = rng.integers(CATEGORIES, size=n), rng.integers(SUBCATEGORIES, size=n)
        sellers, brands = max(2, n // ITEMS_PER_SELLER), max(2, n // ITEMS_PER_BRAND)
        seller = pick(rng, 1.0 / np.arange(1, sellers + 1), (n,))
        brand = pick(rng, 1.0 / np.arange(1, brands + 1), (n,))
        kinds = category * SUBCATEGORIES + subcategory
        groups = {"category": category, "subcategory": kinds, "seller": seller, "brand": brand}
        between, within = np.sqrt(DEARNESS_BETWEEN), np.sqrt(1 - DEARNESS_BETWEEN)
        dearness = between * rng.standard_normal(CATEGORIES)[category] + within * rng.standard_normal(n)
        trust = TRUST * rng.standard_normal(sellers)
        is_late = rng.permutation(n) < int(settings.cold_items * n)  # never all of them
        return cls(
            popularity_i=rng.permutation(np.arange(1.0, n + 1) ** -POPULARITY_EXPONENT),
            first_day_i=np.where(is_late, rng.integers(1, max(2, settings.days), size=n), 0),
            category_i=category,
            subcategory_i=subcategory,
            seller_i=seller,
            brand_i=brand,
            price_i=np.round(20 * np.exp(dearness), 2),
            vector_id=_mixed(rng, n, ITEM_SHARES, groups),
            appeal_i=APPEAL * rng.standard_normal(n),
            worth_i=trust[seller] - PRICE * dearness,
        )

    def table(self) -> pa.Table:
        """What the logs know of the items; an id is an index plus 1."""
        kinds = zip(self.category_i, self.subcategory_i, strict=True)
        return pa.table(
            {
                "item_id": np.arange(len(self.price_i)) + 1,
                "seller_id": self.seller_i + 1,
                "brand_id": self.brand_i + 1,
                "category": [f"category-{n}" for n in self.category_i],
                "subcategory": [f"category-{n}-{m}" for n, m in kinds],
                "price": self.price_i,
            }
        )


def affinity(taste: Floats, vectors: Floats) -> Floats:
    """(..., d) and (..., d) to (...): inner products, scaled to variance 1 over users and items."""
    return np.einsum("...d,...d->...", taste, vectors) / np.sqrt(TASTE_DIMENSIONS)


def pick(rng: np.random.Generator, weights: Floats, shape: tuple[int, ...]) -> Ints:
    """Indices, each drawn in proportion to its weight."""
    cumulated = np.cumsum(weights)
    picked = np.searchsorted(cumulated[:-1], rng.random(shape) * cumulated[-1], side="right")
    return picked.astype(np.int64)


def _mixed(rng: np.random.Generator, n: int, shares: dict[str, float], groups: dict[str, Ints]) -> Floats:
    """(n, d) vectors of variance 1: a centre for each group of each kind, and a part of their own."""
    vectors = np.sqrt(shares["own"]) * rng.standard_normal((n, TASTE_DIMENSIONS))
    for kind, group in groups.items():
        centres = rng.standard_normal((group.max() + 1, TASTE_DIMENSIONS))
        vectors += np.sqrt(shares[kind]) * centres[group]
    return vectors
