"""What ranks do together: where one of them cannot, all raise its error, and none waits for it.

    names = of_first(exchange, lambda: versions.complete(root))              # what rank 0 finds, on every rank
    directory = of_each(exchange, lambda: versions.fetch(root, version))     # on each rank its own

All ranks call the same; without an exchange there is one. Other errors than DataError stay the rank's own.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from esmm.errors import DataError

if TYPE_CHECKING:
    from esmm.distributed.exchange import Exchange

T = TypeVar("T")


def of_first(exchange: "Exchange | None", action: Callable[[], T]) -> T:
    """What an action comes to on rank 0, which has to be picklable, or the DataError that it raises there."""
    if exchange is None:
        return action()
    outcome = exchange.broadcast_object(_outcome(action) if exchange.rank == 0 else None)
    if isinstance(outcome, DataError):
        raise outcome
    return cast(T, outcome)


def of_each(exchange: "Exchange | None", action: Callable[[], T]) -> T:
    """What an action comes to on this rank, once all are done with it; or the first DataError that it raises on any."""
    if exchange is None:
        return action()
    outcome = _outcome(action)
    for failed in filter(None, exchange.gather_objects(outcome if isinstance(outcome, DataError) else None)):
        raise failed
    return cast(T, outcome)


def _outcome(action: Callable[[], T]) -> T | DataError:
    try:
        return action()
    except DataError as error:
        return error
