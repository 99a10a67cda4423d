"""The zip of the project's code that goes along with a job."""

import errno
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from esmm.ship import ship
from tests.checkout import Checkout
from tests.conftest import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_zip_holds_both_packages(checkout: Checkout) -> None:
    cache = checkout.root / "esmm/__pycache__"
    cache.mkdir()
    (cache / "a.pyc").touch()
    path = checkout.submit("jobs/a.py").py_files
    assert Path(path).parent == checkout.root / "build/ship"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["esmm/__init__.py", "esmm/ship.py", "sql/checks/one.sql"]
    found = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {path!r}); import esmm; print(esmm.NAME)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout == "shipped\n"


def test_the_zip_is_named_for_its_contents(checkout: Checkout) -> None:
    first = ship(checkout.root)
    written = first.stat().st_mtime_ns, first.read_bytes()
    os.utime(checkout.root / "esmm/__init__.py", (0, 0))
    assert ship(checkout.root) == first
    assert (first.stat().st_mtime_ns, first.read_bytes()) == written
    with zipfile.ZipFile(first) as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}, "no file's own time"
    (checkout.root / "sql/checks/one.sql").write_text("select 2\n")
    assert ship(checkout.root) != first


def test_a_zip_that_was_not_finished_has_no_name(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(zipfile.ZipFile, "writestr", disk_full)
        with pytest.raises(OSError, match="disk full"):
            ship(checkout.root)
    assert list((checkout.root / "build/ship").glob("*.zip")) == []
    assert zipfile.ZipFile(ship(checkout.root)).testzip() is None


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_checkout_that_cannot_be_written_to(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The superuser may write anywhere: so the refusal is played."""
    temporary = checkout.directory / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    make = Path.mkdir

    def refused(path: Path, *args: Any, **kwargs: Any) -> None:
        if path.is_relative_to(checkout.root):
            raise OSError(number, os.strerror(number), str(path))
        make(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refused)
    path = ship(checkout.root)
    assert path.parent == temporary / f"esmm-ship-{os.getuid()}"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert zipfile.ZipFile(path).testzip() is None
    assert ship(checkout.root) == path
    path.parent.chmod(0o777)
    with pytest.raises(SystemExit, match="expected a directory of this user alone"):
        ship(checkout.root)


def test_two_jobs_at_once_share_a_whole_zip(checkout: Checkout) -> None:
    command = [sys.executable, "-I", str(ROOT / "esmm/ship.py"), str(checkout.root)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    printed = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0] * 6
    (path,) = printed
    assert zipfile.ZipFile(path).testzip() is None
    assert list((checkout.root / "build/ship").iterdir()) == [Path(path)], "nothing unfinished stays"
