"""TLS on the traffic listener: from the accept to the end of the handshake, before there is a client.

Accepting plainly and starting TLS ourselves, rather than `create_server(ssl=...)`, whose protocols hear of nothing
before the handshake has succeeded: so a handshake counts among `limits.connections`, one too many costs no
cryptography, and each that fails is counted and, at most once a second, named.
"""

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

from router.gateway.client import ClientConnection, peer_of

if TYPE_CHECKING:
    from router.core.config import ListenerTls
    from router.gateway.worker import Worker

WRITE_BYTES = 64 * 2**10
"""Bytes of an answer that may wait for a client that reads slowly. Chosen: as without TLS; uvloop's own is 512 KiB."""


class Handshake(asyncio.Protocol):
    """A connection whose TLS does not stand yet; then a ClientConnection takes its place.

    The whole handshake has `limits.header_deadline`, however its bytes drip in.
    """

    __slots__ = ("_context", "_early", "_task", "_transport", "_worker")

    def __init__(self, worker: "Worker", context: ssl.SSLContext) -> None:
        self._worker = worker
        self._context = context
        self._early = b""
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Handshake {self._transport.get_extra_info('peername')}>"

    @property
    def busy(self) -> bool:
        """Never: a drain waits for requests only."""
        return False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._worker.admit(self):
            self._task = asyncio.get_running_loop().create_task(self._shake())
        else:
            self._transport.abort()  # an answer would need the handshake that there is no room for

    def data_received(self, data: bytes) -> None:
        # uvloop reads from the accept on, so the first bytes can be here before the task's first step.
        self._early += data

    def _feed(self) -> None:
        """Give TLS what came too early for it; queued before its `connection_made`, which begins with that."""
        protocol = cast("asyncio.BufferedProtocol", self._transport.get_protocol())
        size = len(self._early)
        memoryview(protocol.get_buffer(size))[:size] = self._early
        protocol.buffer_updated(size)

    async def _shake(self) -> None:
        worker, limits = self._worker, self._worker.limits
        if self._transport.is_closing():
            worker.dismiss(self)
            worker.handshake_failed(self.peer, "handshake_left", "")
            return
        if self._early:
            asyncio.get_running_loop().call_soon(self._feed)
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self._transport,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=limits.header_deadline_s,
                # Flushing included; ClientConnection's own deadlines are shorter.
                ssl_shutdown_timeout=limits.write_stall_s + 1.0,
            )
        except ConnectionAbortedError:  # how uvloop says that its time is over
            worker.handshake_failed(self.peer, "handshake_deadline", "it took longer than limits.header_deadline")
        except ssl.SSLError as error:
            worker.handshake_failed(self.peer, "handshake_failed", error.reason or "not TLS")
        except OSError:
            worker.handshake_failed(self.peer, "handshake_left", "")
        else:
            worker.dismiss(self)
            if transport is not None and not transport.is_closing():
                self._hand_over(transport)
            return
        worker.dismiss(self)

    def _hand_over(self, transport: asyncio.Transport) -> None:
        """Give the connection to a client; what it sends comes only after this turn of the loop."""
        transport.set_write_buffer_limits(high=WRITE_BYTES)
        client = ClientConnection(self._worker)
        transport.set_protocol(client)
        client.connection_made(transport)

    @property
    def peer(self) -> str:
        """The client's address."""
        return peer_of(self._transport)

    def drain(self) -> None:
        """End it: who drains has given it the time in which clients say what they still want."""
        self.cut()

    def cut(self) -> None:
        """End it at once."""
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()
        self._worker.dismiss(self)


def listener_context(tls: "ListenerTls") -> ssl.SSLContext:
    """Return the TLS settings towards clients: 1.2 or newer, HTTP/1.1 alone. Reads the files.

    Raises OSError or ssl.SSLError when a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # costs a server far more than a client
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(tls.cert, tls.key, password="")  # else one with a password asks the terminal for it
    if tls.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(tls.client_ca)
    return context
