"""Which ports the demo asks for: the usual ones where they are free, so that the README's lines work as they are."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Final

from router.core.errors import ConfigError

HOST: Final = "127.0.0.1"
GATEWAY_PORT: Final = 8080
ADMIN_PORT: Final = 8081
OPS_PORT: Final = 8082


def choose_ports(asked: int, is_free: Callable[[int], bool]) -> Mapping[str, int]:
    """Return the ports of gateway, admin and ops, 0 for "a free one".

    `asked` is the gateway's: 0 takes free ones for all three. The usual 8080 is only a wish, because nobody may have
    asked for it; any other one that is taken raises ConfigError.
    """
    if asked == 0:
        return {"gateway": 0, "admin": 0, "ops": 0}
    if asked != GATEWAY_PORT and not is_free(asked):
        raise ConfigError("--port", asked, "a port that is free; 0 takes any, or stop what listens there")

    def wish(port: int) -> int:
        return port if is_free(port) else 0

    gateway = wish(asked)
    admin, ops = (0 if port == gateway else wish(port) for port in (ADMIN_PORT, OPS_PORT))
    return {"gateway": gateway, "admin": admin, "ops": ops}


def is_free(port: int) -> bool:
    """Whether this port of the loopback interface can be listened on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
