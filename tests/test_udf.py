"""The model as a column and as a function of SQL: the numbers of mapInArrow, and what it does not take."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.errors import PythonException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm import schema, scoring, udf
from esmm.config import Config
from esmm.errors import DataError
from esmm.failures import explained
from tests import synthetic
from tests.test_scoring import model as model  # a fixture

ROOT = Path(__file__).resolve().parent.parent
LARGE = 2**53 + 1
"""An id that is no float64."""


@pytest.fixture
def rows(spark: SparkSession, config: Config, tmp_path: Path) -> DataFrame:
    """Samples, and beside their columns one that the model does not take."""
    synthetic.write(config, synthetic.columns(config, 200), str(tmp_path / "rows.parquet"))
    return spark.read.parquet(str(tmp_path / "rows.parquet")).withColumn("note", F.lit("nothing"))


@pytest.fixture
def function(spark: SparkSession, config: Config, model: str) -> Iterator[None]:
    """`esmm_predict` in SQL."""
    udf.register(spark, config, model)
    yield
    spark.sql(f"drop temporary function {udf.NAME}")


def expected(rows: DataFrame, config: Config, model: str) -> pd.DataFrame:
    found = scoring.with_predictions(rows, config, model, keep=["exposure_id"]).toPandas()
    return found.sort_values("exposure_id", ignore_index=True)


def found(rows: DataFrame) -> pd.DataFrame:
    """Of rows with an exposure_id and a struct p."""
    return rows.select("exposure_id", "p.*").toPandas().sort_values("exposure_id", ignore_index=True)


def test_as_a_column(rows: DataFrame, config: Config, model: str) -> None:
    with_p = rows.withColumn("p", udf.predict(config, model))
    assert with_p.columns == [*rows.columns, "p"]
    assert with_p.schema["p"].dataType.simpleString() == "struct<pctr:float,pcvr:float,pctcvr:float>"
    pd.testing.assert_frame_equal(found(with_p), expected(rows, config, model), rtol=0, atol=1e-6)
    likely = with_p.where("p.pctr > 0.5").count()
    assert 0 < likely < 200
    assert likely == (expected(rows, config, model)["pctr"] > 0.5).sum()


@pytest.mark.usefixtures("function")
def test_in_sql(spark: SparkSession, rows: DataFrame, config: Config, model: str) -> None:
    rows.createOrReplaceTempView("rows")
    by_sql = spark.sql("select exposure_id, esmm_predict(struct(*)) as p from rows")
    pd.testing.assert_frame_equal(found(by_sql), expected(rows, config, model), rtol=0, atol=1e-6)
    names = ", ".join(column.name for column in schema.feature_columns(config))
    named = spark.sql(f"select exposure_id, esmm_predict(struct({names})) as p from rows")
    pd.testing.assert_frame_equal(found(named), found(by_sql))


def test_what_is_null_or_short_is_as_in_scoring(rows: DataFrame, config: Config, model: str) -> None:
    """Lists without padding, or none; ids that floats cannot hold stay what they are beside a null."""
    is_odd = F.col("exposure_id") % 2 == 1
    sparse = rows.select(
        "exposure_id",
        F.when(is_odd, F.col("user") + LARGE).alias("user"),
        F.when(is_odd, F.col("price")).alias("price"),
        F.when(is_odd, F.slice("clicked_item", 1, 3)).alias("clicked_item"),
        F.when(is_odd, F.transform("clicked_seller", lambda one: F.when(one > 0, one + LARGE))).alias("clicked_seller"),
        F.slice("clicked_weight", 1, 2).alias("clicked_weight"),
        *[column.name for column in schema.feature_columns(config)
          if column.name not in ("user", "price", "clicked_item", "clicked_seller", "clicked_weight")],
    )  # fmt: skip
    with_p = sparse.withColumn("p", udf.predict(config, model))
    pd.testing.assert_frame_equal(found(with_p), expected(sparse, config, model), rtol=0, atol=1e-6)
    whole = expected(rows, config, model)
    assert np.abs(found(with_p)["pctr"] - whole["pctr"]).max() > 0.01


@pytest.mark.usefixtures("function")
@pytest.mark.parametrize(
    ("struct", "line"),
    [
        ("struct(user)", r"column item: expected a field of the struct, found no such field"),
        ("user", r"column user: expected a field of the struct, found no such field"),
        ("{all}, null as seller", r"column seller: expected int64, without a null, found "),
        (
            "{all}, nullif(seller, 3) as seller",
            r"column seller: expected int64, without a null, found float64",
        ),
        ("{all}, 'x' as seller", r"column seller: expected int64, without a null, found object"),
        ("{all}, 'x' as price", r"column price: expected float32, found object"),
        (
            "{all}, concat(clicked_item, array(1L)) as clicked_item",
            r"column clicked_item: expected lists of at most 5, found one of 6",
        ),
    ],
)
def test_what_it_does_not_take_is_named(
    spark: SparkSession, config: Config, rows: DataFrame, struct: str, line: str
) -> None:
    rows.createOrReplaceTempView("rows")
    if "{all}" in struct:
        replaced = struct.rpartition(" ")[2]
        names = [column.name for column in schema.feature_columns(config) if column.name != replaced]
        struct = f"struct({struct.format(all=', '.join(names))})"
    with pytest.raises(PythonException) as caught:
        spark.sql(f"select esmm_predict({struct}) as p from rows").collect()
    error = explained(caught.value)
    assert isinstance(error, DataError)
    assert str(error).startswith(line), error


def test_a_model_that_was_changed_is_refused_before_any_row(
    rows: DataFrame, config: Config, model: str
) -> None:
    file = Path(config.scoring.models, model, "variables/variables.index")
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(DataError, match=r"variables.index: expected the file with SHA-256"):
        udf.predict(config, model)


@pytest.mark.slow
def test_the_driver_never_imports_tensorflow(config: Config, model: str, tmp_path: Path) -> None:
    """Neither does the daemon that its workers are forks of: TensorFlow would hang in them."""
    (tmp_path / "config.json").write_text(config.model_dump_json())
    code = (
        "import json, sys\n"
        "from pyspark.sql import SparkSession\n"
        "from esmm import udf\n"
        "from esmm.config import parse\n"
        "config = parse(json.load(open(sys.argv[1])))\n"
        "spark = SparkSession.builder.master('local[1]').getOrCreate()\n"
        "udf.register(spark, config, sys.argv[2])\n"
        "udf.predict(config, sys.argv[2])\n"
        "print('tensorflow' in sys.modules)\n"
    )
    done: Any = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "config.json"), model],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.split() == ["False"], done.stderr
