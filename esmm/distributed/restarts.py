"""Starting the ranks again after one was lost: from the last checkpoint, as long as the config allows.

    restarting(attempt, config.training, slots=lambda: 3)      # attempt(ranks, restart) is called until it returns

Only what another try may mend is tried again: a rank that died, froze or raised what is no error of ours, and a storage
that failed. Data that are not what they should be and losses that are not finite would be the same once more.
"""

from collections.abc import Callable
from typing import TypeVar

import structlog

from esmm.config import Training
from esmm.errors import RankLostError, StorageError

T = TypeVar("T")

log = structlog.get_logger()


def restarting(attempt: Callable[[int, int], T], settings: Training, slots: Callable[[], int]) -> T:
    """The result of the first attempt that comes to its end, of at most 1 + `failure.max_restarts`.

    `attempt` is told how many ranks to run, and the number of the restart, 0 for the first attempt; `slots` says how
    many ranks there is room for: a restart takes fewer than the config asks for where it is fewer, but at least one.

    Raises what the last attempt raised, and what an attempt raises that is neither RankLostError nor StorageError.
    """
    ranks, most = settings.ranks, settings.failure.max_restarts
    for restart in range(most):
        try:
            return attempt(ranks, restart)
        except (RankLostError, StorageError) as error:
            ranks = max(min(settings.ranks, slots()), 1)
            log.warning("starting again", restart=restart + 1, of=most, ranks=ranks, since=str(error))
    return attempt(ranks, most)
