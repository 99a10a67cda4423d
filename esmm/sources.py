"""A log of the config, opened: files or a table of the catalog, to a frame with the log's own columns.

    opened(spark, "logs.clicks", Log(path="logs/clicks", format="csv", types={"item_id": "bigint"}), "Europe/Paris")

Nothing but names and types is read before the frame is used: the header of a CSV, a Parquet file's footer, and of
JSON, which has neither, FILES files spread evenly over all of them, however many there are. Only where these lack a
column that is asked for, others are looked through for it. Where the log's directories tell the days, CSV and JSON are
asked by files of those that matter, and of all formats a file that cannot be read is passed over: who needs its rows
will say so.

A line of text that is no row of its file's columns ends the query with an error that says so in the words of
`esmm.errors`:

    file:/logs/clicks/a.csv: expected rows of user_id string, item_id bigint, found 4,five
"""

import contextlib
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple
from urllib.parse import unquote

import structlog
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, ParseException, PySparkException
from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F

from esmm import failures
from esmm.config import Log
from esmm.errors import ConfigError, DataError

FILES = 10
"""How many files of JSON are read for the names of its columns, where these have all that are asked for."""
SPARK_FAILED = (PySparkException, Py4JJavaError)
"""What Spark raises where it cannot read a file; not all errors of its own become errors of PySpark."""
DAY_PATTERN = "yyyy-MM-dd"
"""How a log's days are written, in Spark's letters."""

_FORMATS = {"parquet": "Parquet", "csv": "CSV", "json": "JSON"}
_UNREADABLE = "_unreadable"  # where Spark puts a line that is no row
_SHOWN = 200  # characters of such a line that a message shows

logger = structlog.get_logger()


def opened(
    spark: SparkSession,
    name: str,
    log: Log,
    time_zone: str,
    *,
    columns: Collection[str] = (),
    optional: Collection[str] = (),
    days: tuple[str, str] | None = None,
) -> DataFrame:
    """The rows of a log; `name` is where it stands in the config, such as `logs.clicks`.

    Args:
        spark: a session.
        name: what messages call the log.
        log: the log.
        time_zone: of text that the config's types make timestamps of, where it does not say its own.
        columns: those that are asked for. All JSON is looked through for what its first files lack of them.
        optional: those that are asked for where they are there: JSON of the days is looked through for them.
        days: the first and the last that matter, YYYY-MM-DD, where the log has a day_column; else None. The rows are
            those of all days in any case.

    Raises DataError where there is no such file or table or it cannot be opened, ConfigError where a type is none, or
    is given to a column that is not in the header of a CSV. Of JSON, what has a type is a column, found or not.
    """
    try:
        if log.path is None:
            return spark.table(log.source)
        if log.format == "parquet":
            return _parquet(spark, name, log, days)
        is_json = log.format == "json"
        names = _in_json(spark, log, columns, optional, days) if is_json else _in_csv(spark, log, days)
        return _text(spark, name, log, time_zone, names)
    except ParseException as error:
        raise ConfigError(f"{name}.types", expected="types of Spark's", found=_said(error)) from None
    except AnalysisException as error:
        missing = error.getErrorClass() in ("PATH_NOT_FOUND", "TABLE_OR_VIEW_NOT_FOUND")
        found = "nothing there" if missing else _said(error)
        what = f"{_FORMATS[log.format]} files" if log.path else "a table of the catalog"
        raise DataError(
            f"{name}.{'path' if log.path else 'table'}", expected=what, found=f"{found} ({log.source})"
        ) from None


def named(column: str) -> Column:
    """The column of exactly this name: without the quotes Spark takes `agent.name` for a field of a struct."""
    return F.col(_quoted(column))


def filed_on(day_column: str) -> Column:
    """The day that a row is filed under, YYYY-MM-DD; null where the column has something else."""
    filed = named(day_column).cast("string")
    return F.when(F.to_date(filed, DAY_PATTERN).isNotNull(), filed)


def within(filed: Column, days: tuple[str, str]) -> Column:
    """Whether a row is filed under one of some days, the first and the last given, or under none."""
    return filed.isNull() | filed.between(F.lit(days[0]), F.lit(days[1]))


def _quoted(column: str) -> str:
    return "`" + column.replace("`", "``") + "`"


def _said(error: AnalysisException) -> str:
    return str(error).strip().splitlines()[0]


def _parquet(spark: SparkSession, name: str, log: Log, days: tuple[str, str] | None) -> DataFrame:
    """Parquet: columns from the first file or, where that cannot be read, from the next of a few that can."""
    try:
        return spark.read.parquet(log.source)
    except AnalysisException:
        raise
    except SPARK_FAILED as error:
        _, files, ours = _listed(spark, log, days)
        for path in _globs(_some(ours or files)):
            with contextlib.suppress(*SPARK_FAILED):
                columns = spark.read.parquet(path).schema
                warning = "the first file cannot be read: the columns are another one's"
                logger.warning(warning, log=name, error=str(failures.explained(error)))
                return spark.read.schema(columns).parquet(log.source)
        raise


def _text(spark: SparkSession, name: str, log: Log, time_zone: str, names: Sequence[str]) -> DataFrame:
    """CSV or JSON, names from the files, types from the config: an inferred type changes with the day's data."""
    reader = spark.read.format(log.format).options(
        header=True, enforceSchema=False, columnPruning=False, columnNameOfCorruptRecord=_UNREADABLE,
        timeZone=time_zone,
    )  # fmt: skip
    unknown = next((column for column in log.types if column not in names), None)
    if unknown is not None:
        raise ConfigError(f"{name}.types", expected=f"columns of {log.source}", found=f"'{unknown}'")
    types = {column: log.types.get(column, "string") for column in names}
    fields = ", ".join(
        f"{_quoted(column)} {kind}" for column, kind in [*types.items(), (_UNREADABLE, "string")]
    )
    frame = reader.schema(fields).load(log.source)
    # Spark's own FAILFAST does not say in which file; columns that nobody reads would hide how many a row has.
    said = ", ".join(f"{column} {kind}" for column, kind in types.items() if column != log.day_column)
    line = F.substring(_UNREADABLE, 1, _SHOWN)
    complaint = F.concat("_metadata.file_path", F.lit(f": expected rows of {said}, found "), line)
    refused = F.when(F.col(_UNREADABLE).isNotNull(), F.raise_error(complaint).cast("boolean"))
    # Whether a log is empty asks for no column, and Spark refuses to read none but this one of its own.
    also = named(next(iter(types), _UNREADABLE)).isNull()
    return frame.where(F.coalesce(refused, F.lit(True)) | also).drop(_UNREADABLE)


def _in_csv(spark: SparkSession, log: Log, days: tuple[str, str] | None) -> list[str]:
    """The columns of CSV: of the first line of all, or of the days."""
    reader = spark.read.format("csv").options(header=True)
    if days is None:
        return _told(reader, [log.source], log)
    lines, files, ours = _listed(spark, log, days)
    found = _told(reader, _globs(_some(ours or files)), log)
    return [name for name in dict.fromkeys([*found, *lines.columns]) if name != _UNREADABLE]


def _in_json(
    spark: SparkSession,
    log: Log,
    columns: Collection[str],
    optional: Collection[str],
    days: tuple[str, str] | None,
) -> list[str]:
    """The columns of JSON: of a few files, those with a type, and what else is asked for and is in any file.

    Spark would read all files: of each run for a day, a year of logs. But a writer that leaves nulls out, as Spark's
    does, may have left a rare column out of each of the few.
    """
    lines, files, ours = _listed(spark, log, days)
    few = _some(ours or files)
    reader = spark.read.format("json").options(primitivesAsString=True, columnNameOfCorruptRecord=_UNREADABLE)
    found = _told(reader, _globs(few), log)
    names = dict.fromkeys([*found, *lines.columns, *log.types])
    of_days = lines
    if days is not None and log.day_column is not None and log.day_column in lines.columns:
        of_days = lines.where(within(filed_on(log.day_column), days))
    for part, unread, wanted in (
        (of_days, {*ours}.difference(few), [*columns, *optional]),
        (lines, {*files}.difference(few, ours), columns),
    ):
        missing = [column for column in wanted if column not in names]
        if missing and unread:
            keys = part.select(F.explode(F.json_object_keys(_UNREADABLE)).alias("key"))
            rows = keys.where(F.col("key").isin(missing)).distinct().collect()
            names |= dict.fromkeys(sorted(row["key"] for row in rows))
    del names[_UNREADABLE]
    return [*names]


def _told(reader: DataFrameReader, paths: list[str], log: Log) -> list[str]:
    """The columns of those of some files that can be read; where they tell of none, those of all, or why not."""
    return (
        reader.option("ignoreCorruptFiles", True).load(paths or [log.source]).columns
        or reader.option("ignoreCorruptFiles", False).load(log.source).columns
    )


class _Listing(NamedTuple):
    """The files of a log."""

    lines: DataFrame
    """Their lines as text in a column _UNREADABLE, and the columns of their directories; nothing is read for it."""
    files: list[str]
    """All of them, as Spark lists them."""
    ours: list[str]
    """Those that directories file under days that matter; all, where directories say no days or all days matter."""


def _listed(spark: SparkSession, log: Log, days: tuple[str, str] | None) -> _Listing:
    reader = spark.read.schema(f"{_UNREADABLE} string").option("ignoreCorruptFiles", True)
    lines = reader.text(log.source)
    files = sorted(lines.inputFiles())
    if days is None or log.day_column is None or log.day_column not in lines.columns:
        return _Listing(lines, files, files)
    day = re.compile(rf"/{re.escape(log.day_column)}=([^/]*)/")
    filed = ((file, day.search(unquote(file))) for file in files)
    return _Listing(lines, files, [file for file, found in filed if found and days[0] <= found[1] <= days[1]])


def _some(files: Sequence[str]) -> list[str]:
    """FILES of the files, spread evenly, the first and the last among them; all, where there are fewer."""
    most = FILES - 1
    return sorted({files[place * (len(files) - 1) // most] for place in range(FILES) if files})


def _globs(files: Sequence[str]) -> list[str]:
    """Files as Spark takes them, which are globs; as it lists them, they are quoted as in addresses."""
    return [re.sub(r"([\\*?{}\[\]])", r"\\\1", unquote(file)) for file in files]
