"""What tests share: a small config and one Spark session."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before TensorFlow is imported anywhere: its log on standard error is not what a test is about.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Spark's Python workers run in the environment of the tests, not in whatever python3 comes first on the PATH.
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
# Java and the quiet log, as spark-submit.sh has them.
os.environ.setdefault("SPARK_CONF_DIR", str(Path(__file__).resolve().parent.parent / "conf/spark"))

import pytest
import structlog
import yaml
from pyspark.sql import SparkSession

from esmm import cli
from esmm import config as configs

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """A job that a test runs in this process leaves the log going to the test's own standard error."""
    yield
    structlog.reset_defaults()


def small(directory: Path) -> dict[str, Any]:
    """The demo's config as nested mappings, made small, all of its paths under a directory."""
    text = (ROOT / "conf/demo.yaml").read_text().replace("build/demo", str(directory))
    loaded: dict[str, Any] = yaml.safe_load(text)
    loaded["simulation"] |= {"days": 3, "users": 200, "items": 100, "exposures_per_day": 1_000}
    del loaded["evaluation"]["segments"]  # tests do without features as they like
    loaded["embeddings"] = {name: {"rows": 100, "dim": 4} for name in loaded["embeddings"]}
    loaded["lists"]["clicked"]["length"] = 5
    loaded["model"]["towers"] = [8]
    loaded["training"] |= {"ranks": 1, "batch_size": 128, "epochs": 1}
    loaded["samples"]["rows_per_file"] = 500
    return loaded


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    """The small config's values, all of its paths under the test's own directory."""
    return small(tmp_path)


@pytest.fixture
def config(values: dict[str, Any]) -> configs.Config:
    """The small config, checked."""
    return configs.parse(values)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """One session for all tests, with the settings that the jobs use."""
    config = configs.load(ROOT / "conf/demo.yaml")
    session = (
        SparkSession.builder.master("local[2]")
        .config(map=cli.spark_settings(config))
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )
    yield session
    session.stop()
