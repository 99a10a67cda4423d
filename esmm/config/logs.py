"""The inputs, and what is made of them: logs, attribution, samples."""

import datetime as dt
import re
from typing import Literal, Self

import pydantic
from pydantic import Field

from esmm.config.fields import Duration, Positive, Section, TableName, TimeZone

_ZONE = re.compile("[VzOXxZ]")


def _unquoted(pattern: str) -> str:
    """A pattern of times without what it takes literally."""
    return re.sub(r"'[^']*'", "", pattern)


class Log(Section):
    """One input: files or a table of the catalog, and which of its columns play which role."""

    path: str | None = None
    """File, directory or glob of files, gzipped or not."""
    table: str | None = None
    """A table of the catalog, in place of a path."""
    format: Literal["parquet", "csv", "json"] = "parquet"
    """How the files are written: Parquet, CSV with a header, or a JSON object a line."""
    types: dict[str, str] = {}
    """Column to Spark type, for CSV and JSON, where a column is otherwise a string. JSON has the columns that are in
    ten files spread evenly over all of them, those that are given a type here, and what else the config uses and any
    file has: to tell takes reading the files, which a type here saves."""
    columns: dict[str, str] = {}
    """Role to column: `user_id`, `item_id`, `time`; `event_id` where events carry an id of their own, and
    `exposure_id` where a click or purchase carries that of its exposure. A role that is not named is looked
    for under its own name."""
    time_unit: Literal["timestamp", "seconds", "milliseconds", "text"] = "timestamp"
    """What the time column holds: timestamps, seconds or milliseconds since 1970-01-01 UTC, or text."""
    time_pattern: str = "yyyy-MM-dd HH:mm:ss"
    """How a time in text is written, in Spark's letters. One that names its zone or offset names it in every row."""
    time_zone: TimeZone | None = None
    """The zone of times that do not say it: text without an offset, timestamps without a zone. By default
    the config's."""
    day_column: str | None = None
    """The column that the files or the table are partitioned by: the day a row arrived. Only the days that
    matter are read."""
    lateness: Duration = dt.timedelta(days=1)
    """How much later than its event a row may arrive and still be read, where there is a day_column."""

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.table is None):
            raise ValueError("either a path or a table")
        return self

    @pydantic.field_validator("time_pattern")
    @classmethod
    def _zone_in_every_row(cls, pattern: str) -> str:
        letters = _unquoted(pattern)
        zones = [match.start() for match in _ZONE.finditer(letters)]
        if zones and all(letters.count("[", 0, at) > letters.count("]", 0, at) for at in zones):
            # Of a row that leaves it out no one could tell whether its time is of UTC or of `time_zone`.
            raise ValueError("a zone or offset (one of VzOXxZ) that is not optional, in [ ]")
        return pattern

    @property
    def times_say_their_zone(self) -> bool:
        """Whether times in text name their own zone or offset, so that `time_zone` says nothing of them."""
        return _ZONE.search(_unquoted(self.time_pattern)) is not None

    @property
    def source(self) -> str:
        """Where it is: the path or the table's name."""
        return self.path or self.table or ""


class Logs(Section):
    """The inputs. Their columns other than the roles' can feed features."""

    exposures: Log
    """What was shown: `event_id`, `user_id`, `item_id`, `time`."""
    clicks: Log
    """What was clicked: `user_id`, `item_id`, `time`."""
    purchases: Log
    """What was bought: `user_id`, `item_id`, `time`."""
    items: Log
    """One row an item: `item_id`."""
    users: Log | None = None
    """One row a user: `user_id`. Needed only by features that come from it."""


class Attribution(Section):
    """Which event labels which exposure."""

    click_window: Duration
    """A click is credited to the last exposure of its user and item that is at most this much older."""
    purchase_window: Duration
    """A purchase is credited to the last credited click that is at most this much older."""


class Samples(Section):
    """The table of samples, one row an exposure, one partition a day."""

    table: str
    """The table's directory. Rows that cannot be used go to a table beside it, in TABLE_rejects."""
    catalog: TableName | None = None
    """The table of the Hive metastore, DATABASE.TABLE, whose partitions say which files count: rows go to
    `table` all the same. Without it, files in the directory say so, and no metastore is needed."""
    rows_per_file: Positive = 65_536
    """Rows of a file, about."""
    rows_per_group: Positive = 16_384
    """Rows of a row group, which is what a reader takes at a time; a day has at least as many row groups as there
    are ranks, whatever this says."""
    history_cutoff: Literal["exposure", "day_start"] = "exposure"
    """Whether a list runs up to the exposure, or stops at the start of its day as a nightly table's does."""
    events_per_user_and_day: Positive | None = None
    """The most events of a kind that count of one user's day, the earliest; a bot's others are dropped."""
    keep_unclicked: float = Field(default=1.0, gt=0, le=1)
    """Share of the unclicked exposures that is kept, each weighing its inverse. Days that are evaluated
    should be built with all of them: `build_samples --all-exposures`."""
