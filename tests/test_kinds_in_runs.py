"""Every kind of feature through whole runs: broken off and gone on with, and from logs to scores."""

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from esmm import fitted, fitting, runs, schema, scoring
from esmm import samples as building
from esmm.config import Checkpoints, Config, parse
from esmm.distributed.exchange import Alone
from esmm.export import load
from esmm.padding import to_array
from esmm.plan import make_plan
from esmm.publish import Table
from esmm.runs import RunResult, checkpoints_of
from esmm.training import train
from tests import kinds, synthetic
from tests.test_candidates import joined, write_candidates
from tests.test_distributed import run_on_spark, with_ranks
from tests.test_resume_training import elsewhere, predictions, run_killed_at
from tests.test_samples import DAYS, ZONE, random_logs, write_logs


@pytest.fixture
def config(values: dict[str, Any]) -> Config:
    values["training"] |= {"epochs": 2, "batch_size": 50}
    return parse(kinds.with_every_kind(values))


def run(config: Config) -> RunResult:
    plan = make_plan(config.samples.table, None, schema.training_columns(config))
    return train(config, plan, Alone(), [synthetic.DAY])


@pytest.mark.slow
def test_a_run_goes_on_with_what_it_learnt_before_it_began(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = synthetic.with_training(config, checkpoints=Checkpoints(every_steps=3))
    synthetic.publish(config, [130, 70, 99])
    expected = run(elsewhere(config))
    run_killed_at(8, config, monkeypatch)
    plan = make_plan(config.samples.table, None, schema.training_columns(config))
    assert fitted.load(checkpoints_of(config), runs.digest(config, plan, None)) is not None
    monkeypatch.setattr(fitting, "read_row_groups", None)  # nothing is read for it a second time
    found = run(config)
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-6)
    ours, theirs = predictions(config, found), predictions(config, expected)
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], atol=1e-6)

    stated = load(config.scoring.models, found["version"]).facts["fitted"]
    assert stated["vocabularies"] == {"item": 29}
    assert set(stated["moments"]) == {"price", *(f"seller_{figure}_7d" for figure in schema.STATISTICS)}
    assert len(stated["boundaries"]["band"]) == 3


@pytest.mark.slow
def test_two_ranks_learn_what_one_does(spark: SparkSession, config: Config) -> None:
    """All of a step's samples are one rank's or two ranks' batches: the same steps, if what was learnt is the same."""
    synthetic.publish(config, [100, 100])
    one = run(elsewhere(with_ranks(config, 1, batch_size=200)))
    two = run_on_spark(spark, with_ranks(config, 2, batch_size=100))
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    ours, theirs = (load(config.scoring.models, each["version"]).facts["fitted"] for each in (one, two))
    assert ours["vocabularies"] == theirs["vocabularies"]
    assert ours["boundaries"] == theirs["boundaries"]


@pytest.mark.slow
def test_from_logs_to_scores(spark: SparkSession, config: Config) -> None:
    """What Spark scores is what the model says of the candidates' columns, and these are what the config says."""
    config = config.model_copy(update={"statistics": {}})  # they take Spark long, and are shown elsewhere
    write_logs(config, *random_logs(3, rows=400))
    building.build(spark, config, DAYS[:1], allow_immature=True).or_raise()
    table = Table(config.samples.table)
    manifest = table.manifest(DAYS[0])
    assert {name: manifest.columns[name] for name in ("band", "daypart")} == {
        "band": "float",
        "daypart": "float",
    }
    assert "taste" not in manifest.columns
    version = run(config)["version"]

    as_of = dt.datetime.combine(DAYS[1], dt.time(), ZONE)
    write_candidates(config, user_id=[1, 1, 1, 2, 2, 99_999], item_id=[0, 1, 2, 3, 88_888, 4])
    rows = scoring.with_predictions(joined(spark, config, as_of), config, version).collect()
    assert len(rows) == 6
    by_pair = {(row["user_id"], row["item_id"]): row for row in rows}
    assert (by_pair[1, 2]["band"], by_pair[1, 2]["daypart"], by_pair[2, 88_888]["level"]) == (2.0, 20.0, 0.0)
    columns = {
        column.name: to_array(pa.array([row[column.name] for row in rows], column.arrow.type), column)
        for column in schema.feature_columns(config)
    }
    for name, expected in load(config.scoring.models, version)(columns).items():
        np.testing.assert_allclose([row[name] for row in rows], expected, atol=1e-6)
    assert len({row["pctcvr"] for row in rows}) > 4
