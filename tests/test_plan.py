"""Reading plans: what is found, who reads what, and what is refused before anything is read."""

import datetime as dt
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esmm.config import Config
from esmm.errors import ConfigError, DataError
from esmm.plan import ReadingPlan, make_plan
from esmm.publish import Table
from esmm.rowgroups import RowGroup
from esmm.schema import Column, Role, arrow_schema, sample_columns
from tests.sample_files import COLUMNS, table, with_column, write, write_tables

DAY = dt.date(2026, 3, 25)
NEXT_DAY = dt.date(2026, 3, 26)


def publish(root: str, day: dt.date, *row_groups: tuple[int, ...]) -> Table:
    published = Table(root)
    for number, groups in enumerate(row_groups):
        write(f"{published.stage('a')}/ds={day}/part-{number}.parquet", groups)
    published.publish(day, "a", config="digest")
    return published


@pytest.fixture(params=["file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{'file' if request.param == 'file' else 'memory'}://{tmp_path}/samples"


def test_a_table_is_planned_from_its_manifests(root: str) -> None:
    published = publish(root, DAY, (3, 2), (4,))
    publish(root, NEXT_DAY, (6,))
    write(f"{published.stage('a')}/ds={DAY}/part-9.parquet", (100,))  # in no manifest
    assert make_plan(root, None, COLUMNS).rows == 15
    plan = make_plan(root, [DAY, DAY], COLUMNS)
    assert [(group.index, group.rows) for group in plan.row_groups] == [(0, 3), (1, 2), (0, 4)]
    fs, _ = fsspec.core.url_to_fs(root)
    for group in plan.row_groups:
        assert group.bytes == fs.size(group.url)


@pytest.mark.parametrize(
    "what", ["", "/ds=2026-03-25", "/ds=2026-03-25/b.parquet", "/*/[bc].parquet", "/ds*"]
)
def test_directories_globs_and_files_are_planned_from_footers(root: str, what: str) -> None:
    write(f"{root}/ds=2026-03-25/b.parquet", (3, 0, 2))
    if "b.parquet" not in what:
        write(f"{root}/ds=2026-03-25/c.parquet", (4,))
    for other in ("_temporary/0/d.parquet", "ds=2026-03-25/.hidden.parquet", "ds=2026-03-25/_SUCCESS"):
        write(f"{root}/{other}", (100,))
    plan = make_plan(f"{root}{what}", None, COLUMNS)
    rows = [3, 2] if "b.parquet" in what else [3, 2, 4]
    assert [group.rows for group in plan.row_groups] == rows
    fs, path = fsspec.core.url_to_fs(f"{root}/ds=2026-03-25/b.parquet")
    assert plan.row_groups[1] == RowGroup(fs.unstrip_protocol(path), fs.size(path), 2, 2)


def test_a_plan_is_the_same_from_its_file(root: str) -> None:
    plan = make_plan(write(f"{root}/a.parquet", (3, 2)), None, COLUMNS)
    plan.dump(f"{root}/plan.json")
    assert make_plan(f"{root}/plan.json", None, COLUMNS) == plan == ReadingPlan.load(f"{root}/plan.json")
    assert plan.columns["clicked_seller"] == "list<int64>"


@pytest.mark.parametrize(("text", "found"), [("{", "Invalid JSON"), ("{}", "Field required"),
    ('{"columns": {}, "files": [{"url": "a", "bytes": 0, "row_groups": []}]}', "files.0.bytes"),
    ('{"columns": {}, "files": [], "epochs": 1}', "epochs")])  # fmt: skip
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"plan.json: expected a reading plan, found .*{found}"):
        make_plan(str(path), None, COLUMNS)


def test_the_configs_columns_fit_files_of_its_schema(config: Config, tmp_path: Path) -> None:
    filled = {
        column.name: pa.array([0 if column.length is None else [0] * column.length], column.arrow.type)
        for column in sample_columns(config)
    }
    assert pa.table(filled).schema == arrow_schema(config)
    pq.write_table(pa.table(filled), tmp_path / "a.parquet")
    assert make_plan(str(tmp_path), None, sample_columns(config)).rows == 1


def test_nothing_to_read_is_an_error(root: str) -> None:
    with pytest.raises(DataError, match="samples: expected Parquet files with rows, found no row in 0 files"):
        make_plan(root, None, COLUMNS)
    write(f"{root}/a.parquet", (0,))
    with pytest.raises(DataError, match="expected Parquet files with rows, found no row in 1 files"):
        make_plan(root, None, COLUMNS)
    with pytest.raises(DataError, match=r"none\.json: expected a reading plan, found no file"):
        make_plan(f"{root}/none.json", None, COLUMNS)


def test_what_a_run_staged_is_not_read(root: str) -> None:
    write(f"{Table(root).stage('dead')}/ds={DAY}/part-0.parquet", (3,))
    with pytest.raises(DataError, match="samples: expected a published day, found none"):
        make_plan(root, None, COLUMNS)


def test_days_are_those_of_a_table(root: str) -> None:
    write(f"{root}/plain/a.parquet", (3,))
    with pytest.raises(ConfigError, match="plain: expected a table, since days are asked for, found none"):
        make_plan(f"{root}/plain", [DAY], COLUMNS)
    publish(root, DAY, (3,))
    with pytest.raises(DataError, match="ds=2026-03-26: expected a published day, found no manifest"):
        make_plan(root, [DAY, NEXT_DAY], COLUMNS)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": "seller"}, "expected int64, found no column"),
    ({"name": "seller", "type": pa.int32()}, "expected int64, found int32"),
    ({"name": "seller", "type": pa.list_(pa.int64())}, "expected int64, found list<int64>"),
    ({"name": "click", "type": pa.bool_()}, "expected int8, found bool"),
    ({"name": "price", "type": pa.float64()}, "expected float, found double"),
    ({"name": "price", "type": pa.decimal128(9, 2)}, r"expected float, found decimal128\(9, 2\)"),
    ({"name": "clicked_seller", "type": pa.int64()}, "expected list<int64>, found int64"),
    ({"name": "clicked_weight", "type": pa.list_(pa.float64())}, "expected list<float>, found list<double>"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
@pytest.mark.parametrize("kind", ["table", "directory", "plan"])
def test_a_wrong_column_is_named_before_anything_is_read(
    tmp_path: Path, kind: str, wrong: dict[str, Any], message: str
) -> None:
    name = wrong["name"]
    samples = table(0, 2).drop_columns([name])
    if "type" in wrong:
        samples = samples.append_column(name, pa.nulls(2, wrong["type"]))
    if kind == "table":
        published = Table(str(tmp_path))
        write_tables(f"{published.stage('a')}/ds={DAY}/part-0.parquet", [samples])
        published.publish(DAY, "a", config="digest")
        place, where = tmp_path, "ds=2026-03-25"
    else:
        write(str(tmp_path / "a.parquet"), (2,))
        write_tables(str(tmp_path / "b.parquet"), [samples])
        place, where = tmp_path, "b.parquet"
    if kind == "plan":
        others = [column for column in COLUMNS if column.name != name]
        make_plan(str(tmp_path), None, others).dump(str(tmp_path / "plan.json"))
        place, where, message = tmp_path / "plan.json", "plan.json", "found no column"
    with pytest.raises(DataError, match=rf"{where}, column {name}: .*{message}$"):
        make_plan(str(place), None, COLUMNS)


def test_a_list_is_the_same_whoever_wrote_it(tmp_path: Path) -> None:
    """Spark calls the entries `element`, pyarrow `item`, and either may say that there is no null."""
    for number, field in enumerate(
        [pa.field("element", pa.int64()), pa.field("item", pa.int64(), nullable=False)]
    ):
        lists = pa.array([[1, 2, 3]], pa.list_(field))
        write_tables(str(tmp_path / f"{number}.parquet"), [with_column(table(0, 1), "clicked_seller", lists)])
    plan = make_plan(str(tmp_path), None, COLUMNS)
    assert plan.columns["clicked_seller"] == "list<int64>"
    with pytest.raises(DataError, match=r"0\.parquet, column brand: expected int64, found no column"):
        make_plan(str(tmp_path), None, [*COLUMNS, Column("brand", "int64", Role.FEATURE)])


def test_a_file_that_is_not_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"user_id,click\n1,0\n")
    with pytest.raises(DataError, match=r"a\.parquet: expected a readable Parquet file, found .*footer"):
        make_plan(str(tmp_path), None, COLUMNS)


def cut_short(path: Path) -> str:
    os.truncate(path, 100)
    return r"expected \d+ bytes, as planned|readable Parquet file"


def another_schema(path: Path) -> str:
    write_tables(str(path), [with_column(table(0, 3), "seller", pa.array([1.0, 2.0, 3.0]))])
    return "column seller: expected int64, found double"


def other_rows(path: Path) -> str:
    write(str(path), (4,))
    return r"expected .* as planned"


def null_id(path: Path) -> str:
    write_tables(str(path), [with_column(table(0, 3), "seller", pa.array([1, None, 3], pa.int64()))])
    return "column seller: expected no null, found 3 values and 1 nulls in 3 rows of row group 0"


def short_list(path: Path) -> str:
    lists = pa.array([[1, 2, 3], [1, 2], [1, 2, 3]], pa.list_(pa.int64()))
    write_tables(str(path), [with_column(table(0, 3), "clicked_seller", lists)])
    return "column clicked_seller: expected lists of 3 without nulls, found 8 values and 0 nulls in 3 rows"


def gone(path: Path) -> str:
    path.unlink()
    return "expected a Parquet file, found no file"


@pytest.mark.parametrize("harm", [cut_short, another_schema, other_rows, null_id, short_list, gone])
@pytest.mark.parametrize("kind", ["table", "plan", "directory"])
def test_a_file_that_breaks_the_contract_is_named_before_training(
    tmp_path: Path, kind: str, harm: Callable[[Path], str]
) -> None:
    place = tmp_path
    if kind == "table":
        published = publish(str(tmp_path), DAY, (3,), (3,))
        path = Path(published.stage("a").removeprefix("file://"), f"ds={DAY}", "part-1.parquet")
    else:
        path = tmp_path / "part-1.parquet"
        write(str(path), (3,))
        write(str(tmp_path / "part-0.parquet"), (3,))
    if kind == "plan":
        place = tmp_path / "plan.json"
        make_plan(str(tmp_path), None, COLUMNS).dump(str(place))
    message = harm(path)
    if kind == "directory" and harm in (other_rows, gone):
        return  # a directory is what it is
    with pytest.raises(DataError, match=rf"part-1\.parquet.*({message})"):
        make_plan(str(place), None, COLUMNS)


class Payload:
    """What unpickling runs: it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["", "ds=2026-03-25/"])
@pytest.mark.parametrize("kind", ["table", "directory", "plan"])
def test_common_metadata_is_refused_and_not_run(tmp_path: Path, kind: str, place: str) -> None:
    root, marker, given = tmp_path / "samples", tmp_path / "was-run", str(tmp_path / "samples")
    if kind == "table":
        publish(str(root), DAY, (3,))
        place = place and f"run=a/{place}"
    else:
        write(str(root / "ds=2026-03-25/a.parquet"), (3,))
    if kind == "plan":
        plan, given = make_plan(given, None, COLUMNS), str(tmp_path / "plan.json")
        plan.dump(given)
    payload = pickle.dumps(Payload(marker))
    schema = table(0, 1).schema.with_metadata({b"dataset-toolkit.unischema.v1": payload})
    pq.write_metadata(schema, root / f"{place}_common_metadata")
    with pytest.raises(
        DataError, match="_common_metadata: expected no such file, since opening it can run code"
    ):
        make_plan(given, None, COLUMNS)
    assert not marker.exists()
    pickle.loads(payload)
    assert marker.exists()
