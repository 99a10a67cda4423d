"""Pointers and claims in the catalog of a Spark session: a Hive metastore that jobs share.

    pointers = CatalogPointers(spark, "ads.samples", "/data/esmm/samples", comments, columns)
    pointers.point(day, run)        # alter table … partition (ds = '…') set location '…/run=RUN/ds=DAY'
    claims = CatalogClaims(spark, "ads.samples", "/data/esmm/samples")
    claims.add("2026-03-25", 1, claim)      # alter table ads.esmm_claims add partition (…, number = '000001')

One call to the metastore points a day at another directory; a query has the old location or the new one from its
plan on. `set location` lets two runs win, the last one for good, whereas of two that add the same partition one
fails: so days are claimed by adding partitions, to one table of claims a database. A claim's holder is its
partition's location, the one value that comes with the partition in the same call.

The names of tables are the config's, of letters, digits and underscores; what else goes into a statement is
written as a literal by `_text`, since Spark binds no parameters in these statements.
"""

import datetime as dt
import re
from collections.abc import Mapping

from pyspark.errors import AnalysisException
from pyspark.sql import Row, SparkSession

from esmm.claims import Claim
from esmm.errors import DataError
from esmm.pointers import day_of, directory, run_of
from esmm.schema import DAY

CLAIMS = "esmm_claims"
"""The table of claims of a database."""

_TIME = "%Y%m%dT%H%M%S.%fZ"


class CatalogPointers:
    """The partitions of an external Parquet table, each at the directory of the run that counts."""

    def __init__(
        self,
        spark: SparkSession,
        name: str,
        root: str,
        comments: Mapping[str, str],
        columns: Mapping[str, str] | None = None,
    ) -> None:
        """Pointers of a table that need not be there yet.

        Args:
            spark: a session whose catalog is the one that readers use.
            name: the table, DATABASE.TABLE.
            root: the address of the table's directory.
            comments: column to what the table is to say of it.
            columns: column to Spark type, where that is known before the files are.
        """
        self._spark, self._root = spark, root
        self._comments, self._columns = comments, columns
        self.catalog: str | None = name
        self._name = name

    def check(self) -> None:
        """Raise DataError where there is no such database, or the table does not fit the columns."""
        database = self._name.partition(".")[0]
        if not self._spark.catalog.databaseExists(database):
            raise DataError(self._name, expected=f"a database {database} in the catalog", found="none")
        if self._exists():
            self._added(self._table() if self._columns is None else self._columns)

    def days(self) -> list[dt.date]:
        """The days that are published, in order."""
        if not self._exists():
            return []
        rows = _run(self._spark, self._name, f"show partitions {self._name}")
        return sorted(day for row in rows if (day := day_of(row["partition"])) is not None)

    def run(self, day: dt.date) -> str | None:
        """The run that the day is pointed at; raises DataError where its location is no run's."""
        location = _location(self._spark, self._name, f"{DAY} = '{day}'")
        run = run_of(location, day)
        if location and run is None:
            expected = f"a partition at {directory('RUN', day)}"
            raise DataError(f"{self._name}/{DAY}={day}", expected=expected, found=location)
        return run

    def point(self, day: dt.date, run: str) -> None:
        """Point the day at what a run has written for it; the table is made where it is missing.

        Columns that the files have and the table lacks are added to it: null in earlier days. Raises DataError
        where a column of the table is missing in the files, or of another type there.
        """
        location = f"{self._root}/{directory(run, day)}"
        files = self._spark.read.parquet(location)
        written = {field.name: field.dataType.simpleString() for field in files.schema}
        if not self._exists():
            self._create(written)
        self._add(self._added(written))
        partition, where = f"partition ({DAY} = '{day}')", f"location {_text(location)}"
        change = f"add {partition} {where}" if self.run(day) is None else f"{partition} set {where}"
        _run(self._spark, self._name, f"alter table {self._name} {change}")

    def remove(self, day: dt.date) -> None:
        """Make the day one that is not published; the table is an external one, so that the files stay."""
        _run(self._spark, self._name, f"alter table {self._name} drop if exists partition ({DAY} = '{day}')")

    def _exists(self) -> bool:
        return self._spark.catalog.tableExists(self._name)

    def _create(self, columns: Mapping[str, str]) -> None:
        defined = [*self._defined(columns), f"{DAY} string comment 'the day, YYYY-MM-DD'"]
        by = f"partitioned by ({DAY}) location {_text(self._root)}"
        _create(self._spark, self._name, f"({', '.join(defined)}) using parquet {by}")

    def _add(self, columns: Mapping[str, str]) -> None:
        if not columns:
            return
        try:
            added = ", ".join(self._defined(columns))
            _run(self._spark, self._name, f"alter table {self._name} add columns ({added})")
        except DataError:
            if self._added(columns):  # else the run of another day has added them
                raise

    def _defined(self, columns: Mapping[str, str]) -> list[str]:
        return [
            f"`{name}` {kind} comment {_text(self._comments.get(name, ''))}" for name, kind in columns.items()
        ]

    def _table(self) -> dict[str, str]:
        """The table's columns and their types, but for the day; raises DataError where there are other partitions."""
        found = self._spark.catalog.listColumns(self._name)
        by = [column.name for column in found if column.isPartition]
        if by != [DAY]:
            expected = f"a table partitioned by {DAY}"
            raise DataError(self._name, expected=expected, found=", ".join(by) or "none")
        return {column.name: column.dataType for column in found if not column.isPartition}

    def _added(self, columns: Mapping[str, str]) -> dict[str, str]:
        """The columns that the table lacks; raises DataError where it cannot hold the others."""
        table = self._table()
        for name, kind in table.items():
            if name not in columns:
                expected = "no such column, since the config has none"
            elif columns[name] != kind:
                expected = f"{columns[name]}, as the config has it"
            else:
                continue
            raise DataError(f"{self._name}.{name}", expected=expected, found=kind)
        return {name: kind for name, kind in columns.items() if name not in table}


class CatalogClaims:
    """Claims on the days of one table, as partitions of DATABASE.esmm_claims.

    The partition's values are the table, the day and the claim's number, so that one of two runs that add the
    same one fails, on any metastore. Its location is an empty directory `_claims/RUN~HOST~PID~TIME` below the
    table's, which goes when the partition does.
    """

    def __init__(self, spark: SparkSession, name: str, root: str) -> None:
        self._spark, self._root, self._table = spark, root, name
        self.name = name
        self._claims = f"{name.partition('.')[0]}.{CLAIMS}"

    def keys(self) -> list[str]:
        """All days that are claimed."""
        return sorted({day for day, _ in self._partitions(f"table_name = '{self._table}'")})

    def holders(self, key: str) -> dict[int, Claim]:
        """The claims on a day by number; one that cannot be read is held by someone."""
        found = {}
        for _, number in self._partitions(f"table_name = '{self._table}', {DAY} = '{key}'"):
            location = _location(self._spark, self._claims, self._partition(key, number))
            if location:  # else given up since it was listed
                found[number] = _holder(location)
        return found

    def add(self, key: str, number: int, claim: Claim) -> None:
        """Make a claim; raises FileExistsError where the number is taken."""
        columns = f"note string, table_name string, {DAY} string, number string"
        by = f"partitioned by (table_name, {DAY}, number)"
        _create(self._spark, self._claims, f"({columns}) using parquet {by}")
        holder = f"{claim.run}~{claim.host}~{claim.pid}~{claim.at.astimezone(dt.UTC):{_TIME}}"
        partition = (
            f"partition ({self._partition(key, number)}) location {_text(f'{self._root}/_claims/{holder}')}"
        )
        try:
            self._spark.sql(f"alter table {self._claims} add {partition}")
        except AnalysisException as error:
            if error.getErrorClass() == "PARTITIONS_ALREADY_EXIST":
                raise FileExistsError(f"{self._claims}: {self._partition(key, number)}") from None
            raise _refused(self._claims, error) from None

    def remove(self, key: str, number: int) -> None:
        """Remove a claim, where it is there."""
        partition = self._partition(key, number)
        _run(self._spark, self._claims, f"alter table {self._claims} drop if exists partition ({partition})")

    def _partition(self, key: str, number: int) -> str:
        return f"table_name = '{self._table}', {DAY} = '{key}', number = '{number:06d}'"

    def _partitions(self, partition: str) -> list[tuple[str, int]]:
        """Day and number of the claims of a part of the table."""
        if not self._spark.catalog.tableExists(self._claims):
            return []
        rows = _run(self._spark, self._claims, f"show partitions {self._claims} partition ({partition})")
        found = [re.fullmatch(rf".*/{DAY}=(.*)/number=(\d+)", row["partition"]) for row in rows]
        return [(match[1], int(match[2])) for match in found if match]


def _holder(location: str) -> Claim:
    try:
        run, host, pid, at = location.rpartition("/")[2].split("~")
        made = dt.datetime.strptime(at, _TIME).replace(tzinfo=dt.UTC)
        return Claim(run=run, host=host, pid=int(pid), at=made)
    except ValueError:
        return Claim(run="unknown", host="unknown", pid=0, at=dt.datetime.now(dt.UTC))


def _location(spark: SparkSession, table: str, partition: str) -> str:
    """Where a partition is; empty where there is no such partition, or no such table."""
    try:
        rows = spark.sql(f"describe extended {table} partition ({partition})").collect()
    except AnalysisException as error:
        if error.getErrorClass() in ("PARTITIONS_NOT_FOUND", "TABLE_OR_VIEW_NOT_FOUND"):
            return ""
        raise _refused(table, error) from None
    names = [row["col_name"] for row in rows]
    start = names.index("# Detailed Partition Information")  # a column may be called Location, too
    return str(rows[names.index("Location", start)]["data_type"])


def _create(spark: SparkSession, table: str, definition: str) -> None:
    """Make a table that may be there; Spark looks first, so that of two runs that make it one can fail."""
    try:
        _run(spark, table, f"create table if not exists {table} {definition}")
    except DataError:
        if not spark.catalog.tableExists(table):
            raise


def _run(spark: SparkSession, table: str, statement: str) -> list[Row]:
    try:
        return spark.sql(statement).collect()
    except AnalysisException as error:
        raise _refused(table, error) from None


def _refused(table: str, error: AnalysisException) -> DataError:
    found = str(error).strip().partition("\n")[0]
    return DataError(table, expected="a catalog that carries this out", found=found)


def _text(value: str) -> str:
    """A string literal of Spark SQL."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
