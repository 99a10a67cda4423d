"""Checkpoints: all that a run has learnt, as versions (`esmm.versions`) that count once they are complete.

    save("build/demo/training/checkpoints", {"model": model, "optimizer": optimizer}, {"step": 343})
    restore("build/demo/training/checkpoints", {"model": model, "optimizer": optimizer})      # {"step": 343}

Variables are found by their place in the modules, and each has to be there with its shape.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from esmm import versions
from esmm.errors import DataError

_PREFIX = "state"


def save(root: str, parts: Mapping[str, tf.Module], facts: dict[str, Any]) -> str:
    """Write all variables of some modules, and what the run states of itself; returns the version."""
    version = versions.new_version()
    with tempfile.TemporaryDirectory(prefix="esmm-checkpoint-") as directory:
        tf.train.Checkpoint(**parts).write(str(Path(directory) / _PREFIX))
        versions.put(root, version, Path(directory), facts)
    return version


def restore(root: str, parts: Mapping[str, tf.Module]) -> dict[str, Any]:
    """Set all variables to what the latest complete checkpoint holds; returns its facts.

    Raises DataError where there is none, or where a file of it is not what was saved.
    """
    found = versions.complete(root)
    if not found:
        raise DataError(root, expected="a complete checkpoint", found="none")
    directory = versions.fetch(root, found[-1])
    tf.train.Checkpoint(**parts).read(str(directory / _PREFIX)).assert_consumed()
    return versions.manifest(root, found[-1]).facts
