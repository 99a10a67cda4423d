"""The statements in sql/, run with bound parameters: no value is ever pasted into SQL."""

from importlib import resources
from typing import Any

from pyspark.sql import DataFrame, SparkSession


def run(spark: SparkSession, name: str, arguments: dict[str, Any] | None = None) -> DataFrame:
    """The rows of one file of sql/, its `:name` parameters bound to the arguments."""
    return spark.sql(resources.files("sql").joinpath(f"{name}.sql").read_text(), args=arguments or {})


def checks() -> list[str]:
    """The names of the data checks, as `run` takes them."""
    files = [path.name for path in resources.files("sql").joinpath("checks").iterdir()]
    return sorted(f"checks/{file.removesuffix('.sql')}" for file in files if file.endswith(".sql"))
