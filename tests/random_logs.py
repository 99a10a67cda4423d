"""Random logs of a few days around a change of the clocks, and the config that reads them.

    shape = Shape(seed=1, users=200, exposures=1_000)
    logs = drawn(shape)                     # the same for the same shape
    config = config_of(shape, directory)
    write(config, logs, seed=2)             # in files and an order that the seed decides

Times lie on a grid of 15 minutes, now and then a microsecond off it, so that ties and windows' edges are
common; items are few and users unequal. There are duplicates, orphans, rows that cannot be used, versions of
items that begin at an event's very time, and rows that arrive late.
"""

import datetime as dt
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from esmm import config as configs
from esmm.config import Config, Log
from tests.brute_force import Event, Id, Logs, Version, local, start_of
from tests.conftest import ROOT

ZONE = ZoneInfo("Europe/Paris")
SPRING = [dt.date(2026, 3, 28) + dt.timedelta(days=n) for n in range(3)]  # the second has 23 hours
AUTUMN = [dt.date(2026, 10, 24) + dt.timedelta(days=n) for n in range(3)]  # the second has 25 hours
STEP = 15 * 60_000_000
DAY = 96 * STEP
HISTORY = 36
"""Days before the first one from which there are events too."""

LISTS = {
    "clicked": {"event": "click", "length": 3, "half_life": "6h", "look_back": "1d", "entities": ["item", "seller"]},
    "seen": {"event": "exposure", "length": 6, "half_life": "10m", "look_back": "5d", "entities": ["brand"]},
    "owned": {"event": "purchase", "length": 1, "half_life": "30d", "look_back": "35d", "entities": ["item"]},
}  # fmt: skip
STATISTICS = {
    "of_item": {"by": ["item"], "strength": 3.0},
    "of_brand": {"by": ["brand"], "days": [7], "strength": 20.0},
    "of_user": {"by": ["user"], "days": [1, 30], "strength": 0.5},
    "of_taste": {"by": ["user", "category"], "days": [30, 1], "strength": 5.0},
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """What a random log is like."""

    seed: int
    users: int = 200
    items: int = 12
    exposures: int = 1_200
    autumn: bool = False
    text_ids: bool = False
    named: float = 0.0
    """Share of the clicks and purchases that name an exposure, not always the right one; 0: no such column."""
    event_ids: bool = True
    """Whether clicks have ids of their own."""
    filed: bool = False
    """Whether logs are filed by day, some rows under a later one than their own."""
    cap: int | None = None
    cutoff: Literal["exposure", "day_start"] = "exposure"
    lists: tuple[str, ...] = ("clicked", "seen", "owned")
    statistics: tuple[str, ...] = ()
    keep_unclicked: float = 1.0

    @property
    def days(self) -> list[dt.date]:
        """The days to build."""
        return AUTUMN if self.autumn else SPRING


def config_of(shape: Shape, directory: Path) -> Config:
    """The demo's config on the shape's logs, everything below the directory."""
    values = yaml.safe_load((ROOT / "conf/demo.yaml").read_text().replace("build/demo", str(directory)))
    del values["evaluation"]["segments"]  # of features and lists that a shape may do without
    values["attribution"] = {"click_window": "30m", "purchase_window": "3h"}
    values["samples"] |= {
        "history_cutoff": shape.cutoff,
        "events_per_user_and_day": shape.cap,
        "keep_unclicked": shape.keep_unclicked,
        "rows_per_file": 500,
    }
    del values["features"]["subcategory"]
    values["lists"] = {name: LISTS[name] for name in shape.lists}
    values["statistics"] = {name: STATISTICS[name] for name in shape.statistics}
    values["features"]["weekday"] = {"kind": "id", "source": "clock.weekday", "embedding": "context"}
    values["training"]["ranks"] = 1
    logs = values["logs"]
    for name in ("exposures", "clicks", "purchases"):
        columns = {"time": "at", "event_id": "event"}
        if name != "exposures" and shape.named:
            columns["exposure_id"] = "shown"
        if name == "clicks" and not shape.event_ids:
            del columns["event_id"]
        logs[name] = {"path": f"{directory}/{name}", "columns": columns}
        if shape.filed:
            logs[name] |= {"day_column": "day", "lateness": "1d"}
    for name in ("items", "users"):
        logs[name]["columns"] = {"time": "since"}
    return configs.parse(values)


def drawn(shape: Shape) -> Logs:
    """The logs of a shape."""
    draw = _Draw(shape)
    logs = [
        [draw.filed(row) if shape.filed else row for row in draw.with_repetitions(rows)] + draw.unusable(rows)
        for rows in draw.events()
    ]
    return Logs(*logs, draw.items(logs[0] + logs[1]), draw.users())


class _Draw:
    """The parts of the logs, each drawn from where the last one left the random numbers."""

    def __init__(self, shape: Shape) -> None:
        self.shape, self.rng = shape, random.Random(shape.seed)
        self.start = start_of(shape.days[0], ZONE)
        self.steps = (start_of(shape.days[-1] + dt.timedelta(days=1), ZONE) - self.start) // STEP

    def identifier(self, prefix: str, number: int) -> Id:
        return f"{prefix}{number}" if self.shape.text_ids else number

    def event(self, prefix: str, number: int, user: int, item: int, near: int, steps: Sequence[int]) -> Event:
        """An event some steps after a time, or a microsecond beside."""
        at = near + self.rng.choice(steps) * STEP + self.rng.choice([0] * 8 + [-1, 1])
        ids = (self.identifier(*one) for one in ((prefix, number), ("u", user), ("i", item)))
        return Event(*ids, at, device=self.rng.choice(["phone", "tablet", ""]))

    def item(self, share: float, usual: int) -> int:
        """The usual item, or any with the probability `share`."""
        return self.rng.randrange(self.shape.items) if self.rng.random() < share else usual

    def events(self) -> tuple[list[Event], list[Event], list[Event]]:
        """Exposures, clicks and purchases, each in the order of time."""
        rng, exposures, clicks, purchases = self.rng, [], [], []
        causes = []
        for number in range(self.shape.exposures):
            # The square makes some users a hundred times as busy as others.
            user, item = int(rng.random() ** 2 * self.shape.users), rng.randrange(self.shape.items)
            span = range(-HISTORY * 96, 0) if rng.random() < 0.2 else range(-2 * 96, self.steps + 2)
            exposures.append(self.event("e", number, user, item, self.start, span))
            causes.append((exposures[-1], user, item))
        for number, (cause, user, item) in enumerate(rng.sample(causes, self.shape.exposures // 3)):
            item = self.item(0.2, item)
            click = self.event("c", number, user, item, cause.at, (-1, 0, 0, 1, 1, 2, 3))
            clicks.append(click._replace(exposure=self.named(cause, exposures)))
            if rng.random() < 0.6:
                item = self.item(0.1, item)
                purchase = self.event("p", number, user, item, click.at, (-1, 0, 1, 4, 11, 12, 13))
                purchases.append(purchase._replace(exposure=self.named(cause, exposures)))
        for rows in (exposures, clicks, purchases):
            rows.sort(key=lambda row: row.at)
        return exposures, clicks, purchases

    def named(self, cause: Event, exposures: list[Event]) -> Id:
        """What an event names as its exposure: nothing, the cause, one that does not exist, or anyone's."""
        if self.rng.random() >= self.shape.named:
            return self.rng.choice([None, ""]) if self.shape.text_ids else None
        wrong = [self.identifier("e", 9_999_999), self.rng.choice(exposures).id]
        return cause.id if self.rng.random() < 0.8 else self.rng.choice(wrong)

    def with_repetitions(self, rows: list[Event]) -> list[Event]:
        """Some rows twice, and some of these again a little later."""
        repeated = self.rng.sample(rows, len(rows) // 15)
        later = [row._replace(at=row.at + STEP * self.rng.choice([1, 2])) for row in repeated[::2]]
        return rows + repeated + later

    def unusable(self, rows: list[Event]) -> list[Event]:
        """Rows of one of the days that are broken in one way each."""
        row = rows[len(rows) * 3 // 4]
        row = row._replace(filed=local(row.at, ZONE).date() if self.shape.filed else None)
        broken = [row._replace(user=None), row._replace(item=None), row._replace(at=None)]
        broken += (
            [row._replace(user=""), row._replace(item="")]
            if self.shape.text_ids
            else [row._replace(user=-7), row._replace(item=-2)]
        )
        return [row for row in broken for _ in range(self.rng.randrange(1, 4))]

    def filed(self, row: Event) -> Event:
        """Under its own day or the next; now and then under one that it cannot belong to."""
        days = self.rng.choice([0] * 20 + [1] * 8 + [2, -1])
        return row._replace(filed=local(row.at, ZONE).date() + dt.timedelta(days=days))

    def items(self, events: list[Event]) -> list[Version]:
        """Items that change at an event's very time; one in ten is not there, two versions come twice."""
        rng, found, moments = self.rng, [], defaultdict(list)
        for event in events:
            if event.at is not None:
                moments[event.item].append(event.at)
        for number in range(self.shape.items):
            own = moments[self.identifier("i", number)]
            times = (
                {self.start - 50 * DAY, *rng.sample(own, min(4, len(own)))} if rng.random() < 0.9 else set()
            )
            for since in sorted(times):
                features = {
                    "seller_id": self.identifier("s", rng.randrange(5)),
                    "brand_id": rng.choice(
                        [
                            None,
                            "" if self.shape.text_ids else -3,
                            *(self.identifier("b", n) for n in range(3)),
                        ]
                    ),
                    "category": rng.choice(["shoes", "hats", "", None]),
                    "price": rng.choice([None, float(rng.randrange(100))]),
                }
                found.append(Version(self.identifier("i", number), since, features))
        return found + found[:2]

    def users(self) -> list[Version]:
        """Users that change on the second day; one in ten is not there."""
        return [
            Version(self.identifier("u", number), since, {"segment": self.rng.choice(["new", "old", None])})
            for number in range(self.shape.users)
            if self.rng.random() < 0.9
            for since in (self.start - 50 * DAY, self.start + DAY)
        ]


def write(config: Config, logs: Logs, seed: int = 0) -> None:
    """The logs as Parquet, their rows in an order and in files that the seed decides; what was there goes."""
    rng = random.Random(seed)
    id_type = pa.string() if isinstance(logs.exposures[0].id, str) else pa.int64()
    for name in ("exposures", "clicks", "purchases"):
        log, rows = getattr(config.logs, name), list(getattr(logs, name))
        rng.shuffle(rows)
        _clear(Path(log.source))
        folders: dict[dt.date | None, list[Event]] = defaultdict(list)
        for row in rows:
            folders[row.filed].append(row)
        for day, of_day in folders.items():
            folder = Path(log.source) / ("" if day is None else f"day={day}")
            _write_files(folder, of_day, rng, partial(_events, log, id_type))
    for name, key in (("items", "item_id"), ("users", "user_id")):
        folder, rows = Path(getattr(config.logs, name).source), list(getattr(logs, name))
        rng.shuffle(rows)
        _clear(folder)
        _write_files(folder, rows, rng, partial(_versions, key, id_type))


def _clear(folder: Path) -> None:
    for file in folder.rglob("*.parquet"):
        file.unlink()


def _write_files(
    folder: Path, rows: list[Any], rng: random.Random, table: Callable[[list[Any]], pa.Table]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cut = rng.randrange(len(rows) + 1)
    for number, part in enumerate(part for part in (rows[:cut], rows[cut:]) if part):
        pq.write_table(table(part), folder / f"part-{number}.parquet")


def _events(log: Log, id_type: pa.DataType, rows: list[Event]) -> pa.Table:
    columns = {
        "user_id": pa.array([row.user for row in rows], id_type),
        "item_id": pa.array([row.item for row in rows], id_type),
        "at": pa.array([row.at for row in rows], pa.timestamp("us", "UTC")),
        "device": pa.array([row.device for row in rows], pa.string()),
    }
    if "event_id" in log.columns:
        columns["event"] = pa.array([row.id for row in rows], id_type)
    if "exposure_id" in log.columns:
        columns["shown"] = pa.array([row.exposure for row in rows], id_type)
    return pa.table(columns)


def _versions(key: str, id_type: pa.DataType, rows: list[Version]) -> pa.Table:
    types = {"seller_id": id_type, "brand_id": id_type, "price": pa.float64()}
    columns = {
        key: pa.array([row.id for row in rows], id_type),
        "since": pa.array([row.since for row in rows], pa.timestamp("us", "UTC")),
    }
    for name in rows[0].features:
        columns[name] = pa.array([row.features[name] for row in rows], types.get(name, pa.string()))
    return pa.table(columns)
