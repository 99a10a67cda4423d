"""Drift: bins and indices worked by hand, counted in training and in Spark's tasks, and what comes of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession
from structlog.testing import capture_logs

from esmm import drift, export, histograms, models, schema, scoring, versions
from esmm.config import Config
from esmm.distributed.exchange import Alone
from esmm.errors import DataError
from esmm.plan import PlannedFile, ReadingPlan, make_plan
from esmm.publish import Table
from esmm.training import train
from tests import synthetic
from tests.test_scoring import AS_OF, DAY
from tests.test_scoring import candidates as candidates  # a fixture
from tests.test_scoring import model as model  # a fixture

INDICES: dict[str, tuple[dict[int, float], dict[int, float], float]] = {
    "equal shares": ({1: 1.0, 2: 3.0}, {1: 10.0, 2: 30.0}, 0.0),
    # ¼ ln 2 - ¼ ln ⅔
    "other shares": ({1: 5.0, 2: 5.0}, {1: 1.0, 2: 3.0}, 0.27465307),
    # ½ ln 2 + (0.0001 - ½) ln 0.0002
    "an empty bin": ({1: 7.0}, {1: 1.0, 2: 1.0}, 4.60431847),
    # twice (1 - 0.0001) ln 10000
    "nothing in common": ({1: 7.0}, {2: 1.0}, 18.41883868),
}


@pytest.mark.parametrize("case", INDICES)
def test_the_index(case: str) -> None:
    own, found, expected = INDICES[case]
    assert drift.psi(own, found) == pytest.approx(expected, abs=1e-7)
    assert drift.psi(found, own) == pytest.approx(expected, abs=1e-7), "it is the same from either side"


def test_bins(config: Config) -> None:
    columns = synthetic.columns(config, 5)
    columns |= {
        "seller": np.array([-1, 0, 5, 2**62, -1]),
        "price": np.array([0, 1, 1.5, -2, 0.25], np.float32),
        "clicked_weight": np.tril(np.full((5, 5), 0.5, np.float32), -1),  # lists of 0 to 4
    }
    predictions = {
        "pctr": np.array(
            [0.5, 0.2, 0.8, 1e-30, 1.0], np.float32
        ),  # log-odds of 0, -1.39, 1.39 and beyond all bins
        "pcvr": np.full(5, 0.3, np.float32),
        "pctcvr": np.full(5, 0.0, np.float32),
    }
    found = histograms.binned(config, columns, predictions)
    assert found["pctr"].tolist() == [0, -3, 2, -52, 36]
    assert found["pctcvr"].tolist() == [-52] * 5
    assert histograms.binned(config, {}, {"pctr": np.array([0.5, np.nan])})["pctr"].tolist() == [0, -52]
    assert found["seller"].tolist() == [0, 1, 1, 1, 0]
    assert found["price"].tolist() == [0, 81, 82, -83, 77]
    assert found["clicked"].tolist() == [0, 1, 2, 2, 3]
    assert {"hour", "device", "clicked_item"}.isdisjoint(found), "the first two have a value for scoring"
    assert set(histograms.binned(config, {"seller": columns["seller"]}, {})) == {"seller"}
    counted = histograms.counted({"clicked": found["clicked"]}, np.array([1, 0, 2, 3, 4.0]))
    assert counted == {"clicked": {0: 1.0, 2: 5.0, 3: 4.0}}
    both = histograms.added(counted, {"clicked": {1: 7.0, 2: 1.0}, "seller": {0: 1.0}})
    assert both == {"clicked": {0: 1.0, 1: 7.0, 2: 6.0, 3: 4.0}, "seller": {0: 1.0}}


def test_some_row_groups_of_a_plan() -> None:
    files = [
        PlannedFile(url=url, bytes=1, row_groups=rows) for url, rows in [("a", (10, 0, 10)), ("b", (10, 10))]
    ]
    plan = ReadingPlan(columns={}, files=tuple(files))
    assert [file.row_groups for file in plan.some(20).files] == [(10, 0, 0), (10, 0)]
    assert [(group.url, group.index) for group in plan.some(20).row_groups] == [("a", 0), ("b", 0)]
    assert plan.some(1).rows == 10
    assert plan.some(40) == plan.some(41) == plan


def of(config: Config, version: str, samples: Mapping[str, np.ndarray]) -> histograms.Histograms:
    """The histograms of samples, one by one, by the published model."""
    predictions = export.load(config.scoring.models, version)(samples)
    bins = histograms.binned(config, samples, predictions)
    return histograms.counted(bins, np.ones(len(samples["click"])))


def stated(config: Config, version: str) -> histograms.Histograms:
    facts = versions.manifest(config.scoring.models, version).facts[histograms.FACT]
    return {name: {int(each): weight for each, weight in found.items()} for name, found in facts.items()}


@pytest.mark.parametrize("validated", [False, True])
def test_a_trained_models_manifest_has_them(config: Config, validated: bool) -> None:
    """Of the validation samples where there are some, else of its own."""
    table, columns = synthetic.publish(config, [150, 60]), schema.training_columns(config)
    plans = [
        make_plan(f"{table.path}/{file.path}", None, columns) for file in table.manifest(synthetic.DAY).files
    ]
    result = train(config, plans[0], Alone(), [synthetic.DAY], plans[1] if validated else None)
    samples = synthetic.columns(config, 60, 1) if validated else synthetic.columns(config, 150, 0)
    expected = of(config, result["version"], samples)
    found = stated(config, result["version"])
    assert found.keys() == expected.keys() >= {"pctr", "pcvr", "pctcvr", "seller", "price", "clicked"}
    for name, bins in expected.items():
        # A prediction may fall on the other side of a bin's edge by its last bit.
        assert drift.psi(bins, found[name]) < 0.01, name
        assert sum(found[name].values()) == len(samples["click"])


def test_tasks_count_what_they_score_once(
    spark: SparkSession, config: Config, model: str, tmp_path: Any
) -> None:
    samples = synthetic.columns(config, 300)
    synthetic.write(config, samples, str(tmp_path / "rows.parquet"))
    rows = spark.read.parquet(str(tmp_path / "rows.parquet")).repartition(3, "exposure_id")
    watch = drift.Watch(spark)
    scored = scoring.predictions_by_user(rows, rows, config, model, ["exposure_id"], watch)
    assert watch.found() == {}
    expected = of(config, model, samples)
    for _ in range(2):  # as when a lost executor's tasks are run again
        scored.write.format("noop").mode("overwrite").save()
        assert watch.found() == expected


def published(config: Config, own: histograms.Histograms | None) -> str:
    """A model whose manifest has these histograms."""
    made = models.make(config)
    return export.export(made, config, config.scoring.models, {histograms.FACT: own})


def with_drift(config: Config, **keys: Any) -> Config:
    scoring = config.scoring.model_copy(update={"drift": config.scoring.drift.model_copy(update=keys)})
    return config.model_copy(update={"scoring": scoring})


OTHER = {"clicked": {1: 5.0}, "price": {77: 1.0}}
# Lists: users 2 and 3 have none, user 1 has five entries. Prices of items 1 to 4, twice, and of 9.
SAME = {"clicked": {0: 5.0, 3: 4.0}, "price": {81: 2.0, 83: 2.0, 84: 2.0, 85: 2.0, 87: 1.0}}


def test_it_warns_or_stops(config: Config) -> None:
    stopping = with_drift(config, on_drift="stop", threshold=0.3)
    version = published(config, {"clicked": {0: 1.0, 1: 1.0}, "price": {1: 1.0}, "brand": {0: 1.0}})
    found = {"clicked": {0: 1.0, 1: 3.0}, "price": {1: 1.0, 2: 1.0}, "new": {0: 1.0}}
    with capture_logs() as lines:
        values = drift.check(with_drift(config, threshold=0.25), version, found)
    assert values == pytest.approx({"price": 4.60431847, "clicked": 0.27465307})
    assert list(values) == ["price", "clicked"], "the largest first"
    [line] = lines
    assert (line["log_level"], line["price"], line["clicked"]) == ("warning", "4.60", "0.27")
    expected = "scoring.drift: expected a PSI of at most 0.3 to the model's own samples, found 4.60 of price"
    with pytest.raises(DataError) as caught:
        drift.check(stopping, version, found)
    assert str(caught.value) == expected
    with capture_logs() as lines:
        assert drift.check(with_drift(stopping, threshold=5), version, found) == values
    assert not lines
    with capture_logs() as lines:
        assert drift.check(stopping, published(config, None), found) == {}
    assert "drift is not looked at" in lines[-1]["event"]


@pytest.mark.usefixtures("candidates")
@pytest.mark.slow
def test_a_day_that_is_stopped_is_not_published(spark: SparkSession, config: Config) -> None:
    config = with_drift(config, on_drift="stop", threshold=0.25)
    with pytest.raises(DataError, match=r"^scoring.drift: .* found \d+.\d\d of \w+, \d+.\d\d of \w+$"):
        scoring.score(spark, config, DAY, AS_OF, published(config, OTHER))
    assert Table(config.scoring.table).days() == []
    assert not list(Path(config.scoring.table).glob("run=*"))
    manifest = scoring.score(spark, config, DAY, AS_OF, published(config, SAME))
    assert (manifest.rows, manifest.facts["drift"]) == (9, {"clicked": 0.0, "price": 0.0})


def test_rows_are_counted_by_weight_in_bins_on_either_side_of_zero() -> None:
    bins = {"pctr": np.array([-3, 2, -3, 0]), "price": np.array([5, 5, 7, 5]), "none": np.array([], np.int64)}
    weights = np.array([1.0, 2.0, 0.5, 0.0])
    found = {
        name: histograms.counted({name: each}, weights[: len(each)])[name] for name, each in bins.items()
    }
    assert found == {"pctr": {-3: 1.5, 2: 2.0}, "price": {5: 3.0, 7: 0.5}, "none": {}}
