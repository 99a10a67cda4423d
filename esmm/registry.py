"""The published models, one version (`esmm.versions`) each.

    registry.resolve("build/demo/models", None)     # "20260325T010400.813274-9f3a11c2", the latest

Loading one takes TensorFlow, see `esmm.export`; naming one does not.
"""

from esmm import versions
from esmm.errors import DataError


def resolve(models: str, version: str | None) -> str:
    """A version that is complete, by default the latest; raises DataError where there is none such."""
    found = versions.complete(models)
    if version is None and found:
        return found[-1]
    if version is None or version not in found:
        expected = "a published model" if version is None else f"the published model {version}"
        raise DataError(models, expected=expected, found=", ".join(found) or "none")
    return version
