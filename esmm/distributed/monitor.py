"""The monitor of the ranks' hearts (`esmm.distributed.heartbeats`): it knows who was lost first, and tells the others.

    with Monitor(limits, ranks=2) as monitor:             # beside the launcher, or on rank 0
        monitor.address                                   # what every heart has to know
        monitor.lost                                      # None, or Lost("rank 1 on worker-7", "its process ended, …")

A connection that closes without a word is a process that ended; one that falls silent, a rank that is frozen, or a
host that is. So is a rank of which nothing is heard for as long after the first one has been: it froze before its heart
beat. A rank that raises says so before it closes.
"""

import hmac
import json
import secrets
import socket
import socketserver
import threading
from collections.abc import Callable
from typing import Any, Self

import structlog

from esmm.distributed.heartbeats import Address, Limits, Lost, where

log = structlog.get_logger()


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
        who, place = f"rank {hello['rank']} on {hello['host']}", where(hello)
        self.server.hears(int(hello["rank"]))
        try:
            for line in self.rfile:
                message = json.loads(line)
                place = where(message)
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
        self.server.loses(Lost(who=who, cause=f"{cause}, {place}"))

    def _send(self, message: dict[str, Any]) -> None:
        self.wfile.write(json.dumps(message).encode() + b"\n")
