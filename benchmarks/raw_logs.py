"""Raw logs of a shop, to build samples from: exposures, clicks, purchases and items as Parquet files.

    logs = RawLogs(exposures=2_000_000, users=100_000)
    directory = logs.made_in(Path("build/bench/logs"))        # build/bench/logs/3f1c…, made once
    directory / "exposures/2026-03-02.parquet"                # exposure_id, user_id, item_id, shown_at

What real logs do to whoever reads them is in them: a few users and items with much of the traffic, pages whose
exposures share one time, items shown to a user again, clicks on the last of several showings, events that come after
their window has closed or that nothing explains, rows that are there twice. Nothing links a click to its exposure
but user, item and time. Nobody is simulated: what is clicked is drawn at random (`esmm.simulate` has a market).
"""

import dataclasses
import datetime as dt
import hashlib
import itertools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FIRST_DAY = dt.date(2026, 3, 2)
DAY_MS = 86_400_000

Events = dict[str, np.ndarray]
"""Columns of equal length: `user_id`, `item_id` and `at` (milliseconds since the first day's start)."""


@dataclass(frozen=True)
class RawLogs:
    """What the logs hold. Logs of equal parameters are equal to the byte."""

    exposures: int
    """Exposures, duplicates aside."""
    users: int
    """Users. One of rank k is shown in proportion to 1 / k^user_skew."""
    items: int = 200_000
    """Items, by rank likewise."""
    days: int = 8
    """Days, of UTC, on which something is shown."""
    user_skew: float = 0.7
    """Zipf's exponent of the users: of 100 thousand, the first has 1 % of the exposures, half have 11 or fewer."""
    item_skew: float = 1.0
    """Zipf's exponent of the items: of 200 thousand, the first has 8 % of the exposures."""
    page: float = 2.5
    """Exposures that are shown at one time, on average."""
    click_rate: float = 0.06
    """Clicks an exposure."""
    purchase_rate: float = 0.05
    """Purchases a click."""
    duplicates: float = 0.005
    """Share of the rows that are there twice."""
    orphans: float = 0.005
    """Clicks and purchases that nothing explains, as a share of the others."""
    seed: int = 1
    """Of the draws."""

    @property
    def dates(self) -> list[dt.date]:
        """The days, in order."""
        return [FIRST_DAY + dt.timedelta(days=day) for day in range(self.days)]

    @property
    def digest(self) -> str:
        """Names the logs: equal for equal parameters and an equal generator alone."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True) + Path(__file__).read_text()
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def made_in(self, parent: Path) -> Path:
        """The directory of these logs below `parent`; they are made where they are not there yet."""
        directory = parent / self.digest
        if not directory.exists():
            unfinished = parent / f"{self.digest}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            self.write(unfinished)
            unfinished.rename(directory)
        return directory

    def write(self, directory: Path) -> None:
        """Write one directory a log, one file a day in each."""
        random = np.random.default_rng(self.seed)
        exposures = self._exposures(random)
        # A click follows within a minute or so, one in 150 after half an hour; a purchase within hours.
        clicks = self._effects(random, exposures, self.click_rate, delay_ms=6 * 60_000)
        purchases = self._effects(random, clicks, self.purchase_rate, delay_ms=6 * 3_600_000)
        for log, event, at, events in (
            ("exposures", "exposure", "shown_at", exposures),
            ("clicks", "click", "clicked_at", clicks),
            ("purchases", "purchase", "bought_at", purchases),
        ):
            self._write_days(random, directory / log, event, at, events)
        _write(directory / "items/items.parquet", self._items(random))

    def _exposures(self, random: np.random.Generator) -> Events:
        """Pages of exposures; a page is of one user and one time, more of them in the evening."""
        users = _zipf(random, self.users, self.user_skew, max(1, round(self.exposures / self.page)))
        hours = 12 + 12 * np.sin((np.arange(24) - 13) * np.pi / 12) * 0.6
        hour = random.choice(
            24 * self.days, len(users), p=np.tile(hours / hours.sum(), self.days) / self.days
        )
        times = hour * 3_600_000 + random.integers(0, 3_600_000, len(users))
        pages = np.concatenate([np.arange(len(users)), random.integers(0, len(users), self.exposures)])
        pages = pages[: self.exposures]
        items = _zipf(random, self.items, self.item_skew, self.exposures)
        return {"user_id": users[pages], "item_id": items, "at": times[pages]}

    def _effects(self, random: np.random.Generator, causes: Events, rate: float, *, delay_ms: int) -> Events:
        """Clicks of exposures, or purchases of clicks: of each cause at most one, after an exponential delay."""
        chosen = random.random(len(causes["at"])) < rate
        delays = random.exponential(delay_ms, chosen.sum()).astype(np.int64)
        effects = {name: values[chosen] for name, values in causes.items()}
        effects["at"] = effects["at"] + delays
        unexplained = round(self.orphans * len(delays))
        return {
            "user_id": np.concatenate([effects["user_id"], random.integers(1, self.users + 1, unexplained)]),
            "item_id": np.concatenate([effects["item_id"], random.integers(1, self.items + 1, unexplained)]),
            "at": np.concatenate([effects["at"], random.integers(0, self.days * DAY_MS, unexplained)]),
        }

    def _write_days(
        self, random: np.random.Generator, directory: Path, event: str, at: str, events: Events
    ) -> None:
        """One file a day, in the order of the times, as a log is written."""
        rows = len(events["at"])
        # Ids say nothing of the order, so that ties in time are broken by something else than the rows' order.
        ids = random.permutation(rows) + 1
        rows_and_copies = np.concatenate(
            [np.arange(rows), random.integers(0, rows, round(self.duplicates * rows))]
        )
        order = rows_and_copies[np.argsort(events["at"][rows_and_copies], kind="stable")]
        times = events["at"][order]
        start = dt.datetime.combine(FIRST_DAY, dt.time(), dt.UTC)
        table = pa.table(
            {
                f"{event}_id": ids[order],
                "user_id": events["user_id"][order],
                "item_id": events["item_id"][order],
                at: pa.array(times * 1000 + int(start.timestamp()) * 1_000_000, pa.timestamp("us", tz="UTC")),
            }
        )
        ends = np.searchsorted(times, np.arange(0, times[-1] + DAY_MS + 1, DAY_MS))
        for day, (first, last) in enumerate(itertools.pairwise(ends)):
            _write(
                directory / f"{FIRST_DAY + dt.timedelta(days=day)}.parquet", table.slice(first, last - first)
            )

    def _items(self, random: np.random.Generator) -> pa.Table:
        """Every item with its seller, its brand and its two categories, the second within the first."""
        subcategory = _zipf(random, 1_000, 0.8, self.items)
        return pa.table(
            {
                "item_id": np.arange(1, self.items + 1),
                "seller_id": _zipf(random, 20_000, 0.8, self.items),
                "brand_id": _zipf(random, 10_000, 0.8, self.items),
                "category_1": subcategory % 24,
                "category_2": subcategory,
            }
        )


def _zipf(random: np.random.Generator, ids: int, exponent: float, rows: int) -> np.ndarray:
    """[rows] of ids from 1 to `ids`, int64: one of rank k as often as 1 / k^exponent, ranks in random order."""
    shares = np.cumsum(np.arange(1, ids + 1, dtype=float) ** -exponent)
    ranks = np.searchsorted(shares, random.random(rows) * shares[-1])
    return random.permutation(np.arange(1, ids + 1))[ranks]


def _write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
