"""Storages: samples read from memory and from a real S3 server, whose credentials are told to nobody."""

import datetime as dt
import json
import logging
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import boto3
import fsspec
import horovod.spark
import pyarrow as pa
import pytest
import s3fs
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.utils import infer_storage_options
from moto.server import ThreadedMotoServer
from structlog.testing import capture_logs

from esmm import config as configs
from esmm import layout, scoring, storage, udf
from esmm.config import Config
from esmm.dataset import read_batches, to_tf_dataset
from esmm.distributed import spark_ranks
from esmm.distributed.launch import Work
from esmm.epochs import Epoch
from esmm.errors import ConfigError, DataError, StorageError
from esmm.plan import make_plan
from esmm.publish import Table
from esmm.rowgroups import load
from tests.sample_files import COLUMNS, write

KEY, SECRET = "AKIAQWERTZUIOPASDFGH", "a-secret-that-nobody-may-see"
DAY = dt.date(2026, 3, 25)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server of this test's own."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        moto.stop()


@pytest.fixture(autouse=True)
def _options_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(fsspec.config, "conf", {})
    storage._opened.clear()
    yield
    storage._opened.clear()


@pytest.fixture
def options(server: str) -> dict[str, Any]:
    return {"s3": {"endpoint_url": server, "key": KEY, "secret": SECRET,
                   "client_kwargs": {"region_name": "us-east-1"}}}  # fmt: skip


@pytest.fixture
def bucket(server: str, request: pytest.FixtureRequest) -> str:
    name = request.node.name.replace("_", "-").replace("[", "-").replace("]", "")[:60].strip("-")
    client = boto3.client("s3", endpoint_url=server, aws_access_key_id=KEY, aws_secret_access_key=SECRET,
                          region_name="us-east-1")  # fmt: skip
    client.create_bucket(Bucket=name)
    return name


def read(url: str, days: list[dt.date] | None, ranks: int = 2) -> list[int]:
    epoch = Epoch(make_plan(url, days, COLUMNS), ranks=ranks, batch_size=16, seed=1)
    batches = [batch for rank in range(ranks) for batch in read_batches(epoch, COLUMNS, rank=rank)]
    return sorted(row for batch in batches for row in batch["user_id"][batch["weight"] > 0].tolist())


def test_a_table_is_written_to_and_read_from_s3(options: dict[str, Any], bucket: str) -> None:
    storage.configure(options)
    published = Table(f"s3://{bucket}/samples")
    for number in range(3):
        write(f"{published.stage('a')}/ds={DAY}/part-{number}.parquet", [20, 10], 30 * number)
    published.publish(DAY, "a", config="digest")
    assert read(published.root, [DAY]) == list(range(90))
    make_plan(published.root, [DAY], COLUMNS).dump(f"s3://{bucket}/plan.json")
    assert read(f"s3://{bucket}/plan.json", None) == list(range(90))
    text = fsspec.filesystem("s3").cat_file(f"{bucket}/plan.json").decode()
    manifest = published.manifest(DAY).model_dump_json()
    assert SECRET not in text + manifest
    assert KEY not in text + manifest


def test_files_in_s3_and_in_memory_are_read_as_tensors(options: dict[str, Any], bucket: str) -> None:
    storage.configure(options)
    for root in (f"s3://{bucket}/files", f"memory://{bucket}/files"):
        write(f"{root}/a.parquet", [20, 10])
        write(f"{root}/b.parquet", [7], 30)
        epoch = Epoch(make_plan(root, None, COLUMNS), batch_size=8, seed=1)
        for _ in range(2):
            tensors = list(to_tf_dataset(epoch, COLUMNS))
            rows = [n for b in tensors for n in b["user_id"].numpy()[b["weight"].numpy() > 0].tolist()]
            assert sorted(rows) == list(range(37))


def test_the_environments_options_count_besides(
    options: dict[str, Any], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    fsspec.config.set_conf_env(fsspec.config.conf, {"FSSPEC_S3_ENDPOINT_URL": options["s3"]["endpoint_url"]})
    storage.configure({"s3": {"client_kwargs": {"region_name": "us-east-1"}}})
    write(f"s3://{bucket}/a.parquet", [20])
    assert read(f"s3://{bucket}/a.parquet", None) == list(range(20))


def test_all_threads_share_one_storage(options: dict[str, Any]) -> None:
    """fsspec keeps one for each thread, of which an epoch starts new ones."""
    storage.configure(options)
    found: list[Any] = []
    for url in ("s3://a/b", "memory://a/b", "file:///a/b"):
        found.append(storage.at(url)[0])
        thread = threading.Thread(target=lambda url=url: found.append(storage.at(url)[0]))
        thread.start()
        thread.join()
        assert found[-1] is found[-2]


@pytest.mark.parametrize(("url", "path"), [
    ("memory://a/b", "/a/b"), ("file:///a/b", "/a/b"), ("/a/b", "/a/b"), ("s3://a/b", "a/b"),
    ("simplecache::memory://a/b", "/a/b"),
])  # fmt: skip
def test_paths_are_those_of_fsspec(url: str, path: str) -> None:
    fs, found = storage.at(url)
    assert found == path == fsspec.core.url_to_fs(url)[1]
    assert type(fs) is type(fsspec.core.url_to_fs(url)[0])
    assert storage.is_local(fs) == path.startswith("/a/b") * ("memory" not in url)


class Cluster(MemoryFileSystem):
    """As Hadoop's: an address says on which server, a path does not."""

    protocol = "cluster"
    stores: ClassVar[dict[str, tuple[dict[str, Any], list[str]]]] = {}

    def __init__(self, host: str = "default", **options: Any) -> None:
        super().__init__(**options)
        self.store, self.pseudo_dirs = self.stores.setdefault(host, ({}, [""]))

    @staticmethod
    def _get_kwargs_from_urls(url: str) -> dict[str, str]:
        host = infer_storage_options(url).get("host")
        return {"host": host} if host else {}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(infer_storage_options(path)["path"]).strip("/")


class Lake(Cluster):
    """As Azure's: a path begins with the container, which an address has before its server."""

    protocol = "lake"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        found = infer_storage_options(path)
        return f"{found.get('username', '')}{found['path']}".strip("/")


@pytest.mark.parametrize(
    "server", ["cluster://one:8020", "cluster://two", "simplecache::cluster://one", "lake://box@one"]
)
def test_files_are_read_from_the_server_of_the_address(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("cluster", Cluster, clobber=True)
    fsspec.register_implementation("lake", Lake, clobber=True)
    monkeypatch.setattr(Cluster, "stores", {})
    Cluster.clear_instance_cache()
    Lake.clear_instance_cache()
    written = server.removeprefix("simplecache::")
    published = Table(f"{written}/samples")
    assert published.stage("a") == f"{written}/samples/run=a"
    write(f"{published.stage('a')}/ds={DAY}/part-0.parquet", [20])
    published.publish(DAY, "a", config="digest")
    write(f"{written}/files/b.parquet", [30])
    places = [
        ("samples", [DAY], 20),
        ("files", None, 30),
        ("files/*.parquet", None, 30),
        ("files/b.parquet", None, 30),
    ]
    for place, days, rows in places:
        plan = make_plan(f"{server}/{place}", days, COLUMNS)
        assert all(file.url.startswith(f"{written}/{place.partition('/')[0]}/") for file in plan.files)
        assert read(f"{server}/{place}", days) == list(range(rows))


def test_a_storage_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^ftq://host/a: expected a storage that fsspec opens, found "):
        storage.at("ftq://host/a")
    storage.configure({"s3": {"config_kwarg": SECRET, "ssl": object()}})
    monkeypatch.setattr(s3fs.S3FileSystem, "__init__", lambda _, **given: int(str(given)))
    with pytest.raises(ConfigError, match=r"found ValueError when opened$"):
        storage.at("s3://bucket/a")


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(
        ConfigError, match=r"^ftp://host/a: expected passwords in the config's `storage`"
    ) as caught:
        storage.at(f"ftp://user:{SECRET}@host/a")
    assert SECRET not in str(caught.value)


def test_what_fails_in_s3_is_one_line_without_credentials(options: dict[str, Any], bucket: str) -> None:
    storage.configure(options)
    with pytest.raises(DataError, match="found no row in 0 files"):
        make_plan(f"s3://{bucket}/none", None, COLUMNS)
    write(f"s3://{bucket}/a.parquet", [20])
    plan = make_plan(f"s3://{bucket}/a.parquet", None, COLUMNS)
    fsspec.filesystem("s3").rm_file(f"{bucket}/a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: expected a Parquet file, found no file$"):
        list(read_batches(Epoch(plan, batch_size=4), COLUMNS))
    dead = {
        **options["s3"],
        "endpoint_url": "http://127.0.0.1:9",
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    storage.configure({"s3": dead})
    for action in (lambda: make_plan(f"s3://{bucket}/a.parquet", None, COLUMNS),
                   lambda: list(read_batches(Epoch(plan, batch_size=4), COLUMNS))):  # fmt: skip
        with pytest.raises(
            DataError, match=r"a\.parquet: expected a.* readable .*, found .*127\.0\.0\.1:9"
        ) as caught:
            action()
        assert SECRET not in str(caught.value)
        assert KEY not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_credentials_are_in_no_digest_dump_or_message(values: dict[str, Any], tmp_path: Path) -> None:
    secret = {"storage": {"s3": {"key": KEY, "secret": SECRET}}}
    plain, config = configs.parse(values), configs.parse(values | secret)
    assert config.storage["s3"]["secret"] == SECRET
    assert config.digest() == plain.digest()
    for text in (config.model_dump_json(), str(config.model_dump()), repr(config), str(config)):
        assert SECRET not in text
        assert KEY not in text
    file = tmp_path / "config.yaml"
    file.write_text(f"name: a\nstorage: {{s3: {{secret: {SECRET}}}\nseed: 1\n")
    wrong: list[Any] = [
        lambda: configs.parse(values | {"storage": {"s3": SECRET}}),
        lambda: configs.parse(values | {"storage": SECRET}),
        lambda: configs.load(file),
        lambda: configs.load(Path("conf/demo.yaml"), [f"storage.s3.secret=[{SECRET}"]),
        lambda: configs.load(Path("conf/demo.yaml"), [f"storage.s3={SECRET}"]),
        lambda: configs.load(Path("conf/demo.yaml"), ["storage=1", f"storage.s3.secret={SECRET}"]),
    ]
    for mistake in wrong:
        with pytest.raises(ConfigError) as caught:
            mistake()
        assert SECRET not in str(caught.value)


def test_nothing_that_is_logged_holds_credentials(options: dict[str, Any], bucket: str) -> None:
    with capture_logs() as lines:
        storage.configure(options)
        write(f"s3://{bucket}/a.parquet", [20])
        read(f"s3://{bucket}/a.parquet", None)
    assert {line["event"] for line in lines} == {"reading plan", "reading"}
    assert SECRET not in str(lines)
    assert KEY not in str(lines)


@pytest.fixture
def driver(config: Config) -> Config:
    """The config, whose storage options have to be taken together with those of this process's environment."""
    fsspec.config.set_conf_env(fsspec.config.conf, {"FSSPEC_S3_SECRET": SECRET, "FSSPEC_GCS_TOKEN": "cloud"})
    return config.model_copy(update={"storage": {"s3": {"endpoint_url": "http://host"}}})


HANDED_OVER = {"s3": {"secret": SECRET, "endpoint_url": "http://host"}, "gcs": {"token": "cloud"}}


def test_ranks_get_the_drivers_options(driver: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spark's ranks are processes of their own, to which the config goes as JSON, which leaves them out."""
    sent: list[tuple[str, ...]] = []
    conf = SimpleNamespace(
        get=lambda name, default=None: "127.0.0.1" if name == "spark.driver.host" else default
    )
    spark: Any = SimpleNamespace(getConf=lambda: conf, pythonExec="python")
    monkeypatch.setattr(spark_ranks, "supervised", lambda launch, *_: launch())
    monkeypatch.setattr(horovod.spark, "run", lambda _, arguments, **__: sent.append(arguments) or [None])
    plan = make_plan(write(f"memory://{driver.name}/ranks/a.parquet", [2]), None, COLUMNS)
    spark_ranks._attempt(spark, driver, ranks=1, restart=0, work=Work(plan), begin=lambda: None)

    monkeypatch.setattr(fsspec.config, "conf", {})
    monkeypatch.setenv("HOROVOD_RANK", "1")
    monkeypatch.setattr("esmm.distributed.joining.beating", lambda *_: (_ for _ in ()).throw(DataError(
        "rank", expected="no more", found="that")))  # fmt: skip
    outcome = spark_ranks.run_rank(*sent[0])
    assert isinstance(outcome, DataError)
    assert fsspec.config.conf == HANDED_OVER


@pytest.mark.parametrize("work", ["scoring", "udf", "layout"])
def test_sparks_workers_get_the_drivers_options(
    driver: Config, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    monkeypatch.setattr(scoring, "check_model", lambda *_: None)
    monkeypatch.setattr(scoring, "loaded", lambda *_: None)
    monkeypatch.setattr(udf, "pandas_udf", lambda function, _: function)
    monkeypatch.setattr(layout, "TaskContext", SimpleNamespace(get=object))
    works: dict[str, Callable[[], Callable[[Any], Iterable[Any]]]] = {
        "scoring": lambda: scoring._scorer(driver, "v", lambda _, batches: batches),
        "udf": lambda: udf._function(driver, "v"),
        "layout": lambda: layout._writer("memory://layout", driver, {}),
    }
    function = works[work]()
    monkeypatch.setattr(
        fsspec.config, "conf", {}
    )  # as in a process that has nothing of the driver's environment
    assert not [*function([])]
    assert fsspec.config.conf == HANDED_OVER


@pytest.mark.slow
def test_another_process_reads_s3_by_its_config(options: dict[str, Any], bucket: str, tmp_path: Path) -> None:
    storage.configure(options)
    write(f"s3://{bucket}/a.parquet", [20])
    (tmp_path / "options.json").write_text(json.dumps(options))
    code = (
        "import json, sys\n"
        "from esmm import storage\n"
        "from esmm.dataset import read_batches\n"
        "from esmm.epochs import Epoch\n"
        "from esmm.plan import make_plan\n"
        "from tests.sample_files import COLUMNS\n"
        "storage.configure(json.load(open(sys.argv[1])))\n"
        "epoch = Epoch(make_plan(sys.argv[2], None, COLUMNS), batch_size=4)\n"
        "assert sum(batch['weight'].sum() for batch in read_batches(epoch, COLUMNS)) == 20\n"
    )
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", code, tmp_path / "options.json", f"s3://{bucket}/a.parquet"]
    ended = subprocess.run(command, cwd=root, check=False, timeout=60, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert SECRET not in ended.stdout + ended.stderr


class PackageError(Exception):
    """As packages of storages have them."""


def test_errors_of_a_storage_survive_the_way_from_a_rank_and_bugs_stay_bugs() -> None:
    with pytest.raises(KeyError), storage.explained("s3://a", "a Parquet file"):
        raise KeyError("a mistake of this code")
    with pytest.raises(DataError) as caught, storage.explained("s3://a", "a Parquet file"):
        raise PackageError("line one\nline two")
    assert str(pickle.loads(pickle.dumps(caught.value))) == (
        "s3://a: expected a readable Parquet file, found line one line two"
    )


@pytest.mark.parametrize(("error", "may_pass"), [
    (ConnectionResetError(104, "Connection reset by peer"), True), (TimeoutError(), True), (PackageError("503"), True),
    (OSError(5, "Input/output error"), True),
    (OSError("Couldn't deserialize thrift: TProtocolException: Invalid data"), False), (pa.ArrowInvalid("a"), False),
    (FileNotFoundError(2, "No such file"), False), (PermissionError(13, "Access Denied"), False),
])  # fmt: skip
def test_a_storage_that_fails_is_told_from_content_that_is_wrong(error: Exception, may_pass: bool) -> None:
    with pytest.raises(DataError) as caught, storage.explained("s3://a", "a Parquet file"):
        raise error
    assert isinstance(caught.value, StorageError) is may_pass
    assert str(caught.value).startswith("s3://a: expected a")


def test_a_connection_that_breaks_while_arrow_reads_is_the_storages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow hands the storage's own exception through."""
    url = write("memory:///breaking/a.parquet", [20])
    [group] = make_plan(url, None, COLUMNS).row_groups
    load(group, COLUMNS)

    def breaks(*_: Any, **__: Any) -> bytes:
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", breaks)
    with pytest.raises(
        StorageError, match=f"^{url}: expected a readable Parquet file, found .*reset by peer$"
    ):
        load(group, COLUMNS)
