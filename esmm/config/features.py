"""What the model sees: embeddings, features, behaviour lists, bags, statistics. docs/features.md shows them at work."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from esmm.config.fields import Name, Positive, PositiveDuration, Section


def _increasing(boundaries: tuple[float, ...]) -> tuple[float, ...]:
    if not all(one < other for one, other in pairwise(boundaries)):
        raise ValueError("numbers that increase")
    return boundaries


Boundaries = Annotated[tuple[float, ...], Field(min_length=1), AfterValidator(_increasing)]


class Vocabulary(Section):
    """The ids that a table has a row for, learnt from the training samples; all others share one row."""

    min_count: Positive
    """How often an id has to be there: in all columns of the table, candidates' and lists', each entry counts. Where
    more ids are than the table has rows for, the most frequent get one, of equals the smaller id."""


class Embedding(Section):
    """An embedding table. Every feature and list that names it shares it."""

    rows: Positive
    """Rows of the table; ids are hashed into them. Of a table with a vocabulary, the most that it gets."""
    dim: Positive
    """Floats a row."""
    vocabulary: Vocabulary | None = None
    """Gives frequent ids rows of their own, in place of hashing."""
    held: Literal["dense", "sparse", "sharded"] | None = None
    """How ranks hold the table, see docs/scaling.md: all of it, its gradients exchanged whole or by the rows in use, or
    each its part. By default part of it each where it is above `training.shard_above_gib`, else all of it, and its
    gradients so that the fewer bytes are sent."""


class _Sourced(Section):
    """What the samples have a column of: a column of a log."""

    source: str
    """`exposures.COLUMN`, `items.COLUMN`, `users.COLUMN`, `clock.hour` or `clock.weekday`; without logs
    `samples.FIELD`, in the words of whatever brings the samples."""

    @property
    def log(self) -> str:
        """What comes before the dot."""
        return self.source.partition(".")[0]

    @property
    def column(self) -> str:
        """What comes behind it."""
        return self.source.partition(".")[2]


class IdFeature(_Sourced):
    """A categorical feature: an id, embedded."""

    kind: Literal["id"]
    embedding: Name
    """The table that its ids look up."""
    at_scoring: int | str | None = None
    """The value that scoring uses for a feature of the exposure, which candidates lack."""


class NumberFeature(_Sourced):
    """A numeric feature: one float, null read as 0."""

    kind: Literal["number"]
    transform: Literal["none", "log1p"] = "none"
    """Applied in the graph: the value itself, or sign(x) · log(1 + |x|)."""
    standardise: bool = False
    """Whether the transformed value, less its mean, is divided by its deviation, both by the training samples' weight;
    a value that never differs becomes 0."""
    scale: float = Field(default=1.0, gt=0)
    """What comes out is divided by this."""
    at_scoring: float | None = None
    """As for an id."""


class BucketFeature(_Sourced):
    """A numeric feature, cut into buckets that have a row each; null is read as 0, and 0 is in none."""

    kind: Literal["bucket"]
    embedding: Name
    """The table whose rows are the buckets, from the lowest on; for buckets alone."""
    boundaries: Boundaries | None = None
    """Where buckets begin: B of them make B + 1 buckets, and a value that is a boundary is in the upper one."""
    quantiles: Annotated[int, Field(ge=2)] | None = None
    """In place of `boundaries`: how many buckets, of equal weight in the training samples, as far as equal values
    allow it."""
    at_scoring: float | None = None
    """As for an id."""


class CrossFeature(Section):
    """Id features as one: each combination of theirs is an id, absent where one of them is."""

    kind: Literal["cross"]
    of: tuple[Name, ...] = Field(min_length=2)
    """The id features."""
    embedding: Name
    """The table that combinations are hashed into; one without a vocabulary."""


SourcedFeature = IdFeature | NumberFeature | BucketFeature
"""A feature that the samples have a column of."""

Feature = Annotated[SourcedFeature | CrossFeature, Field(discriminator="kind")]


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


class Bag(_Sourced):
    """Some ids with a weight each, such as all categories that a user has looked at, which come with the samples."""

    embedding: Name
    """The table that its ids look up; their rows are summed by weight."""
    length: Positive
    """The most ids that it holds: those that weigh most, the heaviest first."""


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
    standardise: bool = False
    """As for a number: all of its columns."""
