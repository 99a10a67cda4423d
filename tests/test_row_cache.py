"""A rank's rows on local disk: the same values back, in a directory that nobody shares and that goes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esmm.errors import ConfigError
from esmm.row_cache import own_directory, pack, unpack
from tests.sample_files import COLUMNS, expected


@given(rows=st.integers(0, 20))
def test_arrays_come_back_as_they_were(rows: int) -> None:
    arrays = expected(np.arange(rows) + 3)
    found = unpack(pack(arrays), COLUMNS)
    assert list(found) == list(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
        assert found[name].flags.aligned


def test_the_directory_is_ones_own_and_goes(tmp_path: Path) -> None:
    with own_directory(tmp_path / "new") as first, own_directory(tmp_path / "new") as second:
        assert first != second
        assert first.stat().st_mode & 0o777 == 0o700
        (first / "rows").write_text("x")
    assert not list((tmp_path / "new").iterdir())
    with pytest.raises(KeyError), own_directory(tmp_path) as third:
        raise KeyError
    assert not third.exists()


def test_what_a_killed_process_left_is_removed_and_what_another_uses_is_not(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys\n"
        "from esmm.row_cache import own_directory\n"
        "with own_directory(pathlib.Path(sys.argv[1])) as directory:\n"
        "    (directory / 'rows').write_text('x')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with own_directory(tmp_path) as used:
        root = Path(__file__).resolve().parent.parent
        dead = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=root, check=False, timeout=60)
        assert dead.returncode == -signal.SIGKILL
        assert len(list(tmp_path.iterdir())) == 2
        with own_directory(tmp_path) as new:
            assert set(tmp_path.iterdir()) == {used, new}


def test_what_was_written_after_its_directory_was_removed_is_removed(tmp_path: Path) -> None:
    """By a thread that a storage kept longer than the process waited for it."""
    with own_directory(tmp_path) as dead:
        pass
    (dead / "cache/00").mkdir(parents=True)
    (dead / "cache/00/rows.val").write_text("x")
    with own_directory(tmp_path) as new:
        assert list(tmp_path.iterdir()) == [new]


def test_no_directory_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file/cache: expected a directory to write to"):
        with own_directory(tmp_path / "file/cache"):
            os._exit(1)
