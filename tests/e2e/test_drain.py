"""How long a stream may still go on once its gateway is to end is the operator's choice."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.harness import Turnouts, config_for
from tests.e2e.model_server import ModelServer
from tests.e2e.stream_server import EVENTS, EVERY_S, StreamServer

END = b"0\r\n\r\n"


@pytest_asyncio.fixture
async def server() -> AsyncIterator[StreamServer]:
    """A running StreamServer."""
    async with StreamServer().running() as one:
        yield one


@pytest.mark.parametrize(("deadline", "events"), [("20s", range(EVENTS, EVENTS + 1)), ("300ms", range(2, EVENTS))])
async def test_a_stream_has_until_the_drain_deadline(
    turnouts: Turnouts, server: StreamServer, deadline: str, events: range
) -> None:
    """SIGTERM in the middle of a stream: it goes on to its end, or is visibly cut at `gateway.drain_deadline`."""
    config = config_for(ModelServer(1, port=9_001), ModelServer(2, port=9_002))
    config["gateway"] |= {"drain_deadline": deadline}
    config["routes"]["digits"] |= {"match": {}, "adapter": "opaque", "variants": {"v1": {"url": server.url}}}
    serve = await turnouts.start(config)
    reader, writer = await asyncio.open_connection("127.0.0.1", serve.port("gateway"))
    writer.write(b"POST /events/1 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
    got = await reader.readuntil(b"data: 1\n\n")
    serve.process.terminate()
    async with asyncio.timeout(EVENTS * EVERY_S + 10.0):
        try:
            while piece := await reader.read(4096):
                got += piece
        except ConnectionResetError:
            got += b"cut"
    writer.close()
    assert got.endswith(END) == (EVENTS in events)
    assert got.count(b"data: ") in events
    assert await serve.stop() == 0
