"""Metrics by segment against the same rows grouped by pandas, and how a segment's values are called."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from sklearn.metrics import roc_auc_score

from esmm import config as configs
from esmm import segments
from esmm.config import Config
from esmm.errors import ConfigError
from esmm.evaluation import evaluate
from esmm.metrics import CoarseMetrics, Metrics, Result
from esmm.segments import BySegment

DAY = dt.date(2026, 4, 1)
DEVICES = ["phone", "tablet", "desktop", ""]
HASH = "case when device = '' then -1 else xxhash64(device) & 9223372036854775807 end as device"


@pytest.fixture
def config(values: dict[str, Any]) -> Config:
    """Items are many, devices have names, and clicked is a list of five."""
    values["evaluation"] |= {"segments": ["hour", "device", "item", "clicked"], "truth": None}
    return configs.parse(values)


def drawn(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    hour, liking = rng.integers(0, 24, rows), rng.normal(size=rows)
    pctr, pcvr = (1 / (1 + np.exp(-(liking + rng.normal(size=rows) + shift))) for shift in (-1, 0))
    click = rng.random(rows) < 1 / (1 + np.exp(-(liking - 1 + hour / 24)))
    entries = rng.integers(0, 6, rows)
    return pd.DataFrame(
        {
            "exposure_id": np.arange(rows),
            "user_id": rng.integers(0, 50, rows),
            "item_id": 1,
            "click": click.astype("i1"),
            "purchase": (click & (rng.random(rows) < 0.4)).astype("i1"),
            "weight": rng.choice([0.0, 1.0, 2.0], rows).astype("f4"),
            "pctr": pctr.astype("f4"),
            "pcvr": pcvr.astype("f4"),
            "pctcvr": (pctr * pcvr).astype("f4"),
            "hour": hour,
            "device": rng.choice(DEVICES, rows, p=[0.5, 0.2, 0.2, 0.1]),
            "item": np.minimum(rng.geometric(0.05, rows), 200),
            "clicked_weight": [[0.5] * n + [0.0] * (5 - n) for n in entries],
            "entries": entries,
        }
    )


def write_exposures(config: Config) -> None:
    """The log that devices are named in: of the day, and of another, which is not looked at."""
    path = Path(str(config.logs.exposures.path))
    path.mkdir(parents=True)
    table = {"exposure_id": DEVICES, "user_id": [1] * 4, "item_id": [1] * 4, "device": DEVICES}
    times = pa.array([dt.datetime(2026, 4, 1, 12, tzinfo=dt.UTC)] * 4, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({**table, "shown_at": times}), path / "part-0.parquet")


def expected(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """AUC, PCOC and rows of each task; exact."""
    used = rows[rows["weight"] > 0]
    clicked = used[used["click"] == 1]
    tasks = {"ctr": (used, "click"), "cvr": (clicked, "purchase"), "ctcvr": (used, "purchase")}
    return {
        name: {
            "rows": len(part),
            "auc": roc_auc_score(part[label], part[f"p{name}"], sample_weight=part["weight"]),
            "pcoc": (part["weight"] @ part[f"p{name}"].astype("f8")) / (part["weight"] @ part[label]),
        }
        for name, (part, label) in tasks.items()
    }


def check(found: dict[str, Result], rows: pd.DataFrame) -> None:
    for task, metrics in expected(rows).items():
        assert found[task]["rows"] == metrics["rows"]
        assert found[task]["auc"] == pytest.approx(metrics["auc"], abs=2e-3)
        assert found[task]["pcoc"] == pytest.approx(metrics["pcoc"], rel=1e-6)


def test_each_value_is_measured_as_its_rows_alone(spark: SparkSession, config: Config) -> None:
    rows = drawn(40_000)
    write_exposures(config)
    columns = ["hour", "device", "item", "clicked_weight"]
    typed = "cast(clicked_weight as array<float>) as clicked_weight"
    frame = spark.createDataFrame(rows.drop(columns="entries")).repartition(3)
    frame = frame.selectExpr(
        *[name for name in rows if name not in (*columns, "entries")], "hour", HASH, "item", typed
    )
    found = evaluate(spark, config, frame, model="v1", days=[DAY], popularity_days=[])

    assert list(found.segments) == ["hour", "device", "item", "clicked"]
    for segment, of_value in {
        "hour": {str(hour): rows[rows["hour"] == hour] for hour in range(24)},
        "device": {device or "none": rows[rows["device"] == device] for device in DEVICES},
        "clicked": {
            "0": rows[rows["entries"] == 0],
            "1": rows[rows["entries"] == 1],
            "2–3": rows[rows["entries"].isin([2, 3])],
            "4–5": rows[rows["entries"].isin([4, 5])],
        },
    }.items():
        measured = {one.value: one.metrics.result() for one in found.segments[segment]}
        assert sorted(measured) == sorted(of_value)
        for value, part in of_value.items():
            check(measured[value], part)
    assert [one.value for one in found.segments["hour"]] == [str(hour) for hour in range(24)]
    weights = [one.metrics.ctr.weight for one in found.segments["device"]]
    assert weights == sorted(weights, reverse=True), "names come by their weight"

    by_weight = rows.groupby("item")["weight"].sum().sort_index().sort_values(ascending=False, kind="stable")
    kept = sorted(by_weight.index[: segments.MOST_VALUES])
    *own, other = found.segments["item"]
    assert [one.value for one in own] == [str(item) for item in kept]
    assert other.value == "other"
    for one, item in zip(own, kept, strict=True):
        assert one.metrics.ctr.rows == len(rows[(rows["item"] == item) & (rows["weight"] > 0)])
    check(other.metrics.result(), rows[~rows["item"].isin(kept)])


def test_ids_keep_their_numbers_where_the_log_is_gone_or_has_numbers(
    spark: SparkSession, config: Config
) -> None:
    found = BySegment([[9], [-1, 123], [5], [0]])
    ones = np.ones(3)
    rows = dict.fromkeys(("click", "purchase", "weight", "pctr", "pcvr", "pctcvr"), ones)
    found.update(rows, np.array([[9, -1, 5, 0], [9, 123, 5, 0], [9, 123, 6, 0]]))
    named = segments.named(spark, config, found, [DAY])
    assert {name: [(one.value, one.metrics.ctr.rows) for one in of] for name, of in named.items()} == {
        "hour": [("9", 3)], "device": [("none", 1), ("123", 2)], "item": [("5", 2), ("other", 1)],
        "clicked": [("0", 3)],
    }  # fmt: skip


def test_states_of_parts_add_up() -> None:
    rng = np.random.default_rng(1)
    rows = {name: rng.random(900) for name in ("pctr", "pcvr", "pctcvr")}
    rows |= {"click": rng.integers(0, 2, 900), "purchase": rng.integers(0, 2, 900), "weight": rng.random(900)}
    values = rng.integers(0, 5, (900, 2))
    whole, parts = BySegment([[3, 1], []]), [BySegment([[3, 1], []]) for _ in range(3)]
    whole.update(rows, values)
    for number, part in enumerate(parts):
        chosen = slice(number * 300, (number + 1) * 300)
        part.update({name: column[chosen] for name, column in rows.items()}, values[chosen])
    for states in zip(whole.parts, *(part.parts for part in parts), strict=True):
        expected, *others = states
        np.testing.assert_allclose(expected.vector, sum(other.vector for other in others), rtol=1e-12)
    assert [state.ctr.rows for state in whole.states[1]] == [900]
    assert [len(states) for states in whole.states] == [3, 1]


def test_coarse_metrics_are_near_the_fine_ones() -> None:
    rng = np.random.default_rng(2)
    pctr = 1 / (1 + np.exp(-rng.normal(-4, 1, 50_000)))
    click = rng.random(50_000) < pctr
    fine, coarse = Metrics(), CoarseMetrics()
    for metrics in (fine, coarse):
        metrics.update(click, click, np.ones(50_000), pctr, pctr, pctr)
    assert len(coarse.vector) * 8 < 150_000
    for task, result in fine.result().items():
        found = coarse.result()[task]
        assert found["auc"] == pytest.approx(result["auc"], abs=1e-4)
        assert found["ece"] == pytest.approx(result["ece"], abs=1e-4)
        for name in ("rows", "log_loss", "pcoc", "mean_label"):
            assert found[name] == result[name]


@pytest.mark.parametrize(
    ("named", "found"), [(["price"], "price"), (["hours"], "hours"), (["hour", "hour"], "hour")]
)
def test_only_ids_and_lists_are_segments(values: dict[str, Any], named: list[str], found: str) -> None:
    values["evaluation"] |= {"segments": named}
    expected = (
        rf"^evaluation\.segments: expected id features and lists \(user, .*\), each once, found '{found}'"
    )
    with pytest.raises(ConfigError, match=expected):
        configs.parse(values)
