"""Hearts and their monitor: who is lost, and what is said of it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from esmm.config import Failure
from esmm.distributed import heartbeats
from esmm.distributed.heartbeats import Address, Limits, Lost, beating
from esmm.distributed.monitor import Monitor
from esmm.errors import ConfigError, DataError, RankLostError, StorageError

LIMITS = Limits(interval=0.05, silence=1.0, grace=0.5)
ROOT = Path(__file__).resolve().parent.parent

RANK = """
import signal, sys
from esmm.distributed.heartbeats import Address, Limits, beating
address = Address.model_validate_json(sys.argv[1])
with beating(address, 1, lambda: (512, sys.argv[2]), Limits(0.05, 1.0, 0.5)) as heart:
    print("beating", flush=True)
    {body}
"""


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for a condition, with a deadline."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        threading.Event().wait(0.01)


def rank(address: Address, body: str, doing: str = "reading") -> subprocess.Popen[str]:
    """Rank 1, in a process of its own, once its heart beats."""
    command = [sys.executable, "-c", RANK.format(body=body), address.model_dump_json(), doing]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "beating\n"
    return process


@pytest.mark.parametrize(
    ("blow", "cause"), [(signal.SIGKILL, "its process ended"), (signal.SIGSTOP, "no sign of life for 1 s")]
)
def test_a_rank_that_dies_or_freezes_is_named_with_where_it_was(blow: signal.Signals, cause: str) -> None:
    with Monitor(LIMITS, "127.0.0.1") as monitor:
        process = rank(monitor.address, "signal.pause()")
        try:
            with beating(monitor.address, 0, lambda: (513, "in the step"), LIMITS) as other:
                process.send_signal(blow)
                lost = other.wait_for_loss()
                other.leave(None)
        finally:
            process.kill()
            process.wait()
    assert monitor.lost == lost == Lost(
        who=f"rank 1 on {socket.gethostname()}", cause=f"{cause}, in step 512 (reading)"
    )  # fmt: skip


def test_a_rank_that_raises_says_what() -> None:
    with Monitor(LIMITS, "127.0.0.1") as monitor:
        with beating(monitor.address, 3, lambda: (1, "reading"), LIMITS) as heart:
            heart.leave(KeyError("a mistake\nof two lines"))
            until(lambda: monitor.lost)
    assert monitor.lost is not None
    assert monitor.lost.cause == "KeyError: 'a mistake\\nof two lines', in step 1 (reading)"
    error = heartbeats.error_of(monitor.lost)
    assert isinstance(error, RankLostError)
    assert str(error).startswith(
        f"rank 3 on {socket.gethostname()}: expected all ranks to go on, found KeyError"
    )


@pytest.mark.parametrize("kind", [DataError, ConfigError, StorageError])
def test_an_error_of_ours_comes_out_as_it_went_in(kind: type[DataError]) -> None:
    with Monitor(LIMITS, "127.0.0.1") as monitor:
        with beating(monitor.address, 0, lambda: (1, "reading"), LIMITS) as heart:
            heart.leave(kind("a file", expected="rows", found="none"))
            until(lambda: monitor.lost)
    assert monitor.lost is not None
    error = heartbeats.error_of(monitor.lost)
    assert (type(error), str(error)) == (kind, "a file: expected rows, found none")


def test_ranks_that_leave_by_themselves_are_not_lost() -> None:
    with Monitor(LIMITS, "127.0.0.1") as monitor:
        for number in range(3):
            with beating(monitor.address, number, lambda: (1, "reading"), LIMITS) as heart:
                threading.Event().wait(3 * LIMITS.interval)
                heart.leave(None)
        threading.Event().wait(3 * LIMITS.interval)
    assert monitor.lost is None


def test_a_rank_that_freezes_before_its_heart_beats_is_missed() -> None:
    """Once another one was heard of; a monitor that was told of no ranks misses none."""
    with Monitor(LIMITS, "127.0.0.1", ranks=3) as monitor, Monitor(LIMITS, "127.0.0.1") as other:
        with (
            beating(monitor.address, 0, lambda: (0, "starting"), LIMITS) as heart,
            beating(monitor.address, 2, lambda: (0, "starting"), LIMITS) as third,
            beating(other.address, 0, lambda: (0, "starting"), LIMITS) as alone,
        ):
            lost = heart.wait_for_loss()
            for each in (heart, third, alone):
                each.leave(None)
    cause = "no first sign of life for 1 s after another rank's"
    assert monitor.lost == lost == Lost(who="rank 1", cause=cause)
    assert other.lost is None


def test_the_first_loss_counts() -> None:
    with Monitor(LIMITS, "127.0.0.1") as monitor:
        monitor.loses(Lost(who="rank 1", cause="first"))
        monitor.loses(Lost(who="rank 0", cause="second"))
    assert monitor.lost == Lost(who="rank 1", cause="first")


@pytest.mark.parametrize(
    "line", [b"\x00\xff\n", b"{}\n", b'{"token": "x", "rank": 0, "host": "h"}\n', b"x" * 10_000]
)
def test_strangers_are_ignored(line: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with Monitor(LIMITS, "127.0.0.1") as monitor:
        with socket.create_connection(("127.0.0.1", monitor.address.port)) as stranger:
            stranger.sendall(line)
            stranger.settimeout(5)
            with contextlib.suppress(ConnectionError):
                assert stranger.recv(1) == b""
    assert monitor.lost is None
    assert "Traceback" not in capfd.readouterr().err


def test_a_monitor_that_goes_is_the_one_that_is_lost() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = Address(host="127.0.0.1", port=listener.getsockname()[1], token="t")
    with beating(address, 1, lambda: (1, "reading"), LIMITS, "rank 0") as heart:
        connection, _ = listener.accept()
        hello = json.loads(connection.makefile().readline())
        assert (hello["token"], hello["rank"]) == ("t", 1)
        connection.close()
        assert heart.wait_for_loss() == Lost(who="rank 0", cause="its process ended")
        heart.leave(None)
    listener.close()


def test_a_process_that_cannot_end_by_itself_is_ended() -> None:
    with Monitor(LIMITS, "127.0.0.1") as monitor:
        process = rank(monitor.address, "signal.pause()")
        monitor.loses(Lost(who="rank 0", cause="its process ended"))
        assert process.wait(timeout=20) == heartbeats.ENDED


def test_times_add_up_to_less_than_what_is_asked() -> None:
    for dead, frozen in ((60, 120), (10, 120), (100, 20), (2, 3)):
        failure = Failure.model_validate({"dead_within": f"{dead}s", "frozen_within": f"{frozen}s"})
        limits = Limits.of(failure)
        assert limits.interval + limits.grace < dead
        assert limits.silence + 2 * limits.interval + limits.grace < frozen
        assert 2 * limits.interval < limits.silence


@pytest.mark.parametrize("doing", ["reading batch 513, training", "reading batch 3, validating"])
def test_a_rank_whose_batch_does_not_come_is_lost(doing: str) -> None:
    """Its heart beats, but its step does not go on; that another rank waits in a step is no reason."""
    with Monitor(LIMITS, "127.0.0.1") as monitor:
        process = rank(monitor.address, "signal.pause()", doing)
        with beating(monitor.address, 0, lambda: (512, "in the step"), LIMITS) as other:
            lost = other.wait_for_loss()
            other.leave(None)
        assert process.wait(timeout=20) == heartbeats.ENDED
    assert lost is not None
    assert (lost.who[:6], lost.cause) == ("rank 1", f"no batch for 1 s, in step 512 ({doing})")
