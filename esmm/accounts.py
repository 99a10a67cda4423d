"""What became of every row of the logs, by day: in is out and what was dropped, by reason.

counts = counted(spark, config, period)
counts[day]["clicks read"]          # = "clicks credited" + "clicks orphan" + "clicks duplicate" + …
"""

import datetime as dt
import math
from collections import Counter
from collections.abc import Mapping

from pyspark.sql import SparkSession

from esmm import funnel, statements
from esmm.config import Config
from esmm.days import Period
from esmm.errors import DataError

ENTITIES = ("items ", "users ")
"""How fates begin that are of no event."""

Counts = dict[dt.date, Counter[str]]
"""Day to what happened to the rows of its logs, such as `clicks credited`."""


def counted(spark: SparkSession, config: Config, period: Period) -> Counts:
    """What happened to the logs' rows, by day."""
    arguments = {
        "time_zone": config.time_zone,
        "first_day": str(period.days[0]),
        "last_day": str(period.days[-1]),
    }
    if config.samples.events_per_user_and_day is None:
        spark.table("credited_events").createOrReplaceTempView("unique_events")
    statements.run(spark, "10_rejects", arguments).createOrReplaceTempView("rejects")
    found: Counts = {day: Counter() for day in period.days}
    for row in statements.run(spark, "09_counts", arguments).collect():
        found[dt.date.fromisoformat(row["ds"])][f"{row['log']} {row['fate']}"] = row["events"]
    return {day: _drops(of_day) for day, of_day in found.items()}


def _drops(found: Counter[str]) -> Counter[str]:
    """What was read of each log of events, and what became of it: the rows of all other fates add up to it.

    Of items and users, what was dropped alone: most of their rows are of no day.
    """
    counts: Counter[str] = Counter()
    for name in ("exposures", "clicks", "purchases"):
        stages = ["usable", "unique", "kept", "credited"]
        usable, unique, kept, credited = (found[f"{name} {stage}"] for stage in stages)
        reasons = {fate: rows for fate, rows in found.items() if fate.startswith(f"{name} ")}
        rejected = {fate: rows for fate, rows in reasons.items() if fate.partition(" ")[2] not in stages}
        counts[f"{name} read"] = usable + sum(rejected.values())
        counts.update(rejected)
        counts[f"{name} duplicate"] = usable - unique
        counts[f"{name} over the cap"] = unique - kept
        counts[f"{name} orphan"] = kept - credited
        counts[f"{name} credited"] = credited
    counts.update({fate: rows for fate, rows in found.items() if fate.startswith(ENTITIES)})
    return counts


def rejected(of_day: Counter[str]) -> int:
    """The rows of a day that could not be used: what was read and met no other fate."""
    others = ("duplicate", "over the cap", "orphan", "credited")
    of_events = sum(
        of_day[f"{name} read"] - sum(of_day[f"{name} {fate}"] for fate in others)
        for name in ("exposures", "clicks", "purchases")
    )
    of_entities = {fate: rows for fate, rows in of_day.items() if fate.startswith(ENTITIES)}
    return of_events + sum(rows for fate, rows in of_entities.items() if not fate.endswith(" duplicate"))


def negative(counts: Counts) -> dict[dt.date, DataError]:
    """The days on which more rows came out of a stage than went in: a statement has doubled some."""
    failures = {}
    for day, of_day in counts.items():
        if below := {fate: rows for fate, rows in of_day.items() if rows < 0}:
            found = ", ".join(f"{rows} {fate}" for fate, rows in below.items())
            expected = "no more rows out of a stage than into it"
            failures[day] = DataError(f"counts of {day}", expected=expected, found=found)
    return failures


def without_exposures(counts: Counts) -> dict[dt.date, DataError]:
    """The days that have no exposure, and so no sample."""
    return {
        day: DataError("logs.exposures", expected=f"exposures on {day}", found="none")
        for day, of_day in counts.items()
        if not of_day["exposures credited"]
    }


def not_reconciled(
    counts: Counts, funnels: funnel.Funnels, wanted: Mapping[dt.date, int], keep_unclicked: float
) -> dict[dt.date, DataError]:
    """The days whose samples are not the credited exposures; the others' counts get what became of them."""
    failures: dict[dt.date, DataError] = {}
    for day, credited in wanted.items():
        of_day, found = counts[day], funnels.get(day, {})
        rows = int(found.get("samples", 0))
        if not rows:
            failures[day] = DataError(f"samples of {day}", expected="at least one row",
                                      found=f"none of {credited} exposures kept")  # fmt: skip
            continue
        if rows > credited or (keep_unclicked == 1.0 and rows < credited):
            failures[day] = DataError(f"samples of {day}", expected=f"{credited} rows", found=f"{rows}")
            continue
        of_day["exposures left out by sampling"] = credited - rows
        of_day["samples"] = rows
        of_day["clicked"], of_day["bought"] = int(found["clicks"]), int(found["purchases"])
    return failures


def fewest(exposures: int, keep_unclicked: float) -> int:
    """The rows that sampling leaves of some exposures at least, but for chances of one in ten thousands."""
    kept = keep_unclicked * exposures
    return exposures if keep_unclicked == 1.0 else max(1, int(kept - 4 * math.sqrt(kept)))
