"""What can go wrong by no fault of this code, and the exit code that each ends a job with.

A message is one line and names the field or file, what was expected and what was found:

    >>> raise ConfigError("features.price.source", expected="a column of items", found="'prise'")
    Traceback (most recent call last):
    esmm.errors.ConfigError: features.price.source: expected a column of items, found 'prise'
"""

from typing import ClassVar


class JobError(Exception):
    """A person's mistake, or data that cannot be used. Ends a job with `exit_code` and one line."""

    exit_code: ClassVar[int] = 1

    def __init__(self, where: str, *, expected: str, found: str) -> None:
        super().__init__(f"{where}: expected {expected}, found {found}")
        self.where, self.expected, self.found = where, expected, found

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments would otherwise be lost between a Horovod rank and the driver.
        return _rebuild, (type(self), self.where, self.expected, self.found)


class DataError(JobError):
    """The data or the run failed: exit code 1."""

    exit_code = 1


class StorageError(DataError):
    """A storage failed while it was read, which says nothing of the data: another try may succeed."""


class RankLostError(DataError):
    """A rank broke off because another one had stopped: that one's error says why."""


class ConfigError(JobError):
    """The command line or the config is wrong: exit code 2."""

    exit_code = 2


class ConflictError(JobError):
    """Another run is doing the same: exit code 3."""

    exit_code = 3


def _rebuild(kind: type[JobError], where: str, expected: str, found: str) -> JobError:
    return kind(where, expected=expected, found=found)
