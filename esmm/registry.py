"""The published models, one version (`esmm.versions`) each, and the champion among them, which scores are made with.

    resolve("build/demo/models", None)           # "20260325T010400.813274-9f3a11c2", the champion, else the latest
    latest("build/demo/models")                  # what is evaluated, and may become the next champion
    promote("build/demo/models", version, over=champion("build/demo/models"))
    roll_back("build/demo/models")               # the champion before it is champion again

Which one is champion is one file, replaced in one step: who scores meanwhile takes the old one or the new one.
Loading a model takes TensorFlow, see `esmm.export`; naming one does not.
"""

import datetime as dt

import pydantic
import structlog

from esmm import claims, storage, versions
from esmm.errors import ConflictError, DataError
from esmm.files import read_whole, write_atomically

_FILE = "champion.json"

log = structlog.get_logger()


class Champion(pydantic.BaseModel):
    """Which version is champion, and which were before it."""

    model_config = pydantic.ConfigDict(frozen=True)

    version: str
    since: dt.datetime
    before: tuple[str, ...] = ()
    """The earlier champions, the first one first; one that was rolled back is none of them."""


def resolve(models: str, version: str | None) -> str:
    """A version that is complete: the one that is named, else the champion, else the latest, of which a line warns.

    Raises DataError where there is none such.
    """
    if version is not None:
        return _complete(models, version)
    if (found := champion(models)) is not None:
        return _complete(models, found.version)
    newest = latest(models)
    log.warning("no model is champion: taking the latest", model=newest)
    return newest


def latest(models: str) -> str:
    """The newest version; raises DataError where there is none."""
    if not (found := versions.complete(models)):
        raise DataError(models, expected="a published model", found="none")
    return found[-1]


def champion(models: str) -> Champion | None:
    """Who is champion, None where no model was promoted; raises DataError where the file that says so is none."""
    fs, path = storage.at(models)
    try:
        return Champion.model_validate_json(read_whole(fs, f"{path}/{_FILE}"))
    except FileNotFoundError:
        return None
    except pydantic.ValidationError as error:
        expected, found = "the champion's version and time", f"{error.error_count()} errors in it"
        raise DataError(f"{models}/{_FILE}", expected=expected, found=found) from None


def promote(models: str, version: str, *, over: Champion | None) -> Champion:
    """Make a complete version champion; one that is champion already stays it.

    `over` is the champion, None where there was none, when the version was found worth it.
    Raises DataError where there is no such version, or a file of it was changed; ConflictError where another run is
    promoting or rolling back, or has done so since.
    """
    versions.fetch(models, _complete(models, version))
    with claims.directory_claimed(f"{models}/{_FILE}", claims.new_run()):
        now = champion(models)
        if now is not None and now.version == version:
            return now
        if now != over:
            expected, found = ("no champion" if each is None else each.version for each in (over, now))
            raise ConflictError(
                f"{models}/{_FILE}", expected=f"{expected}, as before the evaluation", found=found
            )
        before = () if now is None else (*now.before, now.version)
        return _write(models, version, before)


def roll_back(models: str) -> Champion:
    """Make the champion before this one champion again.

    Raises DataError where there is none, or it is not complete any more; ConflictError as `promote`.
    """
    with claims.directory_claimed(f"{models}/{_FILE}", claims.new_run()):
        now = champion(models)
        if now is None or not now.before:
            found = "no champion" if now is None else f"{now.version}, the first one"
            raise DataError(f"{models}/{_FILE}", expected="a champion before this one", found=found)
        versions.fetch(models, _complete(models, now.before[-1]))
        return _write(models, now.before[-1], now.before[:-1])


def _write(models: str, version: str, before: tuple[str, ...]) -> Champion:
    fs, path = storage.at(models)
    made = Champion(version=version, since=dt.datetime.now(dt.UTC), before=before)
    write_atomically(fs, f"{path}/{_FILE}", made.model_dump_json(indent=1).encode())
    return made


def _complete(models: str, version: str) -> str:
    if version not in (found := versions.complete(models)):
        raise DataError(models, expected=f"the published model {version}", found=", ".join(found) or "none")
    return version
