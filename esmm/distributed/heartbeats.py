"""Heartbeats: which rank was lost, on which host, and why.

Where a rank dies, Horovod tells of a connection that broke; where it freezes, of nothing, and its launcher blames
whichever rank gives up first. So each rank has a heart, which tells a monitor every few seconds that it is alive and
where it is, and hears whether another one was lost:

    with beating(monitor.address, rank=1, place=lambda: (512, "training"), limits=limits) as heart:
        heart.lost         # None, or Lost("rank 0 on worker-7", "its process ended, in step 512 (training)")

Every rank whose heart hears of a loss has a while to end by Horovod's own error; after that the heart ends the process,
since no thread can be called back from a collective. The monitor (`esmm.distributed.monitor`) is beside the launcher,
or on rank 0.

Messages are lines of JSON over TCP, the first of them with the monitor's token; nothing of them is executed.
"""

import contextlib
import json
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pydantic
import structlog

from esmm.config import Failure
from esmm.errors import ConfigError, ConflictError, DataError, JobError, RankLostError, StorageError

log = structlog.get_logger()

MONITOR = "ESMM_MONITOR"
"""The environment variable by which horovodrun's ranks get the launcher's address, as JSON."""

READING = "reading"
"""What a rank says first of what it does while it waits for samples."""

ENDED = 70
"""The exit code of a process that its heart ended: EX_SOFTWARE."""


class Limits(NamedTuple):
    """Times, in seconds."""

    interval: float
    """Between two beats."""
    silence: float
    """After which a rank that does not beat is lost."""
    grace: float
    """From when a rank hears of a loss to the end of its process."""

    @classmethod
    def of(cls, settings: Failure) -> "Limits":
        """Times by which the settings hold: silence, a beat and the grace together stay below them."""
        dead, frozen = settings.dead_within.total_seconds(), settings.frozen_within.total_seconds()
        shorter = min(dead, frozen)
        return cls(interval=min(shorter / 20, 5.0), silence=frozen / 2, grace=min(dead / 2, frozen / 4))


class Address(pydantic.BaseModel):
    """Where a monitor listens, and what it has to be told first."""

    model_config = pydantic.ConfigDict(frozen=True)

    host: str
    port: int
    token: str = pydantic.Field(repr=False)


class Lost(pydantic.BaseModel):
    """A rank that went, or whoever else had to be there."""

    model_config = pydantic.ConfigDict(frozen=True)

    who: str
    """`rank 1 on worker-7`, say."""
    cause: str
    """And where it was, as far as it has said: `its process ended, in step 512 (training)`."""
    error: tuple[str, str, str, str] | None = None
    """Of a JobError that the rank raised: its class, where, expected and found."""


class Heart:
    """Beats for a rank, in a thread of its own, see `beating`."""

    def __init__(
        self, address: Address, rank: int, place: Callable[[], tuple[int, str]], limits: Limits, monitor: str
    ) -> None:
        self.lost: Lost | None = None
        """Who was lost, once this rank has heard of it."""
        self._place, self._limits, self._monitor = place, limits, monitor
        self._heard, self._leaving, self._gone = threading.Event(), threading.Event(), threading.Event()
        self._socket = socket.create_connection((address.host, address.port), timeout=limits.silence)
        self._replies = self._socket.makefile("rb")
        self._tell(token=address.token, rank=rank, host=platform.node())
        threading.Thread(target=self._beat, name="heart", daemon=True).start()

    def wait_for_loss(self) -> Lost | None:
        """Who was lost; waits as long as it can take to hear of it."""
        self._heard.wait(self._limits.silence + 2 * self._limits.interval)
        return self.lost

    def leave(self, error: BaseException | None) -> None:
        """Say that the rank ends by itself, and what it raised, if anything. It has the time of the grace to do so."""
        self._leaving.set()
        with contextlib.suppress(OSError):
            self._tell(left=None if error is None else self._told(error))

    def stop(self) -> None:
        """Beat no more."""
        self._gone.set()
        self._leaving.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _beat(self) -> None:
        last, since = self._place(), time.monotonic()
        while not self._leaving.wait(self._limits.interval):
            try:
                if self._place() != last:
                    last, since = self._place(), time.monotonic()
                if last[1].startswith(READING) and time.monotonic() - since > self._limits.silence:
                    # The main thread waits for a storage that does not answer, and all others wait for it.
                    self._tell(
                        left={"cause": f"no batch for {self._limits.silence:g} s, {where(self._said())}"}
                    )
                    break
                self._tell()
                reply = self._replies.readline()
                lost = (
                    json.loads(reply)["lost"]
                    if reply
                    else {"who": self._monitor, "cause": "its process ended"}
                )
            except TimeoutError:
                lost = {"who": self._monitor, "cause": f"no sign of life for {self._limits.silence:g} s"}
            except (OSError, ValueError):
                lost = {"who": self._monitor, "cause": "its process ended"}
            if lost and not self._leaving.is_set():
                self.lost = Lost(**lost)
                log.error("run lost", who=self.lost.who, cause=self.lost.cause)
                break
        self._heard.set()
        if not self._gone.wait(self._limits.grace):
            sys.stderr.flush()
            os._exit(ENDED)  # the main thread is in a collective, and cannot be woken

    def _told(self, error: BaseException) -> dict[str, Any]:
        """What the monitor makes a `Lost` of."""
        if isinstance(error, JobError):
            kind = type(error).__name__
            return {"cause": str(error), "error": (kind, error.where, error.expected, error.found)}
        first, *_ = str(error).splitlines() or [""]
        return {"cause": f"{type(error).__name__}: {first}, {where(self._said())}"}

    def _said(self) -> dict[str, Any]:
        step, doing = self._place()
        return {"step": step, "doing": doing}

    def _tell(self, **more: Any) -> None:
        self._socket.sendall(json.dumps(self._said() | more).encode() + b"\n")


def where(said: dict[str, Any]) -> str:
    """The place that a heart has told, in words."""
    return f"in step {said['step']} ({said['doing']})"


@contextmanager
def beating(
    address: Address,
    rank: int,
    place: Callable[[], tuple[int, str]],
    limits: Limits,
    monitor: str = "the launcher",
) -> Iterator[Heart]:
    """Tell a monitor, while the block runs, that a rank is alive and `place`, its step and what it does there.

    `monitor` is whom to blame where the monitor itself is lost.
    """
    heart = Heart(address, rank, place, limits, monitor)
    try:
        yield heart
    finally:
        heart.stop()


def error_of(lost: Lost | None, rank: int | None = None) -> JobError:
    """What a run ends with: the error that a rank raised, or that one was lost."""
    if lost is None:
        return RankLostError(f"rank {rank}", expected="the other ranks to go on",
                             found="one that stopped, whose own error says why")  # fmt: skip
    if lost.error is not None and rank is None:
        name, where, expected, found = lost.error
        kinds = {kind.__name__: kind for kind in (ConfigError, ConflictError, DataError, StorageError)}
        return kinds.get(name, RankLostError)(where, expected=expected, found=found)
    return RankLostError(lost.who, expected="all ranks to go on", found=lost.cause)
