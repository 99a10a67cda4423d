"""The funnel of each day's samples: what went in, what came out, and how much of it a model can see.

    measure(config, samples)     # {date(2026, 3, 24): {"samples": 50_123, "clicks": 4_981, "ctr": 0.0994, …}}

Lists are told by their mean length and the share that is empty, ids by the share that is absent: a broken join
or a log that stopped shows here before it shows in the model.
"""

import datetime as dt
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from rich.table import Table

from esmm import schema
from esmm.config import Config, IdFeature
from esmm.publish import Manifest

Funnels = dict[dt.date, dict[str, float]]
"""Day to name to count, rate or share."""


def measure(config: Config, samples: DataFrame) -> Funnels:
    """The funnel of each day of samples, as `esmm.schema` has them, with the day in `ds`."""
    figures: dict[str, Column] = {
        "samples": F.count("*").cast("double"),
        "clicks": F.sum(F.col("click").cast("double")),
        "purchases": F.sum(F.col("purchase").cast("double")),
        "ctr": F.sum(F.col("weight") * F.col("click")) / F.sum("weight"),
        "cvr": F.sum("purchase") / F.sum("click"),
    }
    weights_of = {name: schema.list_weight_column(name, list_) for name, list_ in config.lists.items()}
    weights_of |= {name: schema.bag_columns(name, bag)[1] for name, bag in config.bags.items()}
    for name, column in weights_of.items():
        weights = column.name
        length = F.size(F.call_function("array_remove", F.col(weights), F.lit(0.0).cast("float")))
        figures[f"{name}: mean length"] = F.avg(length)
        figures[f"{name}: empty"] = F.avg((length == 0).cast("double"))
    for name, feature in config.features.items():
        if isinstance(feature, IdFeature):
            figures[f"{name}: absent"] = F.avg((F.col(name) == schema.ABSENT).cast("double"))
    rows = samples.groupBy(schema.DAY).agg(*[value.alias(name) for name, value in figures.items()]).collect()
    return {
        dt.date.fromisoformat(str(row[schema.DAY])): {name: float(row[name] or 0.0) for name in figures}
        for row in rows
    }


def table(manifests: Sequence[Manifest], funnels: Funnels) -> Table:
    """The funnels of days that were built, a column a day; what is 0 on all of them is left out."""
    shown = Table(title="Funnel", title_justify="left")
    shown.add_column("")
    for manifest in manifests:
        shown.add_column(str(manifest.day) + (" (immature)" if manifest.immature else ""), justify="right")
    for name in dict.fromkeys(name for manifest in manifests for name in manifest.counts):
        counts = [manifest.counts.get(name, 0) for manifest in manifests]
        if any(counts):
            shown.add_row(name, *[f"{count:,}" for count in counts])
    shown.add_section()
    for name in funnels[manifests[0].day]:
        shares = [funnels[manifest.day][name] for manifest in manifests]
        if any(shares) and name not in ("samples", "clicks", "purchases"):
            shown.add_row(name, *[f"{share:.4f}" for share in shares])
    return shown
