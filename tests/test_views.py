"""What the views of the logs hold back: ids of two kinds."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm import views
from esmm.config import Config
from esmm.errors import DataError
from tests.test_samples import DAYS, MINUTE, ZONE, Event, day_start, write_logs

START = day_start(DAYS[0], ZONE)


@pytest.fixture
def logs(config: Config) -> None:
    """One exposure, clicked and bought within two minutes."""
    write_logs(
        config,
        [Event(1, 1, 1, START)],
        [Event(2, 1, 1, START + MINUTE)],
        [Event(3, 1, 1, START + 2 * MINUTE)],
    )


def rewritten(path: str, column: str, values: pa.Array) -> None:
    """Put a column into a log, in place of one of its name."""
    file = Path(path) / "part-0.parquet"
    table = pq.read_table(file)
    if column in table.column_names:
        table = table.drop_columns([column])
    pq.write_table(table.append_column(column, values), file)


@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize("name", ["clicks", "purchases"])
@pytest.mark.parametrize("column", ["user_id", "item_id", "exposure_id"])
def test_events_with_ids_of_another_kind(spark: SparkSession, config: Config, name: str, column: str) -> None:
    rewritten(getattr(config.logs, name).path, column, pa.array(["1"]))
    with pytest.raises(DataError) as caught:
        views.open_logs(spark, config, 0, 0)
    expected = f"integers, as logs.exposures has in {column}"
    assert str(caught.value) == f"logs.{name}.columns.{column}: expected {expected}, found strings"


@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize(("name", "column"), [("items", "item_id"), ("users", "user_id")])
def test_entities_with_ids_of_another_kind(
    spark: SparkSession, config: Config, name: str, column: str
) -> None:
    path = getattr(config.logs, name).path
    rows = pq.read_table(f"{path}/part-0.parquet").num_rows
    rewritten(path, column, pa.array([str(n) for n in range(rows)]))
    with pytest.raises(DataError) as caught:
        views.register_entities(spark, config, views.open_log(spark, config, "exposures"))
    expected = f"integers, as logs.exposures has in {column}"
    assert str(caught.value) == f"logs.{name}.columns.{column}: expected {expected}, found strings"


@pytest.mark.usefixtures("logs")
def test_named_exposures_that_have_no_ids(spark: SparkSession, config: Config) -> None:
    exposures = config.logs.exposures.model_copy(update={"columns": {"time": "shown_at"}})
    without = config.model_copy(update={"logs": config.logs.model_copy(update={"exposures": exposures})})
    rewritten(config.logs.clicks.source, "exposure_id", pa.array([1]))
    with pytest.raises(DataError, match=r"logs.exposures.columns.event_id: expected a column of "):
        views.open_logs(spark, without, 0, 0)
