"""Samples made the slow way, from the contract's words alone: no Spark, no SQL, one event after the other.

    rows, counts = samples(config, logs, days)
    rows[7]["clicked_item"]                            # [4, 3, -1, -1, -1]
    counts[date(2026, 3, 28)]["clicks orphan"]         # 12

Where the contract leaves something open, this is what is taken: an item's or user's features are those of the
version that held when the row's lists end (the exposure, or its day's start); an entry of a list, and an event
of a statistic, sees its item as it was at the event's own time; look-back and age run back from where the
lists end; "within" is at most, for both windows and for the look-back.
"""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable
from math import log1p
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from esmm.config import BehaviourList, Config, IdFeature, Log, Statistic
from tests.xxhash import xxhash64

Id = int | str | None
Day = dt.date
Row = dict[str, Any]

EXPOSURES, CLICKS, PURCHASES = "exposures", "clicks", "purchases"
LOG_OF = {"exposure": EXPOSURES, "click": CLICKS, "purchase": PURCHASES}
MICROSECOND = dt.timedelta(microseconds=1)
SMALLEST_WEIGHT = 2.0**-126
"""float32's smallest normal number: a real entry weighs more than padding."""


class Event(NamedTuple):
    """What a log's row says; in clean events, all ids are those of the contract."""

    id: Id
    user: Id
    item: Id
    at: int | None
    """Microseconds since 1970-01-01 UTC."""
    exposure: Id = None
    """The exposure that a click or purchase names."""
    device: Id = "phone"
    filed: Day | None = None
    """The day that the row is filed under, where the log has a day_column."""


class Version(NamedTuple):
    """What an item or a user is from a time on."""

    id: Id
    since: int
    features: dict[str, Any]
    """By the log's own column."""


class Logs(NamedTuple):
    """All inputs."""

    exposures: list[Event]
    clicks: list[Event]
    purchases: list[Event]
    items: list[Version]
    users: list[Version]


def contract_id(value: Id) -> int:
    """int64, never negative but for -1, which means absent."""
    if value is None or value == "":
        return -1
    return xxhash64(value.encode()) & (2**63 - 1) if isinstance(value, str) else value


def micros(duration: dt.timedelta) -> int:
    return duration // MICROSECOND


def start_of(day: Day, zone: ZoneInfo) -> int:
    return micros(dt.datetime.combine(day, dt.time(), zone) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC))


def local(at: int, zone: ZoneInfo) -> dt.datetime:
    return (dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + at * MICROSECOND).astimezone(zone)


def day_of(event: Event, zone: ZoneInfo) -> Day:
    return local(event.at, zone).date()


def samples(config: Config, logs: Logs, days: list[Day]) -> tuple[dict[int, Row], dict[Day, Counter[str]]]:
    """Exposure id to its row, by column; and what happened to the logs' rows of each day, by log and fate.

    All exposures are kept: samples.keep_unclicked is not looked at.
    """
    zone = ZoneInfo(config.time_zone)
    counts: dict[Day, Counter[str]] = {day: Counter() for day in days}
    events: dict[str, list[Event]] = {}
    for log in (EXPOSURES, CLICKS, PURCHASES):
        usable = cleaned(getattr(config.logs, log), getattr(logs, log), log, zone, counts)
        unique = without_duplicates(usable)
        events[log] = under_the_cap(unique, config.samples.events_per_user_and_day, zone)
        read, left, kept = (
            Counter(day_of(event, zone) for event in rows) for rows in (usable, unique, events[log])
        )
        for day, of_day in counts.items():
            of_day[f"{log} read"] += read[day]
            of_day[f"{log} duplicate"] += read[day] - left[day]
            of_day[f"{log} over the cap"] += left[day] - kept[day]

    for log in ("items", "users"):
        versions = [(contract_id(version.id), version.since) for version in getattr(logs, log)]
        counts[min(days)][f"{log} duplicate"] = len(versions) - len(set(versions))
    credited = credited_exposures(
        events, micros(config.attribution.click_window), micros(config.attribution.purchase_window)
    )
    for log, rows in events.items():
        for event in rows:
            if (day := day_of(event, zone)) in counts:
                fate = "credited" if (log, event.user, event.id) in credited else "orphan"
                counts[day][f"{log} {fate}"] += 1
    clicked, bought = (
        {(user, exposure.id) for (log, user, _), exposure in credited.items() if log == wanted}
        for wanted in (CLICKS, PURCHASES)
    )
    describe, samples_of = Describer(config, logs, events, zone), {}
    for exposure in events[EXPOSURES]:
        if (day := day_of(exposure, zone)) in counts:
            click, purchase = ((exposure.user, exposure.id) in labelled for labelled in (clicked, bought))
            labels = {"click": int(click), "purchase": int(purchase)}
            samples_of[exposure.id] = describe(exposure) | labels
            counts[day].update({"samples": 1, "clicked": int(click), "bought": int(purchase)})
    return samples_of, counts


def cleaned(
    log: Log, rows: list[Event], name: str, zone: ZoneInfo, counts: dict[Day, Counter[str]]
) -> list[Event]:
    """The rows that can be used, under the contract's ids; the others are counted, with the reason."""
    usable = []
    for row in rows:
        user, item = contract_id(row.user), contract_id(row.item)
        named, event = contract_id(row.exposure), contract_id(row.id)
        if "event_id" not in log.columns and row.at is not None:
            event = xxhash64(*(value.to_bytes(8, "little", signed=True) for value in (user, item, row.at)))
            event &= 2**63 - 1
        reason = None
        for what, value in (("user", user), ("item", item), ("event", event)):
            if value < 0:
                reason = f"no {what}" if value == -1 else f"negative {what}"
        if row.at is None:
            reason = "no time"
        elif row.filed is not None:
            late = start_of(row.filed, zone) - micros(log.lateness)
            if not late <= row.at < start_of(row.filed + dt.timedelta(days=1), zone):
                reason = "time outside its day"
        if reason is None:
            usable.append(Event(event, user, item, row.at, named, row.device))
            continue
        # Of a row without a day or time it is known only that a run for these days met it.
        day = row.filed or (min(counts) if row.at is None else day_of(row, zone))
        if day in counts:
            counts[day].update((f"{name} {reason}", f"{name} read"))
    return usable


def without_duplicates(events: list[Event]) -> list[Event]:
    """The first event of each user and id, by time (of one time, those that name an exposure), item and exposure."""
    kept: dict[tuple[Id, Id], Event] = {}
    for event in sorted(
        events, key=lambda event: (event.at, event.exposure == -1, event.item, event.exposure)
    ):
        kept.setdefault((event.user, event.id), event)
    return list(kept.values())


def under_the_cap(events: list[Event], most: int | None, zone: ZoneInfo) -> list[Event]:
    """The first `most` events of each user's day."""
    if most is None:
        return events
    kept, seen = [], Counter[tuple[Id, Day]]()
    for event in sorted(events, key=lambda event: (event.at, event.id)):
        key = event.user, day_of(event, zone)
        seen[key] += 1
        if seen[key] <= most:
            kept.append(event)
    return kept


def by_user(events: Iterable[Event]) -> dict[Id, list[Event]]:
    grouped = defaultdict(list)
    for event in events:
        grouped[event.user].append(event)
    return grouped


def labels(
    exposures: list[Event],
    clicks: list[Event],
    purchases: list[Event],
    *,
    click_window: int,
    purchase_window: int,
) -> tuple[list[bool], list[bool]]:
    """Whether each exposure is clicked, and whether it is bought, no event naming one; windows in microseconds."""
    logs = {EXPOSURES: exposures, CLICKS: clicks, PURCHASES: purchases}
    unnamed = {name: [event._replace(exposure=-1) for event in events] for name, events in logs.items()}
    credited = credited_exposures(unnamed, click_window, purchase_window)
    found = {name: {cause.id for (log, _, _), cause in credited.items() if log == name} for name in logs}
    return (
        [exposure.id in found[CLICKS] for exposure in exposures],
        [exposure.id in found[PURCHASES] for exposure in exposures],
    )


def credited_exposures(
    events: dict[str, list[Event]], click_window: int, purchase_window: int
) -> dict[tuple[str, Id, Id], Event]:
    """(log, user, event id) to the exposure that the event is credited to; an exposure's is itself."""
    credited = {(EXPOSURES, event.user, event.id): event for event in events[EXPOSURES]}
    exposures_of = by_user(events[EXPOSURES])
    for click in events[CLICKS]:
        causes = [
            cause
            for cause in exposures_of[click.user]
            if cause.at <= click.at
            and (cause.item == click.item if click.exposure == -1 else cause.id == click.exposure)
        ]
        last = max(causes, key=lambda cause: (cause.at, cause.id), default=None)
        if last is not None and click.at - last.at <= click_window:
            credited[CLICKS, click.user, click.id] = last
    clicks_of = by_user(click for click in events[CLICKS] if (CLICKS, click.user, click.id) in credited)
    for purchase in events[PURCHASES]:
        causes = [
            cause
            for cause in clicks_of[purchase.user]
            if cause.at <= purchase.at
            and (
                cause.item == purchase.item
                if purchase.exposure == -1
                else credited[CLICKS, cause.user, cause.id].id == purchase.exposure
            )
        ]
        last = max(causes, key=lambda cause: (cause.at, cause.id), default=None)
        if last is not None and purchase.at - last.at <= purchase_window:
            credited[PURCHASES, purchase.user, purchase.id] = credited[CLICKS, last.user, last.id]
    return credited


class Describer:
    """A function of an exposure that gives all of its row but the labels."""

    def __init__(self, config: Config, logs: Logs, events: dict[str, list[Event]], zone: ZoneInfo) -> None:
        self.config, self.zone = config, zone
        self.versions: dict[str, dict[int, list[Version]]] = {}
        for log in ("items", "users"):
            known = self.versions[log] = defaultdict(list)
            for version in sorted(getattr(logs, log), key=lambda version: version.since):
                known[contract_id(version.id)].append(version)
        self.history = {kind: by_user(events[log]) for kind, log in LOG_OF.items()}
        self.of_all: dict[Day, Counter[str]] = defaultdict(Counter)
        self.of_key: dict[Any, Counter[str]] = defaultdict(Counter)
        for log, rows in events.items():
            for event in rows:
                day = day_of(event, zone)
                self.of_all[day][log] += 1
                for name, rule in config.statistics.items():
                    self.of_key[name, self.key(rule, event, event.at), day][log] += 1

    def __call__(self, exposure: Event) -> Row:
        day = day_of(exposure, self.zone)
        nightly = self.config.samples.history_cutoff == "day_start"
        until = start_of(day, self.zone) if nightly else exposure.at
        row: Row = {
            "exposure_id": exposure.id, "user_id": exposure.user, "item_id": exposure.item,
            "exposed_at": exposure.at, "weight": 1.0, "ds": day,
        }  # fmt: skip
        row |= {name: self.feature(name, exposure, until) for name in self.config.features}
        for name, rule in self.config.statistics.items():
            row |= self.figures(name, rule, self.key(rule, exposure, until), day)
        for name, behaviour in self.config.lists.items():
            row |= self.behaviour(name, behaviour, exposure.user, until)
        return row

    def feature(self, name: str, event: Event, at: int) -> Any:
        """A feature of the event's row, its item and user as they were at a time."""
        feature = self.config.features[name]
        log, _, column = feature.source.partition(".")
        if column in ("user_id", "item_id"):
            return event.user if column == "user_id" else event.item
        if log == "clock":
            clock = local(event.at, self.zone)
            return clock.hour if column == "hour" else clock.weekday()
        if log == "exposures":
            value = event.device
        else:
            known = self.versions[log][event.item if log == "items" else event.user]
            held = [version for version in known if version.since <= at]
            value = held[-1].features[column] if held else None
        # A log's ids below 0 are names for what is not known.
        return max(-1, contract_id(value)) if isinstance(feature, IdFeature) else float(value or 0.0)

    def behaviour(self, name: str, rule: BehaviourList, user: Id, until: int) -> Row:
        """The list of a user's last events before a time."""
        before = sorted(
            (e for e in self.history[rule.event][user] if e.at < until), key=lambda e: (e.at, e.id)
        )
        last = before[::-1][: rule.length]
        entries = [entry for entry in last if until - entry.at <= micros(rule.look_back)]
        padding = rule.length - len(entries)
        row: Row = {
            f"{name}_{entity}": [self.feature(entity, entry, entry.at) for entry in entries] + [-1] * padding
            for entity in rule.entities
        }
        ages = [(until - entry.at) / micros(rule.half_life) for entry in entries]
        row[f"{name}_weight"] = [max(2.0**-age, SMALLEST_WEIGHT) for age in ages] + [0.0] * padding
        return row

    def key(self, rule: Statistic, event: Event, at: int) -> tuple[Any, ...]:
        return tuple(self.feature(name, event, at) for name in rule.by)

    def figures(self, name: str, rule: Statistic, key: tuple[Any, ...], today: Day) -> Row:
        """What is known of a key the day before."""
        row = {}
        for days in rule.days:
            back = [today - dt.timedelta(days=ago) for ago in range(1, days + 1)]
            e, c, p = (sum(self.of_key[name, key, day][log] for day in back) for log in LOG_OF.values())
            all_e, all_c, all_p = (sum(self.of_all[day][log] for day in back) for log in LOG_OF.values())
            values = {"exposures": log1p(e), "clicks": log1p(c), "purchases": log1p(p)}
            values["ctr"] = (c + rule.strength * (all_c / all_e if all_e else 0)) / (e + rule.strength)
            values["cvr"] = (p + rule.strength * (all_p / all_c if all_c else 0)) / (c + rule.strength)
            row |= {f"{name}_{figure}_{days}d": value for figure, value in values.items()}
        return row
