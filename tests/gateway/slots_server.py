"""A model server with few slots, in a process of its own: `python -m tests.gateway.slots_server SLOTS SERVICE_MS`.

Each request takes one slot for so long; more wait for one without bound, as in a model server. The answer has 2 bytes,
to `/slow` 512 KiB, of which the kernel takes little. It prints its port.
"""

import asyncio
import socket
import sys
from typing import cast

import httptools
import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 524288\r\n\r\n" + b"x" * 2**19
SEND_BYTES = 2**17


async def main(slots: int, service_s: float) -> None:
    """Serve until killed."""
    free = asyncio.Semaphore(slots)
    working: set[asyncio.Task[None]] = set()

    class Line(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.Transport", transport)
            self.parser = httptools.HttpRequestParser(self)

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_url(self, url: bytes) -> None:
            self.answer = LARGE if url == b"/slow" else ANSWER

        def on_message_complete(self) -> None:
            task = asyncio.ensure_future(self.predict())
            working.add(task)
            task.add_done_callback(working.discard)

        async def predict(self) -> None:
            async with free:
                await asyncio.sleep(service_s)
            if not self.transport.is_closing():
                self.transport.write(self.answer)

    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
    server = await asyncio.get_running_loop().create_server(Line, sock=listener, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - how it speaks
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2]) / 1000))
