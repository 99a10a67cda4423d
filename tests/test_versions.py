"""Versions count once they are complete, and are what was put there."""

import errno
import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import fsspec
import pytest

from esmm import versions
from esmm.errors import DataError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two files, one in a directory of its own, to be put."""
    made = tmp_path / "made"
    (made / "variables").mkdir(parents=True)
    (made / "graph").write_bytes(b"graph")
    (made / "variables" / "data").write_bytes(b"numbers")
    return made


@pytest.fixture(params=["file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "root") if request.param == "file" else f"memory:/{tmp_path}/root"


def test_a_version_comes_back_as_it_was_put(root: str, directory: Path, tmp_path: Path) -> None:
    versions.put(root, "v1", directory, {"rows": 7})
    assert versions.complete(root) == ["v1"]
    assert versions.manifest(root, "v1").facts == {"rows": 7}
    assert versions.manifest(root, "v1").files["graph"].bytes == 5
    for _ in range(2):  # the second time from the cache
        found = versions.fetch(root, "v1", cache=tmp_path / "cache")
        assert (found / "graph").read_bytes() == b"graph"
        assert (found / "variables/data").read_bytes() == b"numbers"


def test_a_version_without_its_manifest_is_none(root: str, directory: Path) -> None:
    versions.put(root, "v1", directory, {})
    fs, path = fsspec.core.url_to_fs(root)
    fs.rm_file(f"{path}/v1/manifest.json")
    assert versions.complete(root) == []
    with pytest.raises(DataError, match=r"v1/manifest.json: expected a manifest, found no file"):
        versions.fetch(root, "v1")


@pytest.mark.parametrize("name", ["graph", "variables/data"])
def test_a_changed_or_missing_file_is_named(root: str, directory: Path, name: str, tmp_path: Path) -> None:
    versions.put(root, "v1", directory, {})
    fs, path = fsspec.core.url_to_fs(root)
    data = fs.cat_file(f"{path}/v1/{name}")
    fs.pipe_file(f"{path}/v1/{name}", data[:-1] + b"X")
    with pytest.raises(
        DataError, match=rf"v1/{name}: expected the file with SHA-256 \w+…, found another one"
    ):
        versions.fetch(root, "v1", cache=tmp_path / "one")
    fs.rm_file(f"{path}/v1/{name}")
    with pytest.raises(DataError, match=rf"v1/{name}: expected .*file.*, found none"):
        versions.fetch(root, "v1", cache=tmp_path / "two")


def test_a_manifest_that_is_none_is_an_error(root: str, directory: Path) -> None:
    versions.put(root, "v1", directory, {})
    fs, path = fsspec.core.url_to_fs(root)
    fs.pipe_file(f"{path}/v1/manifest.json", b"{}")
    with pytest.raises(DataError, match=r"v1/manifest.json: expected a manifest, found 3 errors in it"):
        versions.fetch(root, "v1")


def cached(cache: Path) -> Path:
    [found] = [path for path in cache.iterdir() if path.is_dir()]
    return found


@pytest.mark.parametrize("damage", [
    lambda copy: (copy / "graph").write_bytes(b"grabh"), lambda copy: (copy / "variables/data").unlink(),
])  # fmt: skip
def test_a_copy_that_has_changed_is_fetched_anew(
    directory: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    root, cache = f"memory:/{tmp_path}/root", tmp_path / "cache"
    versions.put(root, "v1", directory, {})
    versions.fetch(root, "v1", cache)
    damage(cached(cache))
    found = versions.fetch(root, "v1", cache)
    assert (found / "graph").read_bytes() == b"graph"
    assert (found / "variables/data").read_bytes() == b"numbers"
    assert found == cached(cache), "no other copy is left"


def test_of_many_that_want_a_version_at_once_one_fetches_it(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads, here: a file that is opened twice is locked between them as between processes."""
    root, cache = f"memory:/{tmp_path}/root", tmp_path / "cache"
    versions.put(root, "v1", directory, {})
    fs, _ = fsspec.core.url_to_fs(root)
    fetched, get_file, is_second = [], fs.get_file, threading.Event()

    def get(source: str, target: str) -> None:
        fetched.append(PurePosixPath(source).name)
        if len(fetched) > 1:
            is_second.set()
        is_second.wait(0.5)  # the first leaves the others time to begin, too
        get_file(source, target)

    monkeypatch.setattr(fs, "get_file", get)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: versions.fetch(root, "v1", cache), range(8)))
    assert found == {cached(cache)}
    assert sorted(fetched) == ["data", "graph"]


def test_processes_share_out_what_they_compare(
    root: str, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """About equally, by size."""
    for number in range(4):
        (directory / f"part-{number}").write_bytes(b"x" * 2**number)
    versions.put(root, "v1", directory, {})
    sha256, compared = versions._sha256, []
    monkeypatch.setattr(versions, "_sha256", lambda file: compared.append(file.name) or sha256(file))
    for number in range(3):
        versions.fetch(root, "v1", tmp_path / "cache", (number, 3))
    # Of 8, 7, 5, 4, 2 and 1 bytes.
    assert compared == ["part-3", "part-2", "data", "part-1", "graph", "part-0"]


def test_copies_that_nobody_asks_for_go_before_another_one_comes(directory: Path, tmp_path: Path) -> None:
    """Four models, of which one was asked for 25 hours ago, one 23, and one long ago and just now."""
    root, cache = f"memory:/{tmp_path}/root", tmp_path / "cache"
    for version in ("v1", "v2", "v3", "v4"):
        versions.put(root, version, directory, {})
    copies = [versions.fetch(root, version, cache) for version in ("v1", "v2", "v3")]
    for copy, hours in zip(copies, (25, 23, 1_000), strict=True):
        aged(copy, hours)
    versions.fetch(root, "v3", cache)
    killed, strange = cache / f"v5-{'0' * 16}.unfinished", cache / "photographs"
    killed.mkdir()
    strange.mkdir()
    aged(strange, 1_000)
    assert all(copy.exists() for copy in copies), "what is there already takes no room"
    found = versions.fetch(root, "v4", cache)
    assert set(cache.iterdir()) == {*copies[1:], found, strange}
    assert (versions.fetch(root, "v1", cache) / "graph").read_bytes() == b"graph"


def aged(copy: Path, hours: float) -> None:
    then = time.time() - 3600 * hours
    os.utime(copy, (then, then))


def test_a_disk_that_is_full_is_said_and_keeps_nothing_of_the_copy(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = f"memory:/{tmp_path}/root", tmp_path / "cache"
    versions.put(root, "v1", directory, {})
    fs, path = fsspec.core.url_to_fs(root)

    def get(source: str, target: str) -> None:
        Path(target).write_bytes(b"gra")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fs, "get_file", get)
    line = f"{cache}: expected room for the 12 bytes of {path}/v1, found No space left on device"
    with pytest.raises(DataError, match=f"^{re.escape(line)}$"):
        versions.fetch(root, "v1", cache)
    assert not list(cache.iterdir())


FACTS = {
    "columns": {"price": {"type": "float32"}},
    "bins": {"-3": 0.1 + 0.2, "4": 1e-300},
    "none": None,
    "é": [1],
}


@pytest.mark.parametrize(("old", "new"), [
    (b'"columns"', b'"colunms"'), (b"float32", b"float64"), (b'"-3"', b'"-4"'), (b"1e-300", b"1e-301"),
    (b"null", b"1234"),
])  # fmt: skip
def test_a_manifest_with_one_byte_changed_is_refused(
    root: str, directory: Path, old: bytes, new: bytes
) -> None:
    versions.put(root, "v1", directory, FACTS)
    assert versions.manifest(root, "v1").facts == FACTS
    fs, path = fsspec.core.url_to_fs(root)
    data = fs.cat_file(f"{path}/v1/manifest.json")
    assert data.count(old)
    fs.pipe_file(f"{path}/v1/manifest.json", data.replace(old, new, 1))
    with pytest.raises(
        DataError, match=r"v1/manifest.json: expected a manifest with SHA-256 \w+…, found another one"
    ):
        versions.fetch(root, "v1")


def test_versions_sort_by_the_time_they_were_made() -> None:
    made = [versions.new_version() for _ in range(50)]
    assert made == sorted(made)
    assert len(set(made)) == 50
