"""What is learnt from the samples before training (`esmm.fitting`), and the file that a run keeps it in.

    fitted = Fitted(
        vocabularies={"item": np.array([7, 9, 4121])},            # int64, ascending: the ids that have a row
        moments={"price": Moments(mean=3.1, deviation=0.8)},      # of the transformed value
        boundaries={"price_band": np.array([4.5, 12.0])},         # float32, ascending: where buckets begin
    )
    save(root, run, fitted)
    load(root, run)                                               # the same; None for another run

Layers take it as it is: nothing here knows TensorFlow.
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import structlog

from esmm import storage
from esmm.files import erase, read_whole, write_atomically

_FILE = "fitted.npz"

log = structlog.get_logger()


class Moments(NamedTuple):
    """Of a number, by the samples' weight."""

    mean: float
    deviation: float
    """Above 0; 1 where the number never differs."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """All that is learnt, by the name of what it belongs to."""

    vocabularies: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Table to the ids that have a row of their own: int64, at least 0, ascending."""
    moments: Mapping[str, Moments] = field(default_factory=dict)
    """Column to what it is standardised by, after its transform."""
    boundaries: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Feature to where its buckets begin: float32, ascending; of `quantiles` alone."""

    def summary(self) -> dict[str, Any]:
        """The same for a person and in JSON; of a vocabulary, its size."""
        return {
            "vocabularies": {name: len(ids) for name, ids in self.vocabularies.items()},
            "moments": {name: moments._asdict() for name, moments in self.moments.items()},
            "boundaries": {name: boundaries.tolist() for name, boundaries in self.boundaries.items()},
        }


NOTHING = Fitted()
"""For configs that ask for nothing that is learnt."""


def save(root: str, run: str, fitted: Fitted) -> None:
    """Keep what a run has learnt beside its checkpoints, in place of what an earlier run has."""
    arrays = {
        **{f"vocabularies/{name}": ids for name, ids in fitted.vocabularies.items()},
        **{f"moments/{name}": np.array(moments) for name, moments in fitted.moments.items()},
        **{f"boundaries/{name}": boundaries for name, boundaries in fitted.boundaries.items()},
    }
    data = io.BytesIO()
    np.savez(data, run=np.array(run), **arrays)
    fs, path = storage.at(root)
    write_atomically(fs, f"{path}/{_FILE}", data.getvalue())


def load(root: str, run: str) -> Fitted | None:
    """What a run has learnt before it broke off; None where that is not there, is damaged or another run's."""
    fs, path = storage.at(root)
    found: dict[str, dict[str, np.ndarray]] = {"vocabularies": {}, "moments": {}, "boundaries": {}}
    try:
        with np.load(io.BytesIO(read_whole(fs, f"{path}/{_FILE}")), allow_pickle=False) as arrays:
            if str(arrays["run"]) != run:
                return None
            for key in arrays.files:
                kind, _, name = key.partition("/")
                if name:
                    found[kind][name] = arrays[key]
    except FileNotFoundError:
        return None
    except (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        log.warning("fitted values passed over", file=f"{root}/{_FILE}", error=str(error))
        return None
    moments = {name: Moments(*pair.tolist()) for name, pair in found["moments"].items()}
    return Fitted(found["vocabularies"], moments, found["boundaries"])


def forget(root: str) -> None:
    """Remove what is kept there, if anything is."""
    fs, path = storage.at(root)
    erase(fs, f"{path}/{_FILE}")
