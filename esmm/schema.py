"""The columns of a sample, derived from the config: the one place they are named.

Spark's, Arrow's and TensorFlow's view of a sample all come from here, so that what the SQL writes, what
training reads and what the exported model takes cannot differ. With the feature `seller` and the list
`clicked` of 20 sellers:

    exposure_id user_id item_id exposed_at click purchase weight seller clicked_seller  clicked_weight
    int64       int64   int64   int64      int8  int8     float32 int64 int64 × 20      float32 × 20

Ids are never null and never below -1, which means absent; a list is most recent first, a bag heaviest first, and
both are padded with id -1 and weight 0; times are microseconds since 1970-01-01 UTC.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

import pyarrow as pa

from esmm.config import (
    Bag,
    BehaviourList,
    Config,
    CrossFeature,
    IdFeature,
    NumberFeature,
    SourcedFeature,
    Statistic,
)
from esmm.errors import ConfigError

ABSENT = -1
"""The id of something that is not there: it pools to zero and gets no gradient."""

DAY = "ds"
"""The partition column of every table: the day, as YYYY-MM-DD."""


USER_OF_ROW = "user_of_row"
"""Beside columns of which some have one value a user: the place of each row's user among these."""


class Role(Enum):
    """What a column is for."""

    KEY = "key"
    LABEL = "label"
    WEIGHT = "weight"
    FEATURE = "feature"


@dataclass(frozen=True)
class Column:
    """One column of a sample: a scalar, or a list of exactly `length` entries."""

    name: str
    type: Literal["int8", "int64", "float32"]
    role: Role
    length: int | None = None

    @property
    def arrow(self) -> pa.Field:
        """The column as Arrow reads it."""
        scalar = pa.type_for_alias(self.type)
        return pa.field(self.name, scalar if self.length is None else pa.list_(scalar))

    @property
    def spark(self) -> str:
        """The column's type in Spark SQL."""
        scalar = {"int8": "tinyint", "int64": "bigint", "float32": "float"}[self.type]
        return scalar if self.length is None else f"array<{scalar}>"


KEYS = (
    Column("exposure_id", "int64", Role.KEY),
    Column("user_id", "int64", Role.KEY),
    Column("item_id", "int64", Role.KEY),
    Column("exposed_at", "int64", Role.KEY),
)
LABELS = (Column("click", "int8", Role.LABEL), Column("purchase", "int8", Role.LABEL))
WEIGHT = Column("weight", "float32", Role.WEIGHT)

PREDICTIONS = ("pctr", "pcvr", "pctcvr")
"""What a model gives: P(click | shown), P(purchase | clicked, shown) and P(click and purchase | shown)."""


def list_column(name: str, behaviour: BehaviourList, entity: str) -> Column:
    """The ids of one entity in the list called `name`."""
    return Column(f"{name}_{entity}", "int64", Role.FEATURE, behaviour.length)


def list_weight_column(name: str, behaviour: BehaviourList) -> Column:
    """The recency weights of the list called `name`: in (0, 1) for an entry, 0 for padding."""
    return Column(f"{name}_weight", "float32", Role.FEATURE, behaviour.length)


def bag_columns(name: str, bag: Bag) -> tuple[Column, Column]:
    """The ids of the bag called `name`, and their weights: finite and above 0 for an entry, 0 for padding."""
    ids = Column(name, "int64", Role.FEATURE, bag.length)
    return ids, Column(f"{name}_weight", "float32", Role.FEATURE, bag.length)


STATISTICS = ("exposures", "clicks", "purchases", "ctr", "cvr")
"""What is known of a key over some days: log(1 + count) of the events, and smoothed rates."""


def statistic_column(name: str, figure: str, days: int) -> Column:
    """One number of the statistic called `name`, over `days` days."""
    return Column(f"{name}_{figure}_{days}d", "float32", Role.FEATURE)


def statistic_columns(config: Config) -> tuple[Column, ...]:
    """The numbers of the config's statistics, in order: by statistic, then by days, then as in STATISTICS."""
    return tuple(
        column for name, statistic in config.statistics.items() for column in _columns_of(name, statistic)
    )


def _columns_of(name: str, statistic: Statistic) -> list[Column]:
    return [statistic_column(name, figure, days) for days in statistic.days for figure in STATISTICS]


def number_features(config: Config) -> dict[str, NumberFeature]:
    """The numeric features by column: the config's own, and each number of its statistics."""
    own = {name: feature for name, feature in config.features.items() if isinstance(feature, NumberFeature)}
    made = {
        column.name: NumberFeature(
            kind="number", source=f"statistics.{column.name}", standardise=statistic.standardise
        )
        for name, statistic in config.statistics.items()
        for column in _columns_of(name, statistic)
    }
    return own | made


def sourced_features(config: Config) -> dict[str, SourcedFeature]:
    """The features that have a column of their own, in the config's order: all but crosses, which are of others'."""
    return {
        name: feature for name, feature in config.features.items() if not isinstance(feature, CrossFeature)
    }


def tables_of(config: Config) -> dict[str, str]:
    """The table that each embedded feature, list of ids and bag looks up, by its name, in the config's order.

    The names are those of columns, but for crosses, which the graph makes, and buckets, whose columns are numbers.
    """
    tables = {
        name: feature.embedding
        for name, feature in config.features.items()
        if not isinstance(feature, NumberFeature)
    }
    for name, behaviour in config.lists.items():
        tables |= {list_column(name, behaviour, entity).name: tables[entity] for entity in behaviour.entities}
    return tables | {bag_columns(name, bag)[0].name: bag.embedding for name, bag in config.bags.items()}


def feature_columns(config: Config) -> tuple[Column, ...]:
    """What the model takes: the config's features, the statistics, each list's and each bag's ids and weights."""
    columns = [
        Column(name, "int64" if isinstance(feature, IdFeature) else "float32", Role.FEATURE)
        for name, feature in sourced_features(config).items()
    ]
    columns += statistic_columns(config)
    for name, behaviour in config.lists.items():
        columns += [list_column(name, behaviour, entity) for entity in behaviour.entities]
        columns.append(list_weight_column(name, behaviour))
    for name, bag in config.bags.items():
        columns += bag_columns(name, bag)
    return tuple(columns)


def user_features(config: Config) -> frozenset[str]:
    """The features, crosses too, that depend on the user alone: its id, and what its own log says."""
    own = {
        name
        for name, feature in sourced_features(config).items()
        if feature.source == "exposures.user_id" or feature.log == "users"
    }
    crosses = {
        name
        for name, feature in config.features.items()
        if isinstance(feature, CrossFeature) and own.issuperset(feature.of)
    }
    return frozenset(own | crosses)


def user_statistics(config: Config) -> dict[str, Statistic]:
    """The statistics that are of the user alone."""
    own = user_features(config)
    return {name: statistic for name, statistic in config.statistics.items() if own.issuperset(statistic.by)}


def user_columns(config: Config) -> tuple[Column, ...]:
    """Of `feature_columns`, those that are the same in all candidates of a user: its features, statistics and lists.

    The clock is the request's, and what bags are of only those know who bring the samples: these are the rows' own.
    """
    own = set(user_features(config))
    for name, statistic in user_statistics(config).items():
        own |= {column.name for column in _columns_of(name, statistic)}
    for name, behaviour in config.lists.items():
        own |= {list_column(name, behaviour, entity).name for entity in behaviour.entities}
        own.add(list_weight_column(name, behaviour).name)
    return tuple(column for column in feature_columns(config) if column.name in own)


def row_columns(config: Config) -> tuple[Column, ...]:
    """Of `feature_columns`, those that `user_columns` leaves."""
    of_user = user_columns(config)
    return tuple(column for column in feature_columns(config) if column not in of_user)


def sample_columns(config: Config) -> tuple[Column, ...]:
    """All columns of a sample, in the order in which they are written; raises ConfigError on equal names."""
    columns = (*KEYS, *LABELS, WEIGHT, *feature_columns(config))
    names = [column.name for column in columns] + [DAY, USER_OF_ROW]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                "features, lists, bags", expected="columns of different names", found=f"'{name}' twice"
            )
    return columns


def training_columns(config: Config) -> tuple[Column, ...]:
    """The columns that training reads: what the model takes and what it is fitted to."""
    return (*LABELS, WEIGHT, *feature_columns(config))


def arrow_schema(config: Config) -> pa.Schema:
    """The samples' schema as Arrow reads it."""
    return pa.schema([column.arrow for column in sample_columns(config)])
