"""Pointers and claims as partitions of a catalog, here the session's own; a real metastore is in the slow tests."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm import samples, schema, tables
from esmm.catalog import CatalogClaims, CatalogPointers
from esmm.claims import Claim
from esmm.config import Config, parse
from esmm.errors import ConfigError, ConflictError, DataError
from esmm.outline import outline
from esmm.publish import Table
from tests.test_publish import DAY

OTHER = dt.date(2026, 3, 26)


@pytest.fixture
def database(spark: SparkSession, tmp_path: Path) -> Iterator[str]:
    spark.sql(f"create database ads location '{tmp_path}/warehouse'")
    yield "ads"
    spark.sql("drop database ads cascade")


@pytest.fixture
def table(spark: SparkSession, database: str, tmp_path: Path) -> Table:
    return opened(spark, f"{tmp_path}/it's samples")


def opened(spark: SparkSession, root: str, columns: dict[str, str] | None = None) -> Table:
    url, comments = Table(root).url(), {"value": "what it's worth"}
    pointers = CatalogPointers(spark, "ads.samples", url, comments, columns)
    return Table(root, pointers, CatalogClaims(spark, "ads.samples", url))


def publish(table: Table, run: str, day: dt.date = DAY, **columns: pa.Array) -> None:
    directory = Path(table.path) / f"run={run}/ds={day}"
    directory.mkdir(parents=True)
    pq.write_table(pa.table(columns), directory / "part-0.parquet")
    table.publish(day, run, config="digest")


def longs(*values: int) -> pa.Array:
    return pa.array(values, pa.int64())


def selected(spark: SparkSession) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in spark.sql("select * from ads.samples order by ds, value").collect()]


def test_a_day_is_pointed_at_one_run_after_the_other(spark: SparkSession, table: Table) -> None:
    assert table.days() == []
    with pytest.raises(DataError, match=r"found no manifest \(published: none\)"):
        table.manifest(DAY)
    publish(table, "a", value=longs(1))
    publish(table, "a", OTHER, value=longs(7))
    assert selected(spark) == [(1, "2026-03-25"), (7, "2026-03-26")]
    publish(table, "b", value=longs(2, 3))
    assert selected(spark) == [(2, "2026-03-25"), (3, "2026-03-25"), (7, "2026-03-26")]
    assert table.days() == [DAY, OTHER]
    manifest = table.manifest(DAY)
    assert (manifest.run, manifest.rows, manifest.catalog) == ("b", 2, "ads.samples")
    assert spark.read.parquet(*table.files([DAY, OTHER])).count() == 3
    assert Path(f"{table.path}/run=a/ds={DAY}/_replaced").read_text() == "b"
    table.withdraw(DAY)
    assert selected(spark) == [(7, "2026-03-26")]
    assert Path(f"{table.path}/run=b/ds={DAY}/_manifest.json").exists()


def test_the_table_is_made_with_its_comments_as_an_external_one(spark: SparkSession, table: Table) -> None:
    publish(table, "a", value=longs(1), entries=pa.array([[2]], pa.list_(pa.float32())))
    described = {row["col_name"]: row for row in spark.sql("describe extended ads.samples").collect()}
    assert tuple(described["value"])[1:] == ("bigint", "what it's worth")
    assert described["entries"]["data_type"] == "array<float>"
    assert described["ds"]["data_type"] == "string"
    assert described["Type"]["data_type"] == "EXTERNAL"
    spark.sql("drop table ads.samples")
    assert table.staged(DAY, "a")


def test_a_column_that_is_new_is_null_in_earlier_days(spark: SparkSession, table: Table) -> None:
    publish(table, "a", value=longs(1))
    publish(table, "b", OTHER, price=pa.array([0.5], pa.float32()), value=longs(2))
    assert selected(spark) == [(1, None, "2026-03-25"), (2, 0.5, "2026-03-26")]


@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        ("value", "int", "ads.samples.value: expected int, as the config has it, found bigint"),
        (
            "price",
            "float",
            "ads.samples.value: expected no such column, since the config has none, found bigint",
        ),
    ],
)
def test_a_table_of_other_columns_is_refused(
    spark: SparkSession, table: Table, name: str, kind: str, line: str
) -> None:
    publish(table, "a", value=longs(1))
    with pytest.raises(DataError) as caught:
        publish(table, "b", **{name: pa.array([2], {"int": pa.int32(), "float": pa.float32()}[kind])})
    assert str(caught.value) == line
    assert selected(spark) == [(1, "2026-03-25")]
    with pytest.raises(DataError) as caught, opened(spark, table.root, {name: kind}).claimed([DAY], "b"):
        pass
    assert str(caught.value) == line, "before the work, where the columns are known"


def test_a_table_of_other_partitions_is_refused(spark: SparkSession, table: Table) -> None:
    spark.sql("create table ads.samples (value bigint, day string) using parquet partitioned by (day)")
    with pytest.raises(DataError, match=r"^ads.samples: expected a table partitioned by ds, found day$"):
        with table.claimed([DAY], "a"):
            pass


@pytest.mark.parametrize("job", ["build", "dry run"])
def test_a_table_of_rejects_that_does_not_fit_is_refused_before_the_work(
    spark: SparkSession, database: str, config: Config, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are not even logs."""
    spark.sql("create table ads.samples_rejects (reason int, ds string) using parquet partitioned by (ds)")
    table = tables.rejects(config)
    pointers = CatalogPointers(spark, "ads.samples_rejects", table.url(), {}, {"reason": "string"})
    monkeypatch.setattr(tables, "rejects", lambda *_: Table(table.root, pointers))
    jobs = {
        "build": lambda: samples.build(spark, config, [DAY]),
        "dry run": lambda: next(outline(spark, config, [DAY])),
    }
    with pytest.raises(DataError) as caught:
        jobs[job]()
    assert str(caught.value) == "ads.samples_rejects.reason: expected string, as the config has it, found int"


def test_a_database_that_is_missing_is_named(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^ads.samples: expected a database ads in the catalog, found none$"):
        with opened(spark, f"{tmp_path}/samples").claimed([DAY], "a"):
            pass


def test_a_partition_that_no_run_wrote_is_not_touched(
    spark: SparkSession, table: Table, tmp_path: Path
) -> None:
    publish(table, "a", value=longs(1))
    spark.sql(f"alter table ads.samples partition (ds = '{DAY}') set location '{tmp_path}/mine'")
    with pytest.raises(DataError, match=rf"ads.samples/ds={DAY}: expected a partition at run=RUN/ds={DAY}"):
        publish(table, "b", value=longs(2))
    assert table.pointers.days() == [DAY]


def test_what_the_catalog_refuses_is_one_line(spark: SparkSession, table: Table) -> None:
    spark.sql("create view ads.samples as select 1 as value, 'x' as ds")
    with pytest.raises(DataError, match=r"^ads.samples: expected a ") as caught:
        publish(table, "a", value=longs(1))
    assert "\n" not in str(caught.value)


def test_a_second_run_for_the_day_is_a_conflict(spark: SparkSession, table: Table) -> None:
    with table.claimed([DAY], "a"):
        [claim] = table.claims.holders(str(DAY)).values()
        assert claim.run == "a"
        assert claim.model_dump(exclude={"run", "at"}) == Claim.of("a").model_dump(exclude={"run", "at"})
        assert abs(claim.at - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)
        with pytest.raises(ConflictError, match=r"^ads.samples/2026-03-25: .* no other run, found run a of"):
            with table.claimed([DAY], "b"):
                pass
        with table.claimed([OTHER], "c"):
            assert table.claims.keys() == ["2026-03-25", "2026-03-26"]
    assert table.claims.keys() == []
    assert not list(Path(table.path).glob("_claims/*"))


def test_a_dead_runs_claim_is_taken_over(spark: SparkSession, table: Table) -> None:
    dead = Claim.of("dead").model_copy(update={"pid": 2**22 + 1})
    table.claims.add(str(DAY), 1, dead)
    with pytest.raises(FileExistsError):
        table.claims.add(str(DAY), 1, Claim.of("late"))
    with table.claimed([DAY], "living"):
        assert {number: c.run for number, c in table.claims.holders(str(DAY)).items()} == {2: "living"}
    table.claims.remove(str(DAY), 7)


def test_a_claim_that_cannot_be_read_is_held(spark: SparkSession, table: Table, tmp_path: Path) -> None:
    with table.claimed([DAY], "a"):
        pass
    partition = f"table_name = 'ads.samples', ds = '{DAY}', number = '000001'"
    spark.sql(f"alter table ads.esmm_claims add partition ({partition}) location '{tmp_path}/x'")
    with pytest.raises(ConflictError, match="found run unknown"), table.claimed([DAY], "b"):
        pass


def test_claims_of_tables_of_a_database_do_not_meet(spark: SparkSession, table: Table) -> None:
    scores = Table(f"{table.root}.scores", claims=CatalogClaims(spark, "ads.scores", table.url()))
    with table.claimed([DAY], "a"), scores.claimed([DAY], "a"):
        assert (table.claims.keys(), scores.claims.keys()) == ([str(DAY)], [str(DAY)])


def test_every_column_has_a_comment(values: dict[str, Any]) -> None:
    values["statistics"] = {"taste": {"by": ["user", "brand"], "days": [1, 30]}}
    config = parse(values)
    comments = tables._sample_comments(config)
    assert comments.keys() == {column.name for column in schema.sample_columns(config)}
    assert all(comments.values())


def test_a_catalog_needs_a_session_with_a_metastore(
    spark: SparkSession, values: dict[str, Any], config: Config
) -> None:
    assert tables.samples(config).root == config.samples.table
    values["samples"]["catalog"] = "ads.samples"
    with pytest.raises(ConfigError, match=r"^samples.catalog: expected spark-submit.sh, or --samples"):
        tables.samples(parse(values))
    with pytest.raises(ConfigError, match=r"^samples.catalog: .* Hive metastore, found in-memory"):
        tables.rejects(parse(values), spark)
    assert tables.scores(parse(values)).pointers.catalog is None


@pytest.mark.parametrize("name", ["samples", "ads.samples; drop", "ads.", "Ads.samples", "a.b.c", "ads.`x`"])
def test_a_name_of_the_catalog_is_checked(values: dict[str, Any], name: str) -> None:
    values["scoring"]["catalog"] = name
    with pytest.raises(ConfigError, match=r"^scoring.catalog"):
        parse(values)
