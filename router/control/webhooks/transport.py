"""The only way out for webhooks: a name is resolved once, every address is checked, and a checked one is connected to.

Checking a URL and letting a client resolve its name again would leave a gap: the second answer may be another
(DNS rebinding). So the request goes on with the checked address in the place of the name; Host field and TLS keep
the name. Redirects and proxies would be other ways out: the client of `calls` follows none and uses none.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

import httpx

from router.core.addresses import AllowList

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port -> addresses in the order in which to try them; raises OSError."""

_PORTS = {"http": 80, "https": 443}


class ForbiddenAddressError(httpx.TransportError):
    """The call would have left the allow-list; nothing was connected to."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host, as the system resolves it; a literal address is its own. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class CheckedTransport(httpx.AsyncBaseTransport):
    """Hands requests to `inner` once their host and all its addresses are allowed."""

    def __init__(self, allow: AllowList, resolve: Resolve, inner: httpx.AsyncBaseTransport) -> None:
        self._allow = allow
        self._resolve = resolve
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the answer; raises ForbiddenAddressError and what httpx raises. Cancel closes the connection."""
        host = request.url.raw_host.decode("ascii")
        port = _PORTS.get(request.url.scheme)
        if port is None or not host or request.url.userinfo:
            raise ForbiddenAddressError("a webhook goes to http:// or https:// with a host and without a user")
        if not self._allow.knows(host):  # before it is resolved: not even a name server needs to know of it
            raise ForbiddenAddressError(f"{host} is not in webhooks.allow")
        try:
            addresses = await self._resolve(host, request.url.port or port)
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(f"{host} has no address: {error}") from error
        refusal = self._allow.refusal(host, addresses)
        if refusal is not None:
            raise ForbiddenAddressError(refusal)
        return await self._first(request, host, addresses)

    async def aclose(self) -> None:
        """Close what is open."""
        await self._inner.aclose()

    async def _first(self, request: httpx.Request, host: str, addresses: Sequence[str]) -> httpx.Response:
        """Send to the first address that takes a connection; what was sent once is not sent to another one."""
        for address in addresses[:-1]:
            try:
                return await self._inner.handle_async_request(_at(request, host, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._inner.handle_async_request(_at(request, host, addresses[-1]))


def _at(request: httpx.Request, host: str, address: str) -> httpx.Request:
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,  # they hold the Host field of the URL as it was
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )
