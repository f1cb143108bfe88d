"""A fixed-answer server in a thread of its own, for tests that block."""

import asyncio
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from loadtests.fixed_answer import FixedAnswer


class Ending(FixedAnswer):
    """Can be ended by the server's side."""

    requests = 0

    def abort(self) -> None:
        """End the connection."""
        self._transport.abort()


@contextmanager
def serving(protocol: type[Ending]) -> Iterator[int]:
    """Run a server in a thread of its own; gives its port."""
    protocol.requests = 0
    lines: list[Ending] = []
    ports: queue.Queue[int] = queue.Queue()
    loop, ended = asyncio.new_event_loop(), asyncio.Event()

    def line() -> Ending:
        lines.append(protocol())
        return lines[-1]

    async def serve() -> None:
        server = await loop.create_server(line, "127.0.0.1", 0)
        async with server:
            ports.put(int(server.sockets[0].getsockname()[1]))
            await ended.wait()
        for one in lines:
            one.abort()
        await asyncio.sleep(0)  # the transports let go of their sockets

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        yield ports.get(timeout=10)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
