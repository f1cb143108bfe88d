"""A raw client: it sends the bytes it is told to and reads answers by h11, so that framing errors are seen."""

import asyncio
import socket
import ssl
from dataclasses import dataclass

import h11

READ_BYTES = 2**18
WITHIN_S = 10.0


class TruncatedError(Exception):
    """The connection ended in the middle of an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete final answer; names lower-case. `interim` are the statuses of 1xx answers before it."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes
    interim: tuple[int, ...] = ()

    def field(self, name: str) -> str | None:
        """Return the only value of a field, None without one; two are a failure."""
        values = self.all(name)
        assert len(values) < 2, f"{name} occurs {len(values)} times: {values}"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """Return all values of a field in order."""
        return [value for key, value in self.fields if key == name]


class Client:
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._rest = b""

    @classmethod
    async def open(cls, port: int, receive_bytes: int | None = None, tls: ssl.SSLContext | None = None) -> "Client":
        """Connect; with `receive_bytes` through a socket that takes about so much before it is read."""
        peer = socket.socket()
        peer.setblocking(False)  # noqa: FBT003 - the socket's own signature
        if receive_bytes is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", port))
        limit = READ_BYTES if receive_bytes is None else receive_bytes
        name = "localhost" if tls else None
        return cls(*await asyncio.open_connection(sock=peer, limit=limit, ssl=tls, server_hostname=name))

    async def send(self, data: bytes) -> None:
        """Send bytes as they are; returns when the transport has room again."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method: str = "GET", within_s: float = WITHIN_S) -> Answer:
        """Return the next answer; `method` is what it answers. Raises TruncatedError, or TimeoutError in the end."""
        async with asyncio.timeout(within_s):
            return await self._answer(method)

    async def _answer(self, method: str) -> Answer:
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**20)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        parser.send(h11.EndOfMessage())
        if self._rest:
            parser.receive_data(self._rest)
            self._rest = b""
        head: h11.Response | None = None
        interim: list[int] = []
        body: list[bytes] = []
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as error:
                raise TruncatedError(str(error)) from error
            if event is h11.NEED_DATA:
                await self._more(parser)
            elif isinstance(event, h11.InformationalResponse):
                interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                self._rest = parser.trailing_data[0]
                fields = tuple((name.decode(), value.decode("latin-1")) for name, value in head.headers)
                return Answer(head.status_code, fields, b"".join(body), tuple(interim))
            else:
                raise TruncatedError(f"connection closed instead of an answer ({event!r})")

    async def _more(self, parser: h11.Connection) -> None:
        try:
            data = await self.reader.read(READ_BYTES)
        except ConnectionError as error:
            raise TruncatedError(str(error)) from error
        try:
            parser.receive_data(data)
            if not data and parser.their_state is h11.SEND_BODY:
                parser.next_event()  # raises unless the end of the connection ends the answer
                raise AssertionError("an answer that ends with its connection is read by `to_the_end`")
        except h11.RemoteProtocolError as error:
            raise TruncatedError(str(error)) from error

    async def to_the_end(self, within_s: float = WITHIN_S) -> bytes:
        """Return everything until the gateway closes. Raises ConnectionError when it resets."""
        async with asyncio.timeout(within_s):
            rest, self._rest = self._rest, b""
            return rest + await self.reader.read()

    async def ask(  # one argument for each part of a request
        self,
        method: str = "POST",
        target: str = "/",
        body: bytes = b"",
        *fields: str,
        within_s: float = WITHIN_S,
    ) -> Answer:
        """Send one request framed by Content-Length and return its answer."""
        await self.send(request(method, target, body, *fields))
        return await self.answer(method, within_s)

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()

    def abort(self) -> None:
        """End the connection at once; unsent bytes are lost."""
        self.writer.transport.abort()


def request(method: str = "POST", target: str = "/", body: bytes = b"", *fields: str) -> bytes:
    """Return a request framed by Content-Length (none for an empty body, except where POST asks for it)."""
    length = [f"Content-Length: {len(body)}"] if body or method == "POST" else []
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: svc", *fields, *length, "", ""]).encode("latin-1") + body


def chunked_request(*pieces: bytes, fields: tuple[str, ...] = ()) -> bytes:
    """Return a POST framed by one chunk for each piece."""
    head = "\r\n".join(["POST / HTTP/1.1", "Host: svc", *fields, "Transfer-Encoding: chunked", "", ""])
    return head.encode("latin-1") + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"
