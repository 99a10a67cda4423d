"""The simulated market."""

import datetime as dt

from pydantic import Field

from esmm.config.fields import Positive, Probability, Section


class Simulation(Section):
    """The simulated market; docs/simulator.md has the formulas."""

    directory: str
    """Where the logs go."""
    start: dt.date
    """The first day."""
    days: Positive = 10
    """Days of exposures."""
    users: Positive = 5_000
    """Users."""
    items: Positive = 2_000
    """Items."""
    exposures_per_day: Positive = 40_000
    """Exposures a day, duplicates aside."""
    click_rate: float = Field(default=0.10, gt=0, lt=1)
    """Clicks an exposure, about."""
    purchase_rate: float = Field(default=0.10, gt=0, lt=1)
    """Purchases a click, about."""
    selection: float = Field(default=1.0, ge=0)
    """How strongly the policy shows what the user likes to click; 0 shows at random. Not the bias between clicked rows
    and exposures: that is `agreement`."""
    agreement: float = Field(default=0.6, ge=-1, le=1)
    """Correlation of what a user likes to click and what it likes to buy: the strength of selection bias. At 0 clicked
    rows are bought as readily as any others would be; the higher it is, the more readily."""
    confounding: float = Field(default=0.0, ge=-1, le=1)
    """Correlation of click and purchase given the features: what no feature shows moves both."""
    cold_items: Probability = 0.0
    """Share of the items that come onto the market after the first day, each on a day drawn at random."""
    late_purchases: Probability = 0.0
    """Share of the purchases that come after the purchase window, within three times its length."""
    duplicates: Probability = 0.01
    """Share of the logs' rows that are there twice."""
    late_rows: Probability = 0.01
    """Share of the logs' rows that arrive a day late."""
    orphans: Probability = 0.005
    """Clicks that no exposure explains, as a share of the clicks, and purchases likewise."""
    candidates_per_user: Positive = 20
    """Items to score for each user, about."""
