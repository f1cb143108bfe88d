"""A thousand slow clients of slowhttptest beside a good one: it notices nothing, and each of them is ended in time."""

import asyncio
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from router.core.config import Limits
from router.core.traffic import Variant
from tests.gateway.bench import Bench, Gateway, route_of, until
from tests.gateway.test_overload import model_server

KINDS = {
    "headers": ("-H", "-i", "1"),
    "body": ("-B", "-i", "1", "-s", "8192"),
    "read": ("-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32"),
}
DEADLINE_S = 2.0

pytestmark = pytest.mark.skipif(shutil.which("slowhttptest") is None, reason="needs slowhttptest (Debian package)")


class Ages:
    """Notes how old connections grow on which no good request comes, by a look ten times a second."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._since: dict[object, float] = {}
        self._oldest_s = 0.0
        self._task = asyncio.create_task(self._watch())

    def __repr__(self) -> str:
        return f"<Ages: at most {self._oldest_s:.1f} s>"

    async def _watch(self) -> None:
        while True:
            now = time.monotonic()
            present = tuple(self._gateway.worker._clients)  # noqa: SLF001 - no metric of it
            self._since = {one: self._since.get(one, now) for one in present}
            ages = sorted(now - since for since in self._since.values())
            self._oldest_s = max(self._oldest_s, ages[-2] if len(ages) > 1 else 0.0)  # the good one is the oldest
            await asyncio.sleep(0.1)

    async def oldest_s(self) -> float:
        """Stop, and return the largest age that a connection but the good one reached."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        return self._oldest_s


async def good(bench: Bench, seconds: float) -> list[float]:
    """Return the latencies in ms of a client that asks every 5 ms; anything but 200 fails."""
    client = await bench.client()
    took: list[float] = []
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        began = time.monotonic()
        answer = await client.ask("POST", "/good", b"x")
        assert answer.status == 200
        took.append((time.monotonic() - began) * 1000)
        await asyncio.sleep(0.005)
    client.abort()
    return took


async def attacked(bench: Bench, gateway: Gateway, kind: str, seconds: int, directory: Path) -> tuple[list[float], int]:
    """Return the good client's latencies beside 1,000 slow ones, and how many connections there were at most."""
    method = "POST" if kind == "body" else "GET"
    process = await asyncio.create_subprocess_exec(
        "slowhttptest", *KINDS[kind], "-c", "1000", "-r", "1000", "-l", str(seconds), "-t", method,
        "-u", f"http://127.0.0.1:{gateway.port}/slow", "-p", "1",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, cwd=directory,
    )  # fmt: skip
    most = 0
    try:
        client = asyncio.create_task(good(bench, seconds))
        while not client.done():
            most = max(most, gateway.connections)
            await asyncio.sleep(0.05)
        took = await client
        return took, most
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_ov3_a_thousand_slow_clients_are_not_noticed_by_a_good_one(
    bench: Bench, kind: str, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """No error of the good client; each bad connection is gone a second after its deadline at the latest."""
    limits = Limits(
        header_deadline_s=DEADLINE_S, body_deadline_s=DEADLINE_S, write_stall_s=DEADLINE_S, idle_s=DEADLINE_S
    )
    async with model_server(10_000, 0) as backend:
        variant = Variant("v1", (backend,), max_in_flight=2_000)
        gateway = await bench.gateway(route_of(variant), limits=limits)
        before = await good(bench, 1.0)
        ended = Ages(gateway)
        during, most = await attacked(bench, gateway, kind, 4, tmp_path)
        await until(lambda: not gateway.connections, "all are gone")
        oldest = await ended.oldest_s()
    figure(
        f"OV3 {kind}: {most} connections, good client median {statistics.median(during):.2f} ms against "
        f"{statistics.median(before):.2f}, p99 {sorted(during)[len(during) * 99 // 100]:.1f} against "
        f"{sorted(before)[len(before) * 99 // 100]:.1f} ms; oldest connection {oldest:.1f} s"
    )
    assert most >= 900
    assert oldest <= (2 if kind == "read" else 1) * DEADLINE_S + 1.0 + 0.3
    assert statistics.median(during) <= max(2 * statistics.median(before), 2.0)
    assert gateway.outcomes()["ok"] >= len(during)
