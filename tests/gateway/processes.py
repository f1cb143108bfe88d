"""A gateway worker in a process of its own, whose memory can be measured and whose loop no test holds up."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.gateway.bench import Bench
from tests.gateway.clients import Client
from tests.gateway.upstreams import Upstream

ROOT = Path(__file__).parents[2]


class Running:
    """A process that has printed its port."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.port = port
        self.pid = process.pid
        self._process = process

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)


class Process(Running):
    """A worker in its own process."""

    def resident_bytes(self) -> int:
        """Return its resident set size."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def forget_peak(self) -> None:
        """Let `peak_bytes` begin anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """Return the largest resident set size since `forget_peak`."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1_024 * int(status.partition("VmHWM:")[2].split()[0])

    async def report(self) -> dict[str, Any]:
        """Return what it holds (`held`), has dropped (`dropped`), its pairs, and how late its loop was (`lag`)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        while not (line := await self._process.stdout.readline()).startswith(b"{"):
            assert line, "the worker has ended"  # else a line of its log
        found: dict[str, Any] = json.loads(line)
        return found

    async def held(self) -> dict[str, int]:
        """Return what it holds, without zeros."""
        found: dict[str, int] = (await self.report())["held"]
        return found


@asynccontextmanager
async def worker(
    stable: Upstream | int,
    candidate: int | None = None,
    *,
    in_the_end_free: bool = True,
    **more: int | str | dict[str, float],
) -> AsyncIterator[Process]:
    """Run a worker process in front of stable and a candidate's port; `more` are options of worker_process.py.

    It must end by itself, with nothing left, unless a test holds something up to the end.
    """
    port = stable if isinstance(stable, int) else stable.port
    options = {"stable": port, "candidate": candidate or port, **more}
    async with _started("tests.gateway.worker_process", json.dumps(options)) as (process, port):
        yield Process(process, port)
        if in_the_end_free:
            assert process.stdin is not None
            process.stdin.close()
            assert await asyncio.wait_for(process.wait(), 10) == 0


@asynccontextmanager
async def upstream_process() -> AsyncIterator[Running]:
    """Run an upstream that answers everything by 14 bytes of JSON, and can be stopped."""
    async with _started("tests.gateway.upstream_process") as (process, port):
        yield Running(process, port)


@asynccontextmanager
async def _started(module: str, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments,
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        while not (line := (await process.stdout.readline()).strip()).isdigit():
            assert line, f"{module} did not start"
        yield process, int(line)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def dial(bench: Bench, port: int, receive_bytes: int | None = None) -> Client:
    """Return a connection that the bench ends."""
    client = await Client.open(port, receive_bytes)
    bench.clients.append(client)
    return client
