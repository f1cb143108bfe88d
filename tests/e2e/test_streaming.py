"""Bodies and events through the real processes: as sent, when sent, and without filling the gateway's memory."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.e2e.harness import Turnout, Turnouts, config_for, rss_mib, slowdown
from tests.e2e.load import until
from tests.e2e.model_server import ModelServer
from tests.e2e.stream_server import EVENTS, SLOW_BYTES_PER_S, StreamServer, big_body, digest_of, read_body
from tests.stopwatch import Stopwatch

MIB = 2**20
BIG = 64 * MIB
GIB = 2**30
LATE_S = 0.050
SLOW_FOR_S = 5.0
GROWTH_MIB = 16.0
AHEAD_MIB = 64
"""What the kernel holds in two connections, at most: tcp_rmem and tcp_wmem allow 6 to 32 MiB and 4 MiB each."""
GONE_MS = 250.0
"""How long after its client an upstream connection may live on (DP9)."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[StreamServer]:
    """A running StreamServer."""
    async with StreamServer().running() as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def serve(server: StreamServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Turnout]:
    """A `turnout serve` in front of it, with patience; one for all tests of this file."""
    turnouts = Turnouts(tmp_path_factory.mktemp("streaming"))
    config = config_for(ModelServer(1, port=9_001), ModelServer(2, port=9_002))
    route = config["routes"]["digits"]
    route |= {"match": {}, "adapter": "opaque", "variants": {"v1": {"url": server.url}}, "timeouts": {"total": "120s"}}
    yield await turnouts.start(config)
    await turnouts.finish()


async def asked(serve: Turnout, head: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection on which this request's head was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", serve.port("gateway"), limit=64 * 1024)
    writer.write(f"{head}\r\nhost: localhost\r\n\r\n".encode())
    return reader, writer


async def head_of_answer(reader: asyncio.StreamReader) -> str:
    """Read a good answer's head."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    assert head.startswith("http/1.1 200 ")
    return head


async def put(serve: Turnout, size: int, slow_for_s: float = 0.0) -> tuple[str, float]:
    """Send a body to a server that is slow at first; return the server's digest, and how long sending took."""
    reader, writer = await asked(serve, f"POST /put/{slow_for_s} HTTP/1.1\r\ncontent-length: {size}")
    began_s = time.monotonic()
    for piece in big_body(size):
        writer.write(piece)
        await writer.drain()
    sent_s = time.monotonic() - began_s
    await head_of_answer(reader)
    digest = (await reader.readexactly(64)).decode()
    writer.close()
    return digest, sent_s


async def get(serve: Turnout, size: int, slow_for_s: float = 0.0) -> str:
    """Ask for a body, read it slowly at first, and return its digest."""
    reader, writer = await asked(serve, f"POST /get/{size} HTTP/1.1\r\ncontent-length: 0")
    assert f"content-length: {size}\r\n" in await head_of_answer(reader)
    digest = await read_body(reader, size, slow_for_s)
    writer.close()
    return digest


@dataclass
class Memory:
    """Resident memory of a process in MiB: at the beginning, and the most since then."""

    before: float
    most: float

    @property
    def growth(self) -> float:
        """How much more it has become."""
        return self.most - self.before


@asynccontextmanager
async def watched_memory(pid: int) -> AsyncIterator[Memory]:
    """Watch a process's memory during the block."""
    memory = Memory(rss_mib(pid), 0.0)

    async def watch() -> None:
        while True:
            memory.most = max(memory.most, rss_mib(pid))
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    yield memory
    watching.cancel()


async def read_slowly(
    reader: asyncio.StreamReader, seconds: float, sent_bytes: Callable[[], int]
) -> tuple[int, list[int]]:
    """Read 64 KiB/s; return how many bytes that were, and by how many the server was ahead each time."""
    got, ahead, began_s = 0, [], time.monotonic()
    while (passed_s := time.monotonic() - began_s) < seconds:
        if got > passed_s * SLOW_BYTES_PER_S:
            await asyncio.sleep(0.02)  # the reader's pace is what is tested
            continue
        got += len(await reader.read(8 * 1024))
        ahead.append(sent_bytes() - got)
    return got, ahead


@pytest.mark.parametrize("size", [MIB, BIG], ids=["1 MiB", "64 MiB"])
async def test_bodies_are_byte_exact_both_ways(serve: Turnout, size: int) -> None:
    """What the server hashes is what the client has sent, and the other way round."""
    assert (await put(serve, size))[0] == digest_of(size)
    assert await get(serve, size) == digest_of(size)


async def test_dp7_events_arrive_as_they_are_sent(
    serve: Turnout, server: StreamServer, figure: Callable[[str], None]
) -> None:
    """Server-sent events at 10 per second: each reaches the client within 50 ms, not with the next one or the end."""
    reader, writer = await asked(serve, "GET /events/ HTTP/1.1")
    assert "content-type: text/event-stream" in await head_of_answer(reader)
    arrived_s = []
    for number in range(EVENTS):
        length = int(await reader.readline(), 16)
        assert await reader.readexactly(length + 2) == b"data: %d\n\n\r\n" % number
        arrived_s.append(time.monotonic())
    assert await reader.readexactly(5) == b"0\r\n\r\n"
    writer.close()
    late_s = [there - sent for sent, there in zip(server.events_sent_s[-EVENTS:], arrived_s, strict=True)]
    figure(f"{EVENTS} events, the latest {1000 * max(late_s):.1f} ms after it was sent")
    assert max(late_s) <= LATE_S * slowdown()


async def test_dp7_a_slow_reader_costs_no_memory(
    serve: Turnout, server: StreamServer, figure: Callable[[str], None]
) -> None:
    """A client that reads 64 MiB at 64 KiB/s: the server is slowed down, the worker's memory stays; all arrives."""
    (worker,) = serve.workers()
    server.bytes_sent = 0
    async with watched_memory(worker) as memory:
        reading = asyncio.create_task(get(serve, BIG, SLOW_FOR_S))
        await asyncio.sleep(SLOW_FOR_S - 0.5)
        ahead_mib = server.bytes_sent / MIB
        assert await reading == digest_of(BIG)
    figure(f"slow reader: RSS {memory.before:.1f} MiB, {memory.growth:+.1f}; the server had sent {ahead_mib:.1f} MiB")
    assert memory.growth <= GROWTH_MIB
    assert ahead_mib <= GROWTH_MIB


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seconds", [10.0, pytest.param(30.0, marks=pytest.mark.soak)])
async def test_dp7_a_reader_of_a_gibibyte_is_not_read_ahead_of_and_may_hang_up(
    serve: Turnout, server: StreamServer, seconds: float, figure: Callable[[str], None]
) -> None:
    """64 KiB/s of a 1 GiB answer, then the client is gone: at most 16 MiB more memory; the server is let go at once."""
    (worker,) = serve.workers()
    await until(lambda: server.serving == 0)
    server.bytes_sent = 0
    async with watched_memory(worker) as memory:
        reader, writer = await asked(serve, f"POST /get/{GIB} HTTP/1.1\r\ncontent-length: 0")
        await head_of_answer(reader)
        got, ahead = await read_slowly(reader, seconds, lambda: server.bytes_sent)
        writer.transport.abort()
        watch = Stopwatch()
        await until(lambda: server.serving == 0)
        gone_ms = 1000 * watch.elapsed_s
    figure(
        f"1 GiB at 64 KiB/s for {seconds:.0f} s: read {got / MIB:.1f} MiB, the server was {max(ahead) / MIB:.1f} MiB "
        f"ahead; RSS {memory.before:.1f} MiB, {memory.growth:+.1f}; the server was let go {gone_ms:.0f} ms after it"
    )
    assert got >= 0.9 * seconds * SLOW_BYTES_PER_S
    assert max(ahead) <= AHEAD_MIB * MIB
    assert memory.growth <= GROWTH_MIB
    assert gone_ms <= GONE_MS


@pytest.mark.slow
async def test_dp7_a_slow_server_costs_no_memory(serve: Turnout, figure: Callable[[str], None]) -> None:
    """A server that reads 64 MiB at 64 KiB/s: the client is slowed down, the worker's memory stays; all arrives."""
    (worker,) = serve.workers()
    async with watched_memory(worker) as memory:
        digest, sent_s = await put(serve, BIG, SLOW_FOR_S)
    assert digest == digest_of(BIG)
    figure(f"slow server: RSS {memory.before:.1f} MiB, {memory.growth:+.1f}; the client needed {sent_s:.1f} s to send")
    assert memory.growth <= GROWTH_MIB
    assert sent_s >= SLOW_FOR_S - 0.5
