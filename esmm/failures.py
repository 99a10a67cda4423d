"""What Spark or the operating system complains of, in one line of this project's words.

    explained(error)     # file:/logs/a.parquet: expected a path that can be read and written, found Unexpected end of …

An error that is nobody's fault but this code's stays as it is: its traceback is what somebody needs.
"""

import errno
import re
import sys
from typing import Any

from esmm import errors
from esmm.errors import DataError, JobError

_OURS = re.compile(
    r"^(?:esmm\.errors\.(?P<kind>\w+): )?(?P<where>\S.*?): expected (?P<expected>.+), found (?P<found>.+)$"
)
_FILE = re.compile(r"\b[a-z][a-z0-9+.-]*:/[^\s,;'\"\])]+")
_END = re.compile(r"\n\s*\n|\n\tat |;\n")  # where a message of Java's goes over to plans and stack traces
_LONGEST = 500


def explained(error: Exception) -> JobError | None:
    """The error to end a job with, or None where the error is a bug."""
    if isinstance(error, JobError):
        return error
    if isinstance(error, OSError) and error.errno != errno.EPIPE:
        where = str(error.filename or "the machine")
        return DataError(
            where,
            expected="a path that can be read and written",
            found=error.strerror or _first_line(str(error)),
        )
    # An error of Spark's means that pyspark is here; jobs without it need not pay for its import.
    return _of_spark(error) if "pyspark" in sys.modules else None


def _of_spark(error: Exception) -> JobError | None:
    from py4j.protocol import Py4JError
    from pyspark.errors.exceptions.captured import CapturedException, PythonException

    if isinstance(error, PythonException):
        return _of_worker(error.desc or "")
    if not isinstance(error, CapturedException | Py4JError):
        return None
    chain = _causes(getattr(error, "_origin", None) or getattr(error, "java_exception", None))
    if not chain:
        return DataError("Spark", expected="to reach it", found=_first_line(str(error)))
    for kind, message in chain:
        if kind == "org.apache.spark.api.python.PythonException":
            return _of_worker(message)
    # Not every cause has a message: of a worker that was killed the last one is no more than the end of a stream.
    found = next((brief for _, message in reversed(chain) if (brief := _brief(message))), chain[-1][0])
    if (own := _OURS.match(found)) is not None:
        return _own(own)
    files = [match[0].rstrip(".:") for _, message in reversed(chain) if (match := _FILE.search(message))]
    if files:
        return DataError(files[0], expected="a path that can be read and written", found=found)
    return DataError("Spark", expected="the run to succeed", found=found)


def _of_worker(trace: str) -> JobError | None:
    """What a Python worker ended with, where that is an error of ours; anything else is a bug of ours."""
    last = next((line for line in reversed(trace.splitlines()) if line.strip()), "")
    own = _OURS.match(last)
    return _own(own) if own is not None and own["kind"] else None


def _own(match: re.Match[str]) -> JobError:
    kind: type[JobError] = getattr(errors, match["kind"] or "DataError")
    return kind(match["where"], expected=match["expected"], found=match["found"])


def _causes(java: Any) -> list[tuple[str, str]]:
    """Class and message of an exception of Java's and of its causes, the root last; empty where Java is gone."""
    found: list[tuple[str, str]] = []
    try:
        while java is not None and len(found) < 50:
            found.append((java.getClass().getName(), java.getMessage() or ""))
            java = java.getCause()
    except Exception:
        return []
    return found


def _brief(message: str) -> str:
    """A message without plan or stack trace, as one line."""
    text = " ".join(_END.split(message.strip(), maxsplit=1)[0].split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "nothing more"
