"""What the model sees: embeddings, features, behaviour lists, statistics."""

from typing import Annotated, Literal

from pydantic import Field

from esmm.config.fields import Name, Positive, PositiveDuration, Section


class Embedding(Section):
    """An embedding table. Every feature and list that names it shares it."""

    rows: Positive
    """Rows of the table; ids are hashed into them."""
    dim: Positive
    """Floats a row."""


class IdFeature(Section):
    """A categorical feature: an id, embedded."""

    kind: Literal["id"]
    source: str
    """`exposures.COLUMN`, `items.COLUMN`, `users.COLUMN`, `clock.hour` or `clock.weekday`."""
    embedding: Name
    """The table that its ids look up."""
    at_scoring: int | str | None = None
    """The value that scoring uses for a feature of the exposure, which candidates lack."""


class NumberFeature(Section):
    """A numeric feature: one float, null read as 0."""

    kind: Literal["number"]
    source: str
    """As for an id."""
    transform: Literal["none", "log1p"] = "none"
    """Applied in the graph: the value itself, or sign(x) · log(1 + |x|)."""
    scale: float = Field(default=1.0, gt=0)
    """The transformed value is divided by this."""
    at_scoring: float | None = None
    """As for an id."""


Feature = Annotated[IdFeature | NumberFeature, Field(discriminator="kind")]


class BehaviourList(Section):
    """A user's last N events of one kind, most recent first, seen through the ids of their items."""

    event: Literal["exposure", "click", "purchase"]
    """The kind of event."""
    length: Positive
    """N: entries of the list; shorter histories are padded with id -1 and weight 0."""
    half_life: PositiveDuration
    """An entry weighs 2^(-age / half_life)."""
    look_back: PositiveDuration
    """Events older than this, seen from the exposure, do not count."""
    entities: tuple[Name, ...] = Field(min_length=1)
    """The item's id features that the list holds; each shares that feature's embedding table."""
    pooling: Literal["sum", "mean", "attention"] = "sum"
    """How the entries become one vector an entity: `esmm.layers.pooling` has the formulas."""
    boost: dict[Name, Annotated[float, Field(gt=0)]] = {}
    """By entity of the list: an entry that shares it with the candidate weighs this many times as much."""


class Statistic(Section):
    """Counts and rates known the day before: of an item, of a user, of a user and a brand.

    Makes a number feature of each of `{name}_exposures_{n}d`, `_clicks_`, `_purchases_` (log(1 + count)), `_ctr_`
    (clicks an exposure) and `_cvr_` (purchases a click), over the n days that end with the day before.
    """

    by: tuple[Name, ...] = Field(min_length=1)
    """Id features of the exposure's user or item: what the statistic is of."""
    days: tuple[Literal[1, 7, 30], ...] = (1, 7, 30)
    """How many days it looks back."""
    strength: float = Field(default=20.0, gt=0)
    """A rate is mixed with that of all, which counts like so many events."""
