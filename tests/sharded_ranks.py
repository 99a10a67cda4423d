"""What each rank of tests/test_sharded.py does: horovodrun … python -m tests.sharded_ranks DIRECTORY STEP.

Trains on the config's table; with a step above 0, all ranks break off after it, as if killed.
"""

import json
import sys
from pathlib import Path
from typing import Any

from esmm import config as configs
from esmm import schema, training
from esmm.distributed.joining import joined
from esmm.plan import make_plan
from tests import synthetic


class BrokenOff(BaseException):
    """Nothing catches it."""


def break_off_after(step: int) -> None:
    """Have all ranks stop right after a step, before anything is made of it."""
    take = training._Run._take

    def taken(self: Any, number: int, fed: Any) -> Any:
        found = take(self, number, fed)
        if number == step:
            raise BrokenOff
        return found

    training._Run._take = taken  # type: ignore[method-assign]


def main() -> None:
    directory, step = Path(sys.argv[1]), int(sys.argv[2])
    config = configs.parse(json.loads((directory / "config.json").read_text()))
    break_off_after(step)
    with joined(config.training) as exchange:
        plan = make_plan(config.samples.table, [synthetic.DAY], schema.training_columns(config))
        try:
            result = training.train(config, plan, exchange, [synthetic.DAY], plan)
        except BrokenOff:
            return
        (directory / f"result{exchange.rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
