"""A directory of Parquet files that is replaced whole: readers find the old files or the new ones.

    with replaced("build/demo/logs") as staging:
        write(staging / "items/part-0.parquet")      # build/demo/logs.RUN/items/part-0.parquet
    # build/demo/logs now holds what was written, and nothing else

Where the block raises, the old directory stays as it was. Local file systems only.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esmm.claims import directory_claimed, new_run
from esmm.errors import DataError


@contextmanager
def replaced(directory: str | Path) -> Iterator[Path]:
    """A new, empty directory beside `directory`, which takes its place when the block ends.

    Raises DataError where `directory` is a file or holds anything but Parquet files: what a job did not
    write, it does not delete. Raises ConflictError where another run is replacing it.
    """
    target, run = Path(directory), new_run()
    with directory_claimed(str(target), run):
        _check_replaceable(target)
        with _replaced(target, run) as staging:
            yield staging


@contextmanager
def _replaced(target: Path, run: str) -> Iterator[Path]:
    staging, replaced_one = (target.with_name(f"{target.name}.{run}{end}") for end in ("", ".old"))
    staging.mkdir(parents=True)
    try:
        yield staging
        if target.exists():
            target.rename(replaced_one)
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        if replaced_one.exists():
            replaced_one.rename(target)
        raise
    shutil.rmtree(replaced_one, ignore_errors=True)


def _check_replaceable(target: Path) -> None:
    expected = "a directory to write to, empty or with Parquet files only"
    if target.exists() and not target.is_dir():
        raise DataError(str(target), expected=expected, found="a file")
    strange = next((path for path in target.rglob("*") if path.is_file() and path.suffix != ".parquet"), None)
    if strange is not None:
        raise DataError(str(target), expected=expected, found=str(strange.relative_to(target)))
