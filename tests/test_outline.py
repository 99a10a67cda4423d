"""The dry run: what it says is what the config and the logs are, and nothing is written."""

import datetime as dt
import io
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from esmm.config import Config, parse
from esmm.errors import ConfigError, DataError
from esmm.outline import outline
from tests.brute_force import Event
from tests.test_samples import DAYS, MINUTE, ZONE, write_logs


def text(spark: SparkSession, config: Config, days: list[dt.date]) -> str:
    console = Console(width=200, file=io.StringIO())
    for part in outline(spark, config, days):
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_says_what_would_be_read_and_written(spark: SparkSession, config: Config, tmp_path: Path) -> None:
    at = int(dt.datetime.combine(DAYS[0], dt.time(12), ZONE).timestamp()) * 1_000_000
    write_logs(config, [Event(1, 1, 1, at)], [Event(2, 1, 1, at + MINUTE)], [Event(3, 1, 1, at + 2 * MINUTE)])
    shown = text(spark, config, DAYS[:1])
    assert str(config.logs.exposures.path)[:20] in shown
    assert f"{DAYS[0]}" in shown
    assert "immature" in shown  # the logs end on that very day
    assert "new" in shown
    assert "clicked_item" in shown
    assert not Path(config.samples.table).exists()


@pytest.mark.parametrize("feature", ["device", "category", "segment"])
def test_a_feature_of_a_column_that_is_not_there(
    spark: SparkSession, values: dict[str, Any], feature: str
) -> None:
    """As the run itself would refuse it, whatever log it is of."""
    log = values["features"][feature]["source"].partition(".")[0]
    values["features"][feature]["source"] = f"{log}.devise"
    config = parse(values)
    write_logs(config, [Event(1, 1, 1, 0)], [Event(2, 1, 1, 0)], [Event(3, 1, 1, 0)])
    with pytest.raises(
        ConfigError, match=rf"^features.{feature}.source: expected a column of .* no column 'devise'"
    ):
        text(spark, config, DAYS[:1])


def test_a_log_that_is_not_there(spark: SparkSession, config: Config) -> None:
    with pytest.raises(DataError, match="logs"):
        text(spark, config, DAYS[:1])
