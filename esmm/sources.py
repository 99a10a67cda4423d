"""A log of the config, opened: files or a table of the catalog, to a frame with the log's own columns.

    opened(spark, "logs.clicks", Log(path="logs/clicks", format="csv", types={"item_id": "bigint"}), "Europe/Paris")

Nothing but names and types is read before the frame is used: the header of a CSV, a Parquet file's footer, and of
JSON, which has neither, FILES files spread evenly over all of them, however many there are. Only where these lack a
column that is asked for, others are looked through for it. A line of text that is no row of its file's columns then
ends the query with an error that says so in the words of `esmm.errors`:

    file:/logs/clicks/a.csv: expected rows of user_id string, item_id bigint, found 4,five
"""

import re
from collections.abc import Collection, Sequence
from urllib.parse import unquote

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm.config import Log
from esmm.errors import ConfigError, DataError

FILES = 10
"""How many files of JSON are read for the names of its columns, where these have all that are asked for."""
DAY_PATTERN = "yyyy-MM-dd"
"""How a log's days are written, in Spark's letters."""

_FORMATS = {"parquet": "Parquet", "csv": "CSV", "json": "JSON"}
_UNREADABLE = "_unreadable"  # where Spark puts a line that is no row
_SHOWN = 200  # characters of such a line that a message shows


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
            return spark.read.parquet(log.path)
        names = _names_in_json(spark, log, columns, optional, days) if log.format == "json" else None
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


def _text(spark: SparkSession, name: str, log: Log, time_zone: str, names: Sequence[str] | None) -> DataFrame:
    """CSV or JSON, names from the files, types from the config: an inferred type changes with the day's data."""
    reader = spark.read.format(log.format).options(
        header=True, enforceSchema=False, columnPruning=False, columnNameOfCorruptRecord=_UNREADABLE,
        timeZone=time_zone,
    )  # fmt: skip
    if names is None:
        names = reader.load(log.source).columns
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


def _names_in_json(
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
    lines = spark.read.schema(f"{_UNREADABLE} string").text(log.source)  # reads no file
    files = sorted(lines.inputFiles())
    reader = spark.read.options(primitivesAsString=True, columnNameOfCorruptRecord=_UNREADABLE)
    found = reader.json(_some(files) or [log.source]).columns
    names = dict.fromkeys([*found, *lines.columns, *log.types])
    matters = F.lit(True)
    if days is not None and log.day_column is not None and log.day_column in lines.columns:
        matters = within(filed_on(log.day_column), days)
    for part, wanted in ((lines.where(matters), [*columns, *optional]), (lines, columns)):
        missing = [column for column in wanted if column not in names]
        if missing and len(files) > FILES:
            keys = part.select(F.explode(F.json_object_keys(_UNREADABLE)).alias("key"))
            rows = keys.where(F.col("key").isin(missing)).distinct().collect()
            names |= dict.fromkeys(sorted(row["key"] for row in rows))
    del names[_UNREADABLE]
    return [*names]


def _some(files: Sequence[str]) -> list[str]:
    """FILES of the files, spread evenly, the first and the last among them; all, where there are fewer."""
    most = FILES - 1
    some = {files[place * (len(files) - 1) // most] for place in range(FILES) if files}
    # As Spark lists them, they are quoted as in addresses; as it takes them, they are globs.
    return [re.sub(r"([\\*?{}\[\]])", r"\\\1", unquote(file)) for file in sorted(some)]
