"""jobs/build_samples.py, killed at one phase of its publication: PHASE [job options].

What is patched is only where the process dies.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from esmm import cli
from esmm.catalog import CatalogPointers
from esmm.pointers import FilePointers
from esmm.publish import Manifest, Table
from jobs import build_samples

PROGRAM = "from tests.killed_job import main\nmain()\n"
"""To be run as a file of its own elsewhere: from this directory `sql` would be the tests' and not the jobs'."""

PHASES = ("claimed", "staged", "before the manifest", "before the pointer", "after the pointer")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def patch(owner: type, name: str, *, is_last: bool = False) -> None:
    """Let the process die where a method of the samples' table is called, or where it returns."""
    real: Callable[..., Any] = getattr(owner, name)

    def patched(self: Any, *arguments: Any, **named: Any) -> Any:
        of_rejects = "_rejects" in str(vars(self).get("root")) + str(
            vars(self).get("_root", vars(self).get("_table"))
        )
        if of_rejects:
            return real(self, *arguments, **named)
        if is_last:
            real(self, *arguments, **named)
        die()
        return None

    setattr(owner, name, patched)


def main() -> None:
    kill_at(sys.argv.pop(1))
    cli.job(build_samples.main)()


def kill_at(phase: str) -> None:
    match phase:
        case "claimed":
            patch(Table, "stage")
        case "staged":
            patch(Table, "publish")
        case "before the manifest":
            publish = Table.publish

            def published(self: Table, *arguments: Any, **named: Any) -> Manifest:
                if not self.root.endswith("_rejects"):
                    Manifest.model_dump_json = lambda *_, **__: die()  # type: ignore[method-assign, assignment]
                return publish(self, *arguments, **named)

            Table.publish = published  # type: ignore[method-assign]
        case "before the pointer" | "after the pointer":
            for kind in (FilePointers, CatalogPointers):
                patch(kind, "point", is_last=phase == "after the pointer")
        case _:
            raise ValueError(phase)
