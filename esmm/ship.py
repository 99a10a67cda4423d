"""The code that travels with a job: esmm/ and sql/ as one zip, under a name made of its contents.

spark-submit.sh runs this file alone, by its path, and passes what it prints to `--py-files`:

    $ python -I esmm/ship.py /path/of/the/repository
    /path/of/the/repository/build/ship/esmm-1f0c5e6a7b8d9c2e.zip

So it imports nothing but the standard library. Where the repository cannot be written to, the zip goes to a
directory of the user's own in TMPDIR. What the code is a revision of travels along, since a zip has no history.
"""

import errno
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGES = ("esmm", "sql")

REVISION = "esmm/REVISION"
"""The file of the zip that says what `revision` found; not there where that is nothing."""


def ship(root: Path) -> Path:
    """Zip the packages of `root`, where that very zip is not there already; returns its path.

    Equal contents give an equal name and equal bytes, and a zip is never changed once it has its name: jobs
    that start at the same time can share it.
    """
    contents = [
        (path.relative_to(root).as_posix(), path.read_bytes())
        for package in PACKAGES
        for path in sorted((root / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    if found := revision(root):
        contents.append((REVISION, found.encode()))
    digest = hashlib.sha256(repr(contents).encode()).hexdigest()
    name = f"esmm-{digest[:16]}.zip"
    try:
        return _written(root / "build/ship" / name, contents)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return _written(_own_directory() / name, contents)


def revision(root: Path) -> str | None:
    """The commit that `root` is checked out at, `COMMIT+changes` where its packages differ from it.

    None where `root` is no repository of its own, or there is no git.
    """

    def git(*arguments: str) -> list[str]:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

    try:
        top, commit = git("rev-parse", "--show-toplevel", "HEAD")
        changes = git("status", "--porcelain", "--", *PACKAGES)
    except (OSError, subprocess.CalledProcessError):
        return None
    if Path(top).resolve() != root.resolve():
        return None  # an environment inside somebody else's repository
    return f"{commit}+changes" if changes else commit


def _written(target: Path, contents: list[tuple[str, bytes]]) -> Path:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(f".{os.getpid()}.tmp")
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in contents:
                # Without the file's own time, so that the bytes depend on the contents alone.
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        unfinished.replace(target)
    return target


def _own_directory() -> Path:
    """A directory in TMPDIR that nobody else can put code into."""
    path = Path(tempfile.gettempdir(), f"esmm-ship-{os.getuid()}")
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if path.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        sys.exit(
            f"error: {path}: expected a directory of this user alone, found one that others can write to"
        )
    return path


if __name__ == "__main__":
    sys.stdout.write(f"{ship(Path(sys.argv[1]))}\n")
