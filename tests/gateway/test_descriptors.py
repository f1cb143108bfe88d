"""File descriptors: connections are bounded by them, and running out of them is survived and nobody else's fault."""

import asyncio
import contextlib
import errno
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.gateway.descriptors import KEPT, connections_within, is_ours
from tests.gateway.bench import Bench, route_of, started, until
from tests.gateway.clients import request
from tests.gateway.upstreams import answering, ok

OPEN_FILES = 128


@pytest.mark.parametrize(
    ("allowed", "files", "expected"),
    [
        (10_000, 1_048_576, 10_000),
        (10_000, KEPT + 30_000, 10_000),
        (10_000, KEPT + 29_999, 9_999),
        (10_000, 128, 21),
        (10_000, 10, 1),
        (5, resource.RLIM_INFINITY, 5),
    ],
)
def test_connections_are_bounded_by_what_may_be_opened(allowed: int, files: int, expected: int) -> None:
    """Three for each connection, and some kept for the rest."""
    assert connections_within(allowed, files) == expected


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (OSError(errno.EMFILE, "x"), True),
        (OSError(errno.ENFILE, "x"), True),
        (OSError(errno.EADDRNOTAVAIL, "x"), True),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), False),
        (OSError("several errors"), False),
        (TimeoutError(), False),
        (ValueError("host"), False),
    ],
)
def test_a_lack_on_this_machine_is_no_failure_of_the_variant(error: OSError | ValueError, *, ours: bool) -> None:
    """By the error's number alone."""
    assert is_ours(error) is ours


@contextlib.contextmanager
def no_files_left() -> Iterator[None]:
    """Let this process open no more files for the duration of the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # not as many as are open: one of them may close meanwhile
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("weight_bp", [0, 10_000], ids=["stable", "candidate"])
async def test_ov6_a_connection_that_cannot_be_opened_for_want_of_files_is_shed(bench: Bench, weight_bp: int) -> None:
    """503 and `shed`, no failure of the variant, no rescue; with files again it goes on."""
    stable, candidate = await bench.upstream(), await bench.upstream(answering(ok(b"candidate")))
    gateway = await bench.gateway(route_of(stable, candidate), states=[started(weight_bp)])
    client = await bench.client()
    assert (await client.ask("GET", "/unrelated")).status == 200  # so that all there is to import is imported
    for live in gateway.worker.table.lives.values():
        for pool in live.pools():
            pool.expire(float("inf"))
    await until(lambda: not stable.open and not candidate.open, "their files are closed at both ends")
    await asyncio.sleep(0)
    with no_files_left():
        answer = await client.ask("POST", "/", b"x")
    assert (answer.status, answer.field("retry-after")) == (503, "1")
    assert gateway.outcomes("v2" if weight_bp else "v1") == {"ok": 1, "shed": 1}
    assert gateway.rescues() == {}
    assert (await client.ask("POST", "/", b"x")).status == 200


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.slow
@pytest.mark.parametrize("guarded", [True, False], ids=["bounded", "exhausted"])
async def test_ov6_500_connections_on_128_files_are_survived(bench: Bench, *, guarded: bool) -> None:
    """No spin, no crash, and within a second of their end everything is as before.

    `exhausted`: as if the bound by descriptors were not there, so that accepting itself fails.
    """
    upstream = await bench.upstream()
    worker = subprocess.Popen(  # noqa: ASYNC220 - once
        [sys.executable, "-m", "tests.gateway.few_files", str(upstream.port), str(OPEN_FILES), str(int(guarded))],
        stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert worker.stdout is not None
        line = ""
        while not line.startswith("port "):
            line = await asyncio.to_thread(worker.stdout.readline)
        port = int(line.removeprefix("port "))
        crowd = [socket.socket() for _ in range(500)]
        for one in crowd:
            one.setblocking(False)  # noqa: FBT003 - the socket's own signature
            one.connect_ex(("127.0.0.1", port))
        await asyncio.sleep(0.5)  # until all that can be accepted has been
        before, began = cpu_s(worker.pid), time.monotonic()
        await asyncio.sleep(2.0)
        spent = (cpu_s(worker.pid) - before) / (time.monotonic() - began)
        assert worker.poll() is None
        assert spent < 0.3, f"{spent:.0%} of a core"
        for one in crowd:
            one.close()
        freed = time.monotonic()
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request("POST", "/", b"x", "Connection: close"))
                answer = await reader.read()
                writer.close()
                if answer.startswith(b"HTTP/1.1 200"):
                    break
            assert time.monotonic() - freed < 1.0, "within a second"
            await asyncio.sleep(0.02)
    finally:
        worker.kill()
        worker.communicate()
