"""Heartbeats: which rank was lost, on which host, and why.

Where a rank dies, Horovod tells of a connection that broke; where it freezes, of nothing, and its launcher blames
whichever rank gives up first. So each rank has a heart, which tells a monitor every few seconds that it is alive and
where it is, and hears whether another one was lost:

    with Monitor(limits, ranks=2) as monitor:             # beside the launcher, or on rank 0
        with beating(monitor.address, rank=1, place=lambda: (512, "reading"), limits=limits) as heart: …   # on a rank
        monitor.lost       # None, or Lost("rank 1 on worker-7", "its process ended, in step 512 (reading)")

A connection that closes without a word is a process that ended; one that falls silent, a rank that is frozen, or a
host that is. So is a rank of which nothing is heard for as long after the first one has been: it froze before its heart
beat. A rank that raises says so before it closes. Every rank whose heart hears of a loss has a while to end
by Horovod's own error; after that the heart ends the process, since no thread can be called back from a collective.

Messages are lines of JSON over TCP, the first of them with the monitor's token; nothing of them is executed.
"""

import contextlib
import hmac
import json
import os
import platform
import secrets
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

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
    """And where it was, as far as it has said: `its process ended, in step 512 (reading)`."""
    error: tuple[str, str, str, str] | None = None
    """Of a JobError that the rank raised: its class, where, expected and found."""


class Monitor(socketserver.ThreadingTCPServer):
    """Listens to the hearts of all ranks while its block runs, a thread for each."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(self, limits: Limits, host: str | None = None, ranks: int = 0) -> None:
        """Listen at `host`, by default the address of this machine's own name.

        `ranks` have to be heard of, once one of them was; by default only those count that were.
        """
        super().__init__(("", 0), _Listener)
        self.limits = limits
        self.lost: Lost | None = None
        """The first that was lost, from which all other losses followed."""
        self.address = Address(host=host or socket.gethostname(), port=self.server_address[1],
                               token=secrets.token_hex(16))  # fmt: skip
        self._lock = threading.Lock()
        self._ranks, self._heard = ranks, set[int]()
        self._timers: list[threading.Timer] = []
        self._after_a_loss: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for timer in self._timers:
            timer.cancel()
        self.shutdown()
        self.server_close()

    def after_a_loss(self, action: Callable[[], None]) -> None:
        """What to do, in another thread, once ranks have had the time of the grace to end by themselves."""
        self._after_a_loss = action

    def hears(self, rank: int) -> None:
        """Take note of a rank's first word; from the first of all, the others' are waited for."""
        with self._lock:
            if not self._heard:
                self._after(self.limits.silence, self._miss)
            self._heard.add(rank)

    def loses(self, lost: Lost) -> None:
        """Take note of a loss, unless there was one before."""
        with self._lock:
            if self.lost is None:
                self.lost = lost
                self._after(self.limits.grace, lambda: self._after_a_loss())
                if lost.error is None:  # the rank itself shows the other ones
                    log.error("rank lost", who=lost.who, cause=lost.cause)

    def _miss(self) -> None:
        for rank in range(self._ranks):
            if rank not in self._heard:
                cause = f"no first sign of life for {self.limits.silence:g} s after another rank's"
                return self.loses(Lost(who=f"rank {rank}", cause=cause))
        return None

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A stranger's nonsense is no event."""


class _Listener(socketserver.StreamRequestHandler):
    """Listens to one heart until its rank leaves or is lost."""

    server: Monitor

    def handle(self) -> None:
        limits, self.connection = self.server.limits, self.request
        self.connection.settimeout(limits.silence)
        hello = json.loads(self.rfile.readline(4096))
        if not hmac.compare_digest(str(hello["token"]), self.server.address.token):
            return
        who, where = f"rank {hello['rank']} on {hello['host']}", _place(hello)
        self.server.hears(int(hello["rank"]))
        try:
            for line in self.rfile:
                message = json.loads(line)
                where = _place(message)
                if "left" in message:
                    if message["left"]:
                        self.server.loses(Lost(who=who, **message["left"]))
                    return
                lost = self.server.lost
                self._send({"lost": None if lost is None else lost.model_dump()})
            cause = "its process ended"
        except TimeoutError:
            cause = f"no sign of life for {limits.silence:g} s"
        except OSError:
            cause = "its process ended"
        self.server.loses(Lost(who=who, cause=f"{cause}, {where}"))

    def _send(self, message: dict[str, Any]) -> None:
        self.wfile.write(json.dumps(message).encode() + b"\n")


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
                        left={"cause": f"no batch for {self._limits.silence:g} s, {_place(self._said())}"}
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
        return {"cause": f"{type(error).__name__}: {first}, {_place(self._said())}"}

    def _said(self) -> dict[str, Any]:
        step, doing = self._place()
        return {"step": step, "doing": doing}

    def _tell(self, **more: Any) -> None:
        self._socket.sendall(json.dumps(self._said() | more).encode() + b"\n")


def _place(said: dict[str, Any]) -> str:
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
