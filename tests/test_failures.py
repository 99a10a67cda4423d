"""Spark's errors in one line: the file, and the root of it, out of the chain of causes."""

import gzip
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf

from esmm import failures
from esmm.errors import ConflictError, DataError, JobError


def explained(error: Exception) -> JobError:
    found = failures.explained(error)
    assert found is not None
    assert "\n" not in str(found)
    assert len(str(found)) < 700
    return found


def broken_by(spark: SparkSession, path: Path, form: str = "parquet") -> JobError:
    with pytest.raises(Exception, match="An error occurred") as caught:
        spark.read.option("header", True).format(form).load(str(path)).collect()
    found = explained(caught.value)
    assert isinstance(found, DataError)
    assert found.expected == "a path that can be read and written"
    return found


def test_a_file_that_is_no_parquet(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("user_id,item_id")
    found = broken_by(spark, tmp_path)
    assert found.where == f"file:{tmp_path}/a.parquet"
    assert "is not a Parquet file" in found.found


def test_a_parquet_file_whose_middle_is_garbage(spark: SparkSession, tmp_path: Path) -> None:
    """Its footer is whole: only reading the rows shows it."""
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": list(range(20_000))}), file)
    data = bytearray(file.read_bytes())
    data[100:40_000] = os.urandom(39_900)
    file.write_bytes(data)
    assert broken_by(spark, tmp_path).where == f"file://{file}"


def test_a_gzip_file_that_was_cut_off(spark: SparkSession, tmp_path: Path) -> None:
    file = tmp_path / "a.csv.gz"
    file.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 1_000)[:-20])
    found = broken_by(spark, tmp_path, "csv")
    assert (found.where, found.found) == (f"file://{file}", "Unexpected end of input stream")


def test_a_directory_that_cannot_be_written_to(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Exception, match="Parent path") as caught:
        spark.range(3).write.parquet(f"{tmp_path}/file/table")
    assert explained(caught.value).where == f"file:{tmp_path}/file"


def test_what_no_file_is_to_blame_for(spark: SparkSession) -> None:
    with pytest.raises(Exception, match="nocol") as caught:
        spark.sql("select nocol from range(3)")
    found = explained(caught.value)
    assert (found.where, found.expected) == ("Spark", "the run to succeed")
    assert found.found.startswith("[UNRESOLVED_COLUMN")


def test_a_python_worker_that_is_killed(spark: SparkSession) -> None:
    """As by the system, where memory runs out."""
    rows = spark.range(1).mapInArrow(lambda _: os.kill(os.getpid(), signal.SIGKILL), "id long")
    with pytest.raises(Exception, match="Job aborted") as caught:
        rows.collect()
    error = failures.explained(caught.value)
    assert (
        str(error) == "Spark: expected the run to succeed, found Python worker exited unexpectedly (crashed)"
    )


def test_an_error_of_ours_in_a_python_worker_is_that_error(spark: SparkSession) -> None:
    @pandas_udf("long")  # type: ignore[call-overload]
    def in_a_column(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        raise ConflictError("models/7", expected="its manifest", found="none")

    def in_a_partition(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raise ConflictError("models/7", expected="its manifest", found="none")

    for frame in (
        spark.range(3).select(in_a_column("id")),
        spark.range(3).mapInArrow(in_a_partition, "id long"),
    ):
        with pytest.raises(Exception, match="models/7") as caught:
            frame.collect()
        found = explained(caught.value)
        assert isinstance(found, ConflictError)
        assert str(found) == "models/7: expected its manifest, found none"


def test_a_bug_in_a_python_worker_keeps_its_traceback(spark: SparkSession) -> None:
    @pandas_udf("long")  # type: ignore[call-overload]
    def wrong(values: pd.Series) -> pd.Series:
        assert len(values) == 1_000
        return values

    with pytest.raises(Exception, match="AssertionError") as caught:
        spark.range(3).select(wrong("id")).collect()
    assert failures.explained(caught.value) is None


def test_a_pipe_that_nobody_reads_is_left_to_typer() -> None:
    assert failures.explained(BrokenPipeError(32, "Broken pipe")) is None
