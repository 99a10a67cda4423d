"""A log of the config, opened: files or a table of the catalog, to a frame with the log's own columns.

    opened(spark, "logs.clicks", Log(path="logs/clicks", format="csv", types={"item_id": "bigint"}), "Europe/Paris")

Nothing but names and types is read before the frame is used: the header of a CSV, a Parquet file's footer, and of
JSON, which has neither, FILES files spread evenly over all of them, however many there are. A line of text that is
no row of its file's columns then ends the query with an error that says so in the words of `esmm.errors`:

    file:/logs/clicks/a.csv: expected rows of user_id string, item_id bigint, found 4,five
"""

import re
from urllib.parse import unquote

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm.config import Log
from esmm.errors import ConfigError, DataError

FILES = 10
"""How many files of JSON are read for the names of its columns; a column that only others have is there by its type."""

_FORMATS = {"parquet": "Parquet", "csv": "CSV", "json": "JSON"}
_UNREADABLE = "_unreadable"  # where Spark puts a line that is no row
_SHOWN = 200  # characters of such a line that a message shows


def opened(spark: SparkSession, name: str, log: Log, time_zone: str) -> DataFrame:
    """The rows of a log; `name` is where it stands in the config, such as `logs.clicks`.

    Text that the config's types make timestamps of is of `time_zone`, where it does not say its own. Raises
    DataError where there is no such file or table or it cannot be opened, ConfigError where the config gives
    types to columns that are not there.
    """
    try:
        if log.path is None:
            return spark.table(log.source)
        return spark.read.parquet(log.path) if log.format == "parquet" else _text(spark, name, log, time_zone)
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


def _quoted(column: str) -> str:
    return "`" + column.replace("`", "``") + "`"


def _said(error: AnalysisException) -> str:
    return str(error).strip().splitlines()[0]


def _text(spark: SparkSession, name: str, log: Log, time_zone: str) -> DataFrame:
    """CSV or JSON, names from the files, types from the config: an inferred type changes with the day's data."""
    reader = spark.read.format(log.format).options(
        header=True, enforceSchema=False, columnPruning=False, columnNameOfCorruptRecord=_UNREADABLE,
        timeZone=time_zone,
    )  # fmt: skip
    paths, others = ([log.source], []) if log.format == "csv" else _some_files(spark, log)
    found = reader.option("primitivesAsString", True).load(paths).schema.names
    names = [column for column in dict.fromkeys([*found, *others]) if column != _UNREADABLE]
    unknown = next((column for column in log.types if column not in names), None)
    if unknown is not None:
        raise ConfigError(f"{name}.types", expected=f"columns of {log.source}", found=f"'{unknown}'")
    types = {column: log.types.get(column, "string") for column in names}
    fields = ", ".join(
        f"{_quoted(column)} {kind}" for column, kind in [*types.items(), (_UNREADABLE, "string")]
    )
    frame = reader.schema(fields).load(log.source)
    # Spark's own FAILFAST does not say in which file; columns that nobody reads would hide how many a row has.
    columns = ", ".join(f"{column} {kind}" for column, kind in types.items() if column != log.day_column)
    line = F.substring(_UNREADABLE, 1, _SHOWN)
    complaint = F.concat("_metadata.file_path", F.lit(f": expected rows of {columns}, found "), line)
    refused = F.when(F.col(_UNREADABLE).isNotNull(), F.raise_error(complaint).cast("boolean"))
    # Whether a log is empty asks for no column, and Spark refuses to read none but this one of its own.
    also = named(next(iter(types), _UNREADABLE)).isNull()
    return frame.where(F.coalesce(refused, F.lit(True)) | also).drop(_UNREADABLE)


def _some_files(spark: SparkSession, log: Log) -> tuple[list[str], list[str]]:
    """Files of JSON to learn its columns from, and the columns to be had without: of directories, and with a type.

    Spark would read all files: of each run for a day, a year of logs.
    """
    listed = spark.read.schema(f"{_UNREADABLE} string").text(log.source)  # reads no file
    files, most = sorted(listed.inputFiles()), FILES - 1
    some = {files[place * (len(files) - 1) // most] for place in range(FILES) if files}
    # As Spark lists them, they are quoted as in addresses; as it takes them, they are globs.
    paths = [re.sub(r"([\\*?{}\[\]])", r"\\\1", unquote(file)) for file in sorted(some)]
    return paths or [log.source], [*listed.schema.names, *log.types]
