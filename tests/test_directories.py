"""Directories that are replaced whole or not at all."""

from pathlib import Path

import pytest

from esmm.directories import replaced
from esmm.errors import DataError


def test_the_new_files_take_the_place_of_the_old(tmp_path: Path) -> None:
    target = tmp_path / "deep/logs"
    for name in ("one", "two"):
        with replaced(target) as staging:
            (staging / f"{name}.parquet").write_text(name)
            assert not (target / f"{name}.parquet").exists()
    assert [path.name for path in target.iterdir()] == ["two.parquet"]
    assert [path.name for path in target.parent.iterdir()] == ["logs"]


def test_a_failure_leaves_the_old_files(tmp_path: Path) -> None:
    target = tmp_path / "logs"
    with replaced(target) as staging:
        (staging / "one.parquet").write_text("one")

    def fail() -> None:
        with replaced(target) as staging:
            (staging / "two.parquet").write_text("half of it")
            raise KeyError("no disk")

    with pytest.raises(KeyError):
        fail()
    assert [path.name for path in tmp_path.rglob("*")] == ["logs", "one.parquet"]


def test_what_was_not_written_here_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "home/letters").mkdir(parents=True)
    (tmp_path / "home/letters/draft.txt").write_text("dear")
    with pytest.raises(DataError, match=r"home: expected a directory .* found letters/draft.txt"):
        replaced(tmp_path / "home").__enter__()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="found a file"):
        replaced(tmp_path / "file").__enter__()
    assert (tmp_path / "home/letters/draft.txt").exists()
