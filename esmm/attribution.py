"""The attribution rules in NumPy: the labels that clean events give their exposures.

    exposures = Events(user=[7, 7], item=[3, 3], time=[0, 50])
    clicks    = Events(user=[7],    item=[3],    time=[60])
    purchases = Events(user=[7],    item=[3],    time=[95])
    labels(exposures, clicks, purchases, click_window=30, purchase_window=40)    # [0, 1], [0, 1]

The simulator's truth comes from here, the samples' labels from sql/04_credited_events.sql: two ways to the
same rules, so that each can be held against the other.
"""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_EXPOSURE, _CLICK, _PURCHASE = 0, 1, 2


class Events(NamedTuple):
    """Events of one kind: what happened to which user and item, and when. (n,) each, none negative."""

    user: Ints
    item: Ints
    time: Ints
    """In any unit, that of the windows."""

    @classmethod
    def none(cls) -> Self:
        """No events."""
        return cls(*np.empty((3, 0), np.int64))

    def joined(self, other: "Events") -> "Events":
        """These events, and then the others."""
        return Events(*(np.concatenate(columns) for columns in zip(self, other, strict=True)))

    def where(self, kept: Bools) -> "Events":
        """The events that a mask keeps."""
        return Events(*(column[kept] for column in self))


def labels(
    exposures: Events, clicks: Events, purchases: Events, *, click_window: int, purchase_window: int
) -> tuple[Bools, Bools]:
    """Whether each exposure was clicked, and whether it was bought after that: (exposures,) each.

    A click is credited to the last exposure of its user and item at or before it, at most click_window older;
    a purchase to the last credited click at or before it, at most purchase_window older.
    """
    kinds = (exposures, clicks, purchases)
    kind = np.repeat([_EXPOSURE, _CLICK, _PURCHASE], [len(events.time) for events in kinds])
    user, item, time = exposures.joined(clicks).joined(purchases)
    # Of one time the cause comes first, so that a delay of 0 counts.
    order = np.lexsort((kind, time, item, user))
    user, item, time, kind = user[order], item[order], time[order], kind[order]
    place = np.arange(len(order))
    is_new_pair = (np.diff(user, prepend=-1) != 0) | (np.diff(item, prepend=-1) != 0)
    pair_start = np.maximum.accumulate(np.where(is_new_pair, place, 0))

    def last(marked: Bools) -> Ints:
        """The place of the last marked event of the same pair, up to each event; -1 where there is none."""
        found = np.maximum.accumulate(np.where(marked, place, -1))
        return np.where(found >= pair_start, found, -1)

    exposure = last(kind == _EXPOSURE)
    credited = (kind == _CLICK) & (exposure >= 0) & (time - time[exposure] <= click_window)
    click = last(credited)
    bought = (kind == _PURCHASE) & (click >= 0) & (time - time[click] <= purchase_window)
    clicked_exposures, bought_exposures = np.zeros((2, len(exposures.time)), dtype=bool)
    # Exposures were put first: their place before the sort is their place among the exposures.
    clicked_exposures[order[exposure[credited]]] = True
    bought_exposures[order[exposure[click[bought]]]] = True
    return clicked_exposures, bought_exposures
