"""Which revision of the code made something: from a checkout, and from the zip that was made of it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from esmm import ship

ROOT = Path(__file__).resolve().parent.parent


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"]
    done = subprocess.run(
        ["git", "-C", root, *identity, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with as much of the code as it takes, and one commit."""
    root = tmp_path / "checkout"
    for package in ship.PACKAGES:
        (root / package).mkdir(parents=True)
        (root / package / "__init__.py").touch()
    for name in ("ship.py", "revision.py"):
        (root / "esmm" / name).write_bytes((ROOT / "esmm" / name).read_bytes())
    (root / ".gitignore").write_text("__pycache__\nbuild\n")
    git(tmp_path, "init", "--quiet", str(root))
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "all of it")
    return root


def current(place: Path) -> str:
    """What the code of a directory or zip says of itself, in a process of its own."""
    code = f"import sys; sys.path.insert(0, {str(place)!r}); from esmm import revision; print(revision.current())"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True, cwd=place.parent
    )
    return done.stdout.strip()


def test_a_commit_and_what_differs_from_it(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert current(checkout) == commit
    (checkout / "notes").touch()
    assert current(checkout) == commit, "what is not of the packages does not count"
    (checkout / "esmm/new.py").touch()
    assert current(checkout) == f"{commit}+changes", "a file that git does not know yet does"


def test_the_zip_says_what_it_was_made_of(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    clean = ship.ship(checkout)
    (checkout / "sql/__init__.py").write_text("# changed\n")
    changed = ship.ship(checkout)
    for archive, expected in ((clean, commit), (changed, f"{commit}+changes")):
        with zipfile.ZipFile(archive) as opened:
            assert opened.read(ship.REVISION).decode() == expected
        assert current(archive) == expected


def test_code_without_a_history(checkout: Path, tmp_path: Path) -> None:
    """And code that lies in a repository of something else."""
    (checkout / ".git").rename(tmp_path / ".git")
    assert git(checkout, "rev-parse", "--show-toplevel") == str(tmp_path.resolve())
    assert current(checkout) == "None"
    with zipfile.ZipFile(ship.ship(checkout)) as opened:
        assert ship.REVISION not in opened.namelist()
