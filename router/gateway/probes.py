"""One look at one server: does it answer a GET of its health page by 2xx, and if not, why?"""

import asyncio
import re
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.core.traffic import Variant
    from router.gateway.endpoints import Endpoint

LINE_BYTES = 8 * 2**10
"""Longest status line that is read, and all that is read of an answer. Chosen."""

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})( [^\r\n]*)?\r?\n")


async def illness(variant: "Variant", endpoint: "Endpoint", tls: "ssl.SSLContext | None") -> str:
    """Return why the health page did not answer 2xx in time, in words for the log; "" if it did.

    The connection is closed whatever came. Raises nothing for what the server does, and quotes nothing of what it
    sends but the status. Needs `variant.health` and `variant.probe`.
    """
    assert variant.probe is not None  # noqa: S101 - whoever probes has looked
    try:
        async with asyncio.timeout(variant.probe.timeout_s):
            line = await _status_line(variant, endpoint, tls)
    except TimeoutError:  # before OSError, which it is
        return f"no answer within {variant.probe.timeout_s:g} s"
    except ssl.SSLCertVerificationError as error:
        return f"its certificate was refused: {error.verify_message}"
    except ssl.SSLError as error:
        return f"TLS failed: {error.reason}"
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    except ValueError:
        return f"a status line of more than {LINE_BYTES} bytes"
    return _illness_by(line)


def _illness_by(line: bytes) -> str:
    status = _STATUS.fullmatch(line)
    if status is None:
        return "no answer of HTTP/1.x" if line else "closed the connection without an answer"
    return "" if status[1].startswith(b"2") else f"answered {status[1].decode()}"


async def _status_line(variant: "Variant", endpoint: "Endpoint", tls: "ssl.SSLContext | None") -> bytes:
    backend = endpoint.backend
    host = variant.host if variant.host and variant.host != "preserve" else backend.authority
    reader, writer = await asyncio.open_connection(
        endpoint.addresses[0],
        backend.port,
        ssl=tls if backend.tls else None,
        server_hostname=backend.host if backend.tls else None,
        limit=LINE_BYTES,
    )
    try:
        writer.write(f"GET {variant.health} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        return await reader.readline()
    finally:
        writer.transport.abort()
