"""One look at one server: does it answer a GET of its health page by 2xx?"""

import asyncio
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

    from router.core.traffic import Variant
    from router.gateway.endpoints import Endpoint

LINE_BYTES = 8 * 2**10
"""Longest status line that is read, and all that is read of an answer. Chosen."""

_WELL = re.compile(rb"HTTP/1\.[01] 2[0-9]{2}( [^\r\n]*)?\r?\n")


async def answers_well(variant: "Variant", endpoint: "Endpoint", tls: "ssl.SSLContext | None") -> bool:
    """Return whether the health page answers 2xx in time; the connection is closed whatever came.

    Raises nothing for what the server does. Needs `variant.health` and `variant.probe`.
    """
    assert variant.probe is not None  # noqa: S101 - whoever probes has looked
    try:
        async with asyncio.timeout(variant.probe.timeout_s):
            return bool(_WELL.fullmatch(await _status_line(variant, endpoint, tls)))
    except (OSError, ValueError):  # ValueError: a line that is too long
        return False


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
