"""The code that travels with a job: esmm/ and sql/ as one zip, under a name made of its contents.

spark-submit.sh runs this file alone, by its path, and passes what it prints to `--py-files`:

    $ python -I esmm/ship.py /path/of/the/repository
    /path/of/the/repository/build/ship/esmm-1f0c5e6a7b8d9c2e.zip

So it imports nothing but the standard library.
"""

import hashlib
import os
import sys
import zipfile
from pathlib import Path

PACKAGES = ("esmm", "sql")


def ship(root: Path) -> Path:
    """Zip the packages of `root`, where build/ship does not hold that very zip already; returns its path.

    Equal contents give an equal name and equal bytes, and a zip is never changed once it has its name: jobs
    that start at the same time can share it.
    """
    contents = [
        (path.relative_to(root).as_posix(), path.read_bytes())
        for package in PACKAGES
        for path in sorted((root / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    digest = hashlib.sha256(repr(contents).encode()).hexdigest()
    target = root / "build/ship" / f"esmm-{digest[:16]}.zip"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(f".{os.getpid()}.tmp")
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in contents:
                # Without the file's own time, so that the bytes depend on the contents alone.
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        unfinished.replace(target)
    return target


if __name__ == "__main__":
    sys.stdout.write(f"{ship(Path(sys.argv[1]))}\n")
