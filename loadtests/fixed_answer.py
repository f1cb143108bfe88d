"""A prediction server that always gives the same answer, as cheaply as Python can: `fixed_answer.py PORT...`."""

import asyncio
import sys
from typing import cast

import httptools
import uvloop

BODY = (
    b'{"model_name":"m","model_version":"1","outputs":[{"name":"label","shape":[1],"datatype":"INT64","data":[3]},'
    b'{"name":"scores","shape":[1,3],"datatype":"FP64","data":[0.1,0.2,0.7]}]}'
)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


class FixedAnswer(asyncio.Protocol):
    """Answers each complete request on one connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Answer."""
        self._transport.write(ANSWER)


async def main(ports: list[int]) -> None:
    """Serve on loopback until killed."""
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(FixedAnswer, "127.0.0.1", port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main([int(text) for text in sys.argv[1:]]))
