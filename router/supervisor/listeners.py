"""Listening sockets, opened before anything is started, so that a taken port starts nothing."""

import errno
import socket
from typing import TypeAlias, cast

from router.core.config import Listener
from router.core.errors import ConfigError, TurnoutError

BACKLOG = 4_096
"""Connections that may wait while a worker is replaced. Chosen; the kernel lowers it to net.core.somaxconn."""


Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]


class ListenError(TurnoutError):
    """A socket cannot be opened; the sentence says which one, why, and what to do."""


def open_listeners(where: Listener, count: int, section: str) -> tuple[socket.socket, ...]:
    """Return `count` sockets that listen on the same address, each with its own queue (SO_REUSEPORT).

    Port 0 takes a free port, the same for all. `section` names the part of the configuration in errors.
    Raises ConfigError for a host that does not resolve and ListenError otherwise, leaving no socket open.
    """
    family, address = _resolve(where, section)
    opened: list[socket.socket] = []
    try:
        # SO_REUSEPORT would silently share the port with another Turnout of this user; without it the bind fails.
        with _bind(family, address, shared=False) as probe:
            address = (address[0], probe.getsockname()[1], *address[2:])
        for _ in range(count):
            opened.append(_bind(family, address, shared=True))
            opened[-1].listen(BACKLOG)
    except OSError as error:
        for one in opened:
            one.close()
        raise ListenError(_sentence(error, where, section)) from error
    return tuple(opened)


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """Return the address to connect to, with the real port; a bind to all addresses is shown as it is."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _resolve(where: Listener, section: str) -> tuple[socket.AddressFamily, Address]:
    try:
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        expected = "an address of this machine, for example 127.0.0.1"
        raise ConfigError(f"{section}.host", where.host, expected) from error
    family, _, _, _, address = found[0]
    return family, cast("Address", address)


def _bind(family: socket.AddressFamily, address: Address, *, shared: bool) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.bind(address)
    except OSError:
        opened.close()
        raise
    return opened


def _sentence(error: OSError, where: Listener, section: str) -> str:
    fix = f"set {section}.port (or TURNOUT_{section.upper()}__PORT)"
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port {where.port} is in use: {section} cannot listen on {where.host}:{where.port}; "
                f"stop what listens there, or {fix} to a free port"
            )
        case errno.EACCES:
            return f"port {where.port} is not allowed for this user: {fix} to 1024 or above"
        case errno.EADDRNOTAVAIL:
            return f"{where.host} is not an address of this machine: set {section}.host to one that is"
        case _:
            return f"{section} cannot listen on {where.host}:{where.port}: {error.strerror}; {fix} or the host"
