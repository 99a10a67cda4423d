"""Lists as of the day's start: those of samples that are built so, and what an evaluation makes of them."""

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from esmm import nightly, samples, schema, scoring
from esmm.config import Config, parse
from esmm.evaluation import evaluate, held_out
from esmm.publish import Table
from tests.brute_force import Event, Logs, local, start_of
from tests.random_logs import ZONE, Shape, config_of, drawn, write
from tests.test_brute_force import Rows, built
from tests.test_samples import DAYS, random_logs, write_logs

HOUR = 3_600_000_000
NEWCOMER, OWL = 7_001, 7_002
"""Users of the second day: one whose first event is on it, one who is shown an item when it begins."""

SPRING = Shape(seed=21, users=60, exposures=700)
AUTUMN = Shape(
    seed=22, users=60, exposures=700, autumn=True, text_ids=True, named=0.7, filed=True, cap=2,
    lists=("owned", "clicked"),
)  # fmt: skip


def with_list_columns(config: Config) -> list[schema.Column]:
    return [column for column in schema.feature_columns(config) if column.length is not None]


def built_as(config: Config, **keys: Any) -> Config:
    """The config with another table of samples."""
    keys["table"] = f"{config.samples.table}_of_the_night"
    return config.model_copy(update={"samples": config.samples.model_copy(update=keys)})


def with_midnight(shape: Shape, logs: Logs) -> Logs:
    """The logs, and the events of the two users around the second day's start."""
    midnight, next_midnight = (start_of(day, ZONE) for day in shape.days[1:])

    def event(number: int, user: int, at: int, item: int = 0) -> Event:
        ids = [("x", 9_000_000 + number), ("u", user), ("i", item)]
        filed = local(at, ZONE).date() if shape.filed else None
        return Event(
            *[f"{prefix}{n}" if shape.text_ids else n for prefix, n in ids], at, device="", filed=filed
        )

    exposures = [
        event(1, NEWCOMER, midnight + 2 * HOUR),
        event(2, NEWCOMER, midnight + 9 * HOUR),
        event(3, NEWCOMER, next_midnight + HOUR),
        event(4, OWL, midnight),
        event(5, OWL, midnight + 1),
    ]
    clicks = [
        event(6, NEWCOMER, midnight + 8 * HOUR, item=5),
        event(7, OWL, midnight - 1, item=6),
        event(8, OWL, midnight, item=7),
    ]
    return logs._replace(exposures=logs.exposures + exposures, clicks=logs.clicks + clicks)


def padded(values: list[Any], column: schema.Column) -> list[Any]:
    assert column.length is not None
    padding = -1 if column.type == "int64" else 0.0
    known = [padding if value is None else value for value in values]
    return known + [padding] * (column.length - len(known))


def nightly_rows(spark: SparkSession, config: Config, days: list[dt.date]) -> Rows:
    table = spark.read.parquet(*Table(config.samples.table).files(days))
    found = nightly.with_lists(spark, config, table, days)
    assert found.columns == table.columns
    rows = found.collect()
    assert len({row["exposure_id"] for row in rows}) == len(rows) == table.count()
    lists = {column.name: column for column in with_list_columns(config)}
    return {
        row["exposure_id"]: {
            name: padded(value, lists[name]) if name in lists else value
            for name, value in row.asDict().items()
        }
        for row in rows
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_lists_are_those_of_samples_built_as_of_the_days_start(spark: SparkSession, tmp_path: Path) -> None:
    """Row for row, and nothing else of a row changes; a day of 25 hours among them."""
    config = config_of(AUTUMN, tmp_path)
    write(config, with_midnight(AUTUMN, drawn(AUTUMN)))
    plain, _ = built(spark, config, AUTUMN.days)
    rebuilt, _ = built(spark, built_as(config, history_cutoff="day_start"), AUTUMN.days)
    found = nightly_rows(spark, config, AUTUMN.days)
    assert found.keys() == plain.keys() == rebuilt.keys()
    lists = [column.name for column in with_list_columns(config)]
    for key, row in found.items():
        assert {name: row[name] for name in lists} == {name: rebuilt[key][name] for name in lists}
        assert {name: row[name] for name in row if name not in lists} == {
            name: value for name, value in plain[key].items() if name not in [*lists, "ds"]
        }
    assert sum(any(row[name] != plain[key][name] for name in lists) for key, row in found.items()) > 100


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_was_known_at_midnight(spark: SparkSession, tmp_path: Path) -> None:
    """A newcomer's day has no list; a click of midnight itself is of the day, one a microsecond before is not."""
    config = config_of(replace(SPRING, lists=("clicked",)), tmp_path)
    write(config, with_midnight(SPRING, drawn(SPRING)))
    built(spark, config, SPRING.days)
    rows = nightly_rows(spark, config, SPRING.days[1:])
    none = [-1, -1, -1]
    clicked = {number: rows[9_000_000 + number]["clicked_item"] for number in range(1, 6)}
    assert clicked == {1: none, 2: none, 3: [5, -1, -1], 4: [6, -1, -1], 5: [6, -1, -1]}
    assert rows[9_000_001]["clicked_weight"] == [0.0] * 3


@pytest.fixture
def config(values: dict[str, Any]) -> Config:
    values["attribution"] = {"click_window": "30m", "purchase_window": "3h"}
    values["evaluation"]["truth"] = None
    return parse(values)


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_an_evaluation_measures_what_rebuilt_samples_would_score(spark: SparkSession, config: Config) -> None:
    """By a model that is not trained, but looks at lists."""
    from esmm import models
    from esmm.export import export

    made = models.make(config)
    for table in made.tables.values():
        table.weights.assign(table.weights * 20)
    version = export(made, config, config.scoring.models, {})
    write_logs(config, *random_logs(5, rows=800))
    rebuilt = built_as(config, history_cutoff="day_start")
    until = dt.datetime(2026, 4, 10, tzinfo=ZONE)
    for one in (config, rebuilt):
        samples.build(spark, one, DAYS, logs_until=until).or_raise()
    rows = held_out(spark, config, DAYS[1:])
    found = evaluate(
        spark, config, scoring.with_predictions(rows, config, version),
        model=version, days=DAYS[1:], popularity_days=[],
        nightly=scoring.with_predictions(nightly.with_lists(spark, config, rows, DAYS[1:]), config, version),
    )  # fmt: skip
    of_rebuilt = scoring.with_predictions(held_out(spark, rebuilt, DAYS[1:]), rebuilt, version)
    expected = evaluate(spark, rebuilt, of_rebuilt, model=version, days=DAYS[1:], popularity_days=[])
    assert expected.nightly is None
    assert found.nightly is not None
    for task, result in found.nightly.result().items():
        assert result == pytest.approx(expected.metrics.result()[task], rel=1e-6), task
        plain = found.metrics.result()[task]
        assert (result["rows"], result["weight"]) == (plain["rows"], plain["weight"])
        assert result["log_loss"] != pytest.approx(plain["log_loss"], rel=1e-4), task
    assert found.nightly.result()["ctr"]["auc"] != pytest.approx(
        found.metrics.result()["ctr"]["auc"], abs=1e-4
    )


def test_it_is_not_wanted_where_it_is_turned_off_or_the_same(values: dict[str, Any]) -> None:
    def wanted(section: str, **keys: Any) -> bool:
        return nightly.is_wanted(parse(values | {section: values[section] | keys}))

    assert nightly.is_wanted(parse(values))
    assert not wanted("evaluation", as_nightly=False)
    assert not wanted("samples", history_cutoff="day_start")
    assert not nightly.is_wanted(parse(values | {"lists": {}}))
