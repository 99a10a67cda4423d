"""Which revision of this code is running: for the manifest of what it makes.

current()     # "3f2c…", "3f2c…+changes" where the code differs from that commit, None where nobody knows

From a checkout git says so; from the zip that spark-submit.sh ships, what git said when it was made (`esmm.ship`).
"""

from importlib import resources
from pathlib import Path

import esmm
from esmm import ship


def current() -> str | None:
    """The commit of the running code, as `esmm.ship.revision` writes it; None where it has no history."""
    package = resources.files(esmm)
    shipped = package / Path(ship.REVISION).name
    if shipped.is_file():
        return shipped.read_text()
    return ship.revision(Path(str(package)).parent)
