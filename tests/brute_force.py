"""Samples made the slow way, from the contract's words alone: no Spark, no SQL, one event after the other.

An event is (id, user, item, time in microseconds); the first of the events with one id, by time and item, is
the one that counts.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple


class Event(NamedTuple):
    """What a log's row says."""

    id: int
    user: int
    item: int
    at: int


@dataclass
class Sample:
    """What the row of an exposure should hold."""

    exposure: Event
    click: int
    purchase: int
    history: list[Event]


def without_duplicates(events: list[Event]) -> list[Event]:
    """The first event of each id, by time and item."""
    kept: dict[tuple[int, int], Event] = {}
    for event in sorted(events, key=lambda event: (event.at, event.item)):
        kept.setdefault((event.user, event.id), event)
    return list(kept.values())


def samples(
    exposures: list[Event],
    clicks: list[Event],
    purchases: list[Event],
    *,
    click_window: int,
    purchase_window: int,
    length: int,
    look_back: int,
) -> dict[int, Sample]:
    """Exposure id to its sample, the history being the user's last clicks, most recent first."""
    exposures, clicks, purchases = map(without_duplicates, (exposures, clicks, purchases))
    clicked, bought = set(), set()
    exposure_of: dict[tuple[int, int], Event] = {}
    for click in clicks:
        before = [e for e in exposures if (e.user, e.item) == (click.user, click.item) and e.at <= click.at]
        if before:
            last = max(before, key=lambda e: (e.at, e.id))
            if click.at - last.at <= click_window:
                exposure_of[click.user, click.id] = last
                clicked.add(last.id)
    for purchase in purchases:
        before = [
            c
            for c in clicks
            if (c.user, c.item) == (purchase.user, purchase.item)
            and c.at <= purchase.at
            and (c.user, c.id) in exposure_of
        ]
        if before:
            last = max(before, key=lambda c: (c.at, c.id))
            if purchase.at - last.at <= purchase_window:
                bought.add(exposure_of[last.user, last.id].id)
    clicks_of = defaultdict(list)
    for click in clicks:
        clicks_of[click.user].append(click)
    result = {}
    for exposure in exposures:
        before = sorted(
            (c for c in clicks_of[exposure.user] if c.at < exposure.at),
            key=lambda c: (c.at, c.id),
            reverse=True,
        )
        history = [c for c in before[:length] if exposure.at - c.at <= look_back]
        result[exposure.id] = Sample(
            exposure, int(exposure.id in clicked), int(exposure.id in bought), history
        )
    return result
