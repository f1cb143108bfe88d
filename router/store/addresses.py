"""What a store URL says: which kind of store it is, where to ask first, and how to connect to any of its servers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from redis.asyncio.connection import AbstractConnection, Connection, RedisSSLContext, SSLConnection, parse_url
from redis.exceptions import RedisError

from router.core.config import STORE_SCHEMES
from router.core.errors import ConfigError

SENTINEL_PORT = 26_379
CLUSTER_PORT = 6_379


class StoreKind(StrEnum):
    """How the server of a key is found."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Server:
    """One server: the class of its connections, their arguments, and its address as it may be shown."""

    connection: type[AbstractConnection]
    options: Mapping[str, Any]
    where: str
    tls: RedisSSLContext | None = None

    def make(self, connect_s: float) -> AbstractConnection:
        """Return a new connection, not yet connected."""
        # socket_timeout None: redis-py's own would cost a task for each send, and our deadlines cover it.
        made = self.connection(
            **self.options, protocol=2, socket_timeout=None, socket_connect_timeout=connect_s, driver_info=None
        )
        if isinstance(made, SSLConnection) and self.tls:
            made.ssl_context = self.tls
        return made

    def at(self, host: str, port: int) -> "Server":
        """Return another server of the same store: same user, password, TLS."""
        return replace(self, options={**self.options, "host": host, "port": port}, where=_authority(host, port))


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A store: `seeds` are its server, its sentinels, or some nodes of its cluster.

    `server` is what every server of the data is like, apart from its host; `master` what sentinels call it.
    """

    kind: StoreKind
    where: str
    server: Server
    seeds: tuple[Server, ...]
    master: str = ""


def parse_address(url: str) -> StoreAddress:
    """Return what `url` says; raises ConfigError. The forms are in docs/store.md."""
    where = shown(url)
    base, _, kind = url.partition(":")[0].partition("+")
    if url.partition(":")[0] not in STORE_SCHEMES:
        raise ConfigError("store.url", where, f"one of {', '.join(f'{scheme}://' for scheme in STORE_SCHEMES)}")
    if not kind:
        server = _server(url, where)
        return StoreAddress(StoreKind.SINGLE, where, server, (server,))
    return _sentinel(url, base, where) if kind == StoreKind.SENTINEL else _cluster(url, base, where)


def shown(url: str) -> str:
    """Return `url` without user, password and options, fit for a log."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _sentinel(url: str, base: str, where: str) -> StoreAddress:
    parts = urlsplit(url)
    master, _, number = parts.path.removeprefix("/").partition("/")
    if not master or (number and not number.isdecimal()):
        raise ConfigError("store.url", where, f"{parts.scheme}://HOST:PORT,HOST:PORT,.../MASTER[/DATABASE]")
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    of_sentinels = {
        name: value for name in ("username", "password") if (value := query.pop(f"sentinel_{name}", None)) is not None
    }
    credentials = parts.netloc.rpartition("@")[0]
    user = f"{credentials}@" if credentials else ""
    server = _server(f"{base}://{user}host:1/{number}?{urlencode(query)}", where)
    shared = {name: value for name, value in query.items() if name.startswith("ssl_")}
    sentinel = _server(f"{base}://host:1/0?{urlencode({**shared, **of_sentinels})}", where)
    seeds = tuple(sentinel.at(*one) for one in _hosts(parts.netloc, SENTINEL_PORT, where))
    return StoreAddress(StoreKind.SENTINEL, where, server, seeds, unquote(master))


def _cluster(url: str, base: str, where: str) -> StoreAddress:
    parts = urlsplit(url)
    if parts.path.strip("/"):
        raise ConfigError("store.url", where, "no database: a cluster has but one")
    credentials = parts.netloc.rpartition("@")[0]
    user = f"{credentials}@" if credentials else ""
    server = _server(f"{base}://{user}host:1/0?{parts.query}", where)
    seeds = tuple(server.at(*one) for one in _hosts(parts.netloc, CLUSTER_PORT, where))
    return StoreAddress(StoreKind.CLUSTER, where, server, seeds)


def _hosts(netloc: str, port: int, where: str) -> list[tuple[str, int]]:
    """Return the hosts and ports of a list with commas; IPv6 addresses stand in brackets."""
    found = [_host(one, port) for one in netloc.rpartition("@")[2].split(",")]
    if not all(host for host, _ in found):
        raise ConfigError("store.url", where, "hosts with or without port, between commas")
    return found


def _host(authority: str, port: int) -> tuple[str, int]:
    """Return host and port; the host is empty where they cannot be read."""
    try:
        parts = urlsplit(f"//{authority}")
        found = parts.hostname or "", parts.port or port
    except ValueError:
        return "", port
    return found


def _server(url: str, where: str) -> Server:
    try:
        options: dict[str, Any] = dict(parse_url(url))
        kind = options.pop("connection_class", Connection)
        for ours in ("protocol", "socket_timeout", "socket_connect_timeout", "driver_info", "max_connections"):
            options.pop(ours, None)
        made = kind(**options)
    except (ValueError, TypeError, RedisError) as error:
        raise ConfigError("store.url", where, f"a URL that redis-py understands ({error})") from error
    return Server(kind, options, where, _tls(made, where))


def _tls(connection: AbstractConnection, where: str) -> RedisSSLContext | None:
    """Return the TLS context for all connections, built once: that reads files, for up to 30 ms; raises ConfigError."""
    if not isinstance(connection, SSLConnection):
        return None
    try:
        connection.ssl_context.get()
    except (OSError, ValueError) as error:
        raise ConfigError("store.url", where, f"TLS files that can be read ({error})") from error
    return connection.ssl_context


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
