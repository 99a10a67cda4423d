"""Small timelines for the statements' cases: events of one user, written as what happened when.

Every case gets a user of its own, so that one query answers all cases of a statement. Times are minutes.
"""

from dataclasses import dataclass

from pyspark.sql import SparkSession

MINUTE = 60_000_000
EXPOSURE, CLICK, PURCHASE = 0, 1, 2
EVENT_TYPE = (
    "kind int, event_id bigint, user_id bigint, item_id bigint, exposure_id bigint, event_at bigint, "
    "features struct<none: tinyint>"
)


@dataclass(frozen=True)
class Event:
    """One event: its kind, id, minute and item."""

    kind: int
    id: int
    minute: float
    item: int = 1
    exposure: int = -1
    """What the log itself says."""

    @property
    def at(self) -> int:
        """Microseconds."""
        return round(self.minute * MINUTE)


def shown(event_id: int, minute: float, item: int = 1, exposure: int = -1) -> Event:
    return Event(EXPOSURE, event_id, minute, item, exposure)


def clicked(event_id: int, minute: float, item: int = 1, exposure: int = -1) -> Event:
    return Event(CLICK, event_id, minute, item, exposure)


def bought(event_id: int, minute: float, item: int = 1, exposure: int = -1) -> Event:
    return Event(PURCHASE, event_id, minute, item, exposure)


def register_events(spark: SparkSession, timelines: list[list[Event]]) -> None:
    """The view `events`, one user a timeline, numbered from 1."""
    rows = [
        (event.kind, event.id, user, event.item, event.exposure, event.at, None)
        for user, timeline in enumerate(timelines, start=1)
        for event in timeline
    ]
    spark.createDataFrame(rows, EVENT_TYPE).createOrReplaceTempView("events")
