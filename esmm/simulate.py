"""Simulated logs with known probabilities, one day after the other, from a seed.

    written = simulate(config)       # rows: {"items": 2_000, "exposures": 454_402, …, "truth": 450_000}

    DIRECTORY/exposures/day=2026-03-24/part-0.parquet    exposure_id, user_id, item_id, shown_at, device
    DIRECTORY/clicks/day=…                               click_id, user_id, item_id, clicked_at
    DIRECTORY/purchases/day=…                            purchase_id, user_id, item_id, bought_at
    DIRECTORY/truth/day=…                                exposure_id, pctr, pcvr, purchase_if_clicked, click, purchase
    DIRECTORY/{items,users,candidates}/part-0.parquet

The logs are filed by the day on which a row arrives (days of the config's time zone), which for a late row is
a day after its event; they hold some rows twice, some orphans, and are in no order. The truth holds every
exposure once, by its own day. What is in memory at a time is a day's rows, and of earlier days the few rows
that arrive later and the times of the events that labels still depend on. `esmm.market`
has the formulas.
"""

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esmm.attribution import Bools, Events, Ints, labels
from esmm.config import Config, Simulation, required
from esmm.directories import replaced
from esmm.errors import ConfigError
from esmm.market import HOURLY, Market, draw_outcomes
from esmm.population import DEVICES

CLICK_DELAY = (20e6, 1.6)
"""Median (microseconds) and shape of the log-logistic time from exposure to click."""
PURCHASE_DELAY = (40 * 60e6, 1.2)
"""The same from click to purchase: a fifth comes more than two hours later."""
LATEST_PURCHASE = 3
"""Late purchases come within this many purchase windows."""
UNKNOWN = 0.005
"""Share of the candidates whose user, or whose item, is in no other table."""

_COLUMNS = {
    "exposures": ("exposure_id", "shown_at"),
    "clicks": ("click_id", "clicked_at"),
    "purchases": ("purchase_id", "bought_at"),
}
_SLOT = 15 * 60 * 1_000_000
_MICROSECOND = dt.timedelta(microseconds=1)


def simulate(config: Config) -> dict[str, int]:
    """Write the logs that config.simulation describes, in place of any earlier ones; the rows of each table.

    Raises ConfigError where the config has no such section, DataError where the directory holds other things.
    """
    settings = config.simulation
    if settings is None:
        raise ConfigError("simulation", expected="a section that describes the market", found="none")
    market = Market.draw(settings, config.seed)
    with replaced(settings.directory) as directory:
        files = _Files(directory, settings.start)
        rng = np.random.default_rng([config.seed % 2**64, 2])
        files.write("items", market.items.table())
        files.write("users", market.users.table())
        files.write("candidates", _candidates(rng, settings))
        days = _Days(config, settings, market, files)
        for day in range(settings.days):
            days.simulate(day)
        days.finish()
    return files.rows


class _Files:
    """The tables' files; rows of a log wait here for the day on which they arrive."""

    def __init__(self, directory: Path, first_day: dt.date) -> None:
        self.directory, self.first_day = directory, first_day
        self.rows: dict[str, int] = {}
        """Table to rows written."""
        self._waiting: dict[str, list[tuple[pa.Table, Ints]]] = {}
        """Log to rows, each with the day of its arrival."""

    def date(self, day: int) -> dt.date:
        """The date of a day, which is counted from 0."""
        return self.first_day + dt.timedelta(days=day)

    def write(self, name: str, table: pa.Table, day: int | None = None) -> None:
        """Write a table's only file, or that of one day."""
        directory = self.directory / name / ("" if day is None else f"day={self.date(day)}")
        directory.mkdir(parents=True)
        pq.write_table(table, directory / "part-0.parquet")
        self.rows[name] = self.rows.get(name, 0) + table.num_rows

    def add(self, name: str, table: pa.Table, arrival: Ints) -> None:
        """Rows of a log and the day on which each arrives: one that `write_arrived` has not written yet."""
        self._waiting.setdefault(name, []).append((table, arrival))

    def write_arrived(self, until: int | None = None) -> None:
        """Write the logs' rows that arrive up to a day, by default all of them; earlier days are written."""
        for name, waiting in self._waiting.items():
            table = pa.concat_tables([rows for rows, _ in waiting])
            arrival = np.concatenate([days for _, days in waiting])
            last = max(arrival, default=0) if until is None else until
            for day in np.unique(arrival[arrival <= last]):
                self.write(name, table.filter(arrival == day), int(day))
            self._waiting[name] = [(table.filter(arrival > last), arrival[arrival > last])]


class _Days:
    """The market's days, and what of them the following days still need."""

    def __init__(self, config: Config, settings: Simulation, market: Market, files: _Files) -> None:
        self.settings, self.market, self.files = settings, market, files
        self.seed, self.zone = config.seed, ZoneInfo(config.time_zone)
        windows = required(config.attribution, "attribution")
        self.click_window = windows.click_window // _MICROSECOND
        self.purchase_window = windows.purchase_window // _MICROSECOND
        # Up to the last exposure's latest purchase, a late row, and the end of that day.
        last = settings.days + (windows.click_window + LATEST_PURCHASE * windows.purchase_window).days + 3
        self.starts = np.array([_start_of(files.date(day), self.zone) for day in range(last + 1)])
        self.exposures, self.clicks, self.purchases = Events.none(), Events.none(), Events.none()
        """Clean events that labels still depend on."""
        self.unlabelled: list[tuple[int, pa.Table]] = []
        """Days, and their truth without labels, in the order of their exposures above."""

    def simulate(self, day: int) -> None:
        """Draw a day's exposures and what comes of them, and write what cannot change any more."""
        rng = np.random.default_rng([self.seed % 2**64, 1, day])
        shown_at, hours = self._times(rng, day, self.settings.exposures_per_day)
        shown = self.market.show(rng, day, hours)
        pctr, pcvr = self.market.probabilities(shown)
        clicked, would_buy = draw_outcomes(rng, pctr, pcvr, self.settings.confounding)

        exposures = Events(shown.user, shown.item, shown_at)
        clicks = exposures.where(clicked)
        clicks = clicks._replace(time=clicks.time + _delays(rng, CLICK_DELAY, self.click_window, clicks))
        purchases = clicks.where(would_buy[clicked])
        purchases = purchases._replace(time=purchases.time + self._purchase_delays(rng, purchases))
        clicks = clicks.joined(self._orphans(rng, day, clicks))
        purchases = purchases.joined(self._orphans(rng, day, purchases))

        device = pa.DictionaryArray.from_arrays(shown.device, DEVICES).cast(pa.string())
        ids = self._log(rng, day, "exposures", exposures, device=device)
        self._log(rng, day, "clicks", clicks)
        self._log(rng, day, "purchases", purchases)
        self.files.write_arrived(day)

        truth = {"exposure_id": ids, "pctr": pctr, "pcvr": pcvr, "purchase_if_clicked": _flags(would_buy)}
        self.unlabelled.append((day, pa.table(truth)))
        self.exposures = self.exposures.joined(exposures)
        self.clicks = self.clicks.joined(clicks)
        self.purchases = self.purchases.joined(purchases)
        self._write_truth(known_until=self.starts[day + 1])

    def finish(self) -> None:
        """Write what the last days are still owed."""
        self.files.write_arrived()
        self._write_truth(known_until=np.iinfo(np.int64).max)

    def _times(self, rng: np.random.Generator, day: int, n: int) -> tuple[Ints, Ints]:
        """Times of n events of a day, busier at some hours of the local clock than at others; and the hours."""
        start, end = self.starts[day], self.starts[day + 1]
        slots = np.arange(start, end, _SLOT)  # of the day as it is, be it of 23 or 25 hours
        lengths = np.diff(slots, append=end)
        hours = np.array([dt.datetime.fromtimestamp(slot // 1_000_000, self.zone).hour for slot in slots])
        weights = HOURLY[hours] * lengths
        slot = rng.choice(len(slots), size=n, p=weights / weights.sum())
        return slots[slot] + (rng.random(n) * lengths[slot]).astype(np.int64), hours[slot]

    def _purchase_delays(self, rng: np.random.Generator, clicks: Events) -> Ints:
        """Times from click to purchase, all within the window but for the late ones."""
        delays = _delays(rng, PURCHASE_DELAY, self.purchase_window, clicks)
        late = rng.random(len(delays)) < self.settings.late_purchases
        beyond = rng.uniform(1, LATEST_PURCHASE, size=len(delays)) * self.purchase_window
        return np.where(late, np.ceil(beyond).astype(np.int64), delays)

    def _orphans(self, rng: np.random.Generator, day: int, events: Events) -> Events:
        """Events out of nowhere: any user, any item, any time of the day."""
        n = rng.binomial(len(events.time), self.settings.orphans)
        users, items = rng.integers(self.settings.users, size=n), rng.integers(self.settings.items, size=n)
        return Events(users, items, self._times(rng, day, n)[0])

    def _log(
        self, rng: np.random.Generator, day: int, name: str, events: Events, **columns: pa.Array
    ) -> pa.Array:
        """Log the events of a day with all that goes wrong in logs; their ids, in the order of the events."""
        n, (id_name, time_name) = len(events.time), _COLUMNS[name]
        ids = pc.binary_join_element_wise(
            f"{name[0]}{self.files.date(day):%Y%m%d}", pa.array(np.arange(n)).cast("string"), "-"
        )
        rows = pa.table(
            {
                id_name: ids,
                "user_id": events.user + 1,
                "item_id": events.item + 1,
                time_name: pa.array(events.time).cast(pa.timestamp("us", tz="UTC")),
                **columns,
            }
        )
        again = np.flatnonzero(rng.random(n) < self.settings.duplicates)
        order = rng.permutation(np.concatenate([np.arange(n), again]))
        arrival = np.searchsorted(self.starts, events.time[order], side="right") - 1
        arrival += rng.random(len(order)) < self.settings.late_rows
        self.files.add(name, rows.take(order), arrival)
        return ids

    def _write_truth(self, known_until: int) -> None:
        """Write the truth of the days whose labels nothing from known_until on can change; forget the rest."""
        windows = self.click_window + self.purchase_window
        while self.unlabelled and self.starts[self.unlabelled[0][0] + 1] + windows <= known_until:
            day, truth = self.unlabelled.pop(0)
            click, purchase = labels(
                self.exposures, self.clicks, self.purchases,
                click_window=self.click_window, purchase_window=self.purchase_window,
            )  # fmt: skip
            end = self.starts[day + 1]
            of_day = (self.exposures.time >= self.starts[day]) & (self.exposures.time < end)
            truth = truth.append_column("click", _flags(click[of_day]))
            truth = truth.append_column("purchase", _flags(purchase[of_day]))
            self.files.write("truth", truth, day)
            # What came before the day's end can only be credited to exposures before it.
            self.exposures, self.clicks, self.purchases = (
                events.where(events.time >= end) for events in (self.exposures, self.clicks, self.purchases)
            )


def _candidates(rng: np.random.Generator, settings: Simulation) -> pa.Table:
    """Pairs to score: some items for every user, a few of them items or users that nobody knows."""
    users = np.repeat(np.arange(settings.users), settings.candidates_per_user)
    pairs = np.stack([users, rng.integers(settings.items, size=len(users))], axis=1)
    pairs[rng.random(pairs.shape) < UNKNOWN] += max(settings.users, settings.items)
    user_id, item_id = np.unique(pairs, axis=0).T + 1
    return pa.table({"user_id": user_id, "item_id": item_id})


def _delays(rng: np.random.Generator, law: tuple[float, float], longest: int, events: Events) -> Ints:
    """One log-logistic time for each event, of a given median and shape, cut off at the longest: microseconds.

    P(delay <= t) is proportional to odds / (1 + odds) with odds = (t / median)^shape, for t up to the longest.
    """
    median, shape = law
    odds = (longest / median) ** shape
    share = rng.random(len(events.time)) * (odds / (1 + odds))
    return (median * (share / (1 - share)) ** (1 / shape)).astype(np.int64)


def _flags(values: Bools) -> pa.Array:
    return pa.array(values).cast(pa.int8())


def _start_of(date: dt.date, zone: ZoneInfo) -> int:
    """Microseconds since 1970-01-01 UTC at which a day begins."""
    return int(dt.datetime.combine(date, dt.time(), zone).timestamp()) * 1_000_000
