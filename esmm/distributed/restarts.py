"""Starting the ranks again after one was lost: from the last checkpoint, as long as the config allows.

    restarting(attempt, config, slots=lambda: 3)      # attempt(ranks, fresh) is called until it returns

Only what another try may mend is tried again: a rank that died, froze or raised what is no error of ours. Data that
cannot be read and losses that are not finite would be the same once more.
"""

from collections.abc import Callable
from typing import TypeVar

import structlog

from esmm.config import Training
from esmm.errors import RankLostError

T = TypeVar("T")

log = structlog.get_logger()


def restarting(
    attempt: Callable[[int, bool], T], settings: Training, slots: Callable[[], int], *, fresh: bool = False
) -> T:
    """The result of the first attempt that loses no rank, of at most 1 + `failure.max_restarts`.

    `attempt` runs so many ranks, and is told whether to begin anew rather than from a checkpoint; `slots` says how
    many ranks there is room for: a restart takes fewer than the config asks for where it is fewer, but at least one.

    Raises what the last attempt raised, and what an attempt raises that is no RankLostError.
    """
    ranks = settings.ranks
    for restart in range(1, settings.failure.max_restarts + 1):
        try:
            return attempt(ranks, fresh and restart == 1)
        except RankLostError as error:
            ranks = max(min(settings.ranks, slots()), 1)
            log.warning("starting again", restart=restart, of=settings.failure.max_restarts, ranks=ranks,
                        since=str(error))  # fmt: skip
    return attempt(ranks, fresh and not settings.failure.max_restarts)
