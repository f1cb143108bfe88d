"""Connections to a Redis or Valkey server: one deadline for each call, no retries, errors in our own words.

Built on redis-py's connections without its client, which repeats commands by itself (a repeated XADD is a second
entry). A connection is either idle and clean or owned by one call, and a call that does not come to its end, for
whatever reason, takes its connection with it. So no reply can ever reach somebody else's question.
"""

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, Connection, RedisSSLContext, SSLConnection, parse_url
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)

from router.core.errors import ConfigError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Command = tuple[str | bytes | float, ...]

SCHEMES = ("redis", "rediss", "unix")

_ADVICE: tuple[tuple[type[RedisError], str], ...] = (
    (OutOfMemoryError, "its memory is full: raise maxmemory or lower pairs.keep"),
    (ReadOnlyError, "it is a replica: point store.url to the primary"),
    (BusyLoadingError, "it is loading its data, which ends by itself"),
    (AuthenticationError, "put a valid user and password into store.url"),
    (NoPermissionError, "let this user run EVAL, PUBLISH and SUBSCRIBE on turnout:* keys and channels"),
)
"""What an operator can do about an error reply; any other is shown as the server said it."""


class Connections:
    """Up to `size` connections to one server, each made when first needed. For one event loop."""

    def __init__(self, url: str, *, timeout_s: float, connect_s: float, size: int) -> None:
        self._class, self._options = _options(url)
        self._timeout_s, self._connect_s = timeout_s, connect_s
        self._slots = asyncio.Semaphore(size)
        self._idle: list[AbstractConnection] = []
        self._used = 0
        self._closed = False
        self.where = _where(url)
        self._tls: RedisSSLContext | None = None
        self._tls = _tls(url, self._make())

    def __repr__(self) -> str:
        state = "closed, " if self._closed else ""
        return f"<Connections to {self.where}: {state}{self._used} in use, {len(self._idle)} idle>"

    async def ask(self, *command: str | bytes | float) -> Any:  # noqa: ANN401 - what a server replies
        """Return the reply to one command."""
        return (await self.ask_all([command]))[0]

    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to `commands`, sent in one go; StoreUnavailableError if any of them fails.

        They have `connect_s` to get a connection and `timeout_s`, all together, to be answered. After an error or a
        cancel each command may or may not have been carried out.
        """
        packed = [pack_command(command) for command in commands]  # type: ignore[arg-type]  # stub: one item
        async with self._lent() as connection, self.translated(self._timeout_s):
            await connection.send_packed_command(packed, check_health=False)
            return [await connection.read_response() for _ in commands]

    @asynccontextmanager
    async def opened(self) -> "AsyncIterator[AbstractConnection]":
        """Lend a new connection of one's own, closed at the end: for pub/sub, whose replies come unasked."""
        connection = self._make()
        try:
            async with self.translated(self._connect_s):
                await connection.connect()  # type: ignore[no-untyped-call]
            yield connection
        finally:
            await connection.disconnect(nowait=True)

    @asynccontextmanager
    async def translated(self, timeout_s: float) -> "AsyncIterator[None]":
        """Run the body within `timeout_s`; every failure of the server or the line becomes StoreUnavailableError."""
        if self._closed:
            raise StoreUnavailableError(f"store {self.where}: this client is closed, make a new one")
        task = asyncio.current_task()
        cancels = task.cancelling() if task else 0
        deadline = asyncio.timeout(timeout_s)
        late = f"store {self.where}: no answer within {timeout_s:g} s; check that it runs and is not overloaded"
        try:
            async with deadline:
                yield
        except TimeoutError as error:
            raise StoreUnavailableError(late) from error
        except asyncio.CancelledError as error:
            # Before Python 3.11.3 a deadline that ends the clean-up of a cancelled task looks like one more cancel.
            if deadline.expired() and task and task.cancelling() <= cancels:
                raise StoreUnavailableError(late) from error
            raise
        except (RedisError, OSError) as error:
            raise StoreUnavailableError(f"store {self.where}: {_told(error)}") from error

    async def close(self) -> None:
        """Close the idle connections now, and those in use when their call ends."""
        self._closed = True
        while self._idle:
            with suppress(RedisError, OSError):  # a server that does not take leave either
                await self._idle.pop().disconnect()

    @asynccontextmanager
    async def _lent(self) -> "AsyncIterator[AbstractConnection]":
        """Lend a clean connection; it goes back only if the body comes to its end."""
        async with self.translated(self._connect_s):
            await self._slots.acquire()
            try:
                connection = await self._take()
            except BaseException:
                self._slots.release()
                raise
        self._used += 1
        try:
            yield connection
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        else:
            if self._closed:
                await connection.disconnect(nowait=True)
            else:
                self._idle.append(connection)
        finally:
            self._used -= 1
            self._slots.release()

    async def _take(self) -> AbstractConnection:
        """Return a connection that is connected and has nothing unread."""
        while self._idle:
            connection = self._idle.pop()
            if await _is_clean(connection):
                return connection
            await connection.disconnect(nowait=True)
        connection = self._make()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    def _make(self) -> AbstractConnection:
        # socket_timeout None: redis-py's own would cost a task for each send, and our deadlines cover it.
        connection = self._class(
            **self._options, protocol=2, socket_timeout=None, socket_connect_timeout=self._connect_s, driver_info=None
        )
        if isinstance(connection, SSLConnection) and self._tls:
            connection.ssl_context = self._tls
        return connection


def _tls(url: str, connection: AbstractConnection) -> RedisSSLContext | None:
    """Return the TLS context for all connections, built once: that reads files, for up to 30 ms; raises ConfigError."""
    if not isinstance(connection, SSLConnection):
        return None
    try:
        connection.ssl_context.get()
    except (OSError, ValueError) as error:
        raise ConfigError("store.url", _where(url), f"TLS files that can be read ({error})") from error
    return connection.ssl_context


async def _is_clean(connection: AbstractConnection) -> bool:
    """Return whether a question may be asked: readable means closed by the server, or an answer nobody asked for."""
    try:
        return bool(connection.is_connected) and not await connection.can_read()
    except (RedisError, OSError):
        return False


def _options(url: str) -> tuple[type[AbstractConnection], dict[str, Any]]:
    """Return the class of connection and its arguments; raises ConfigError."""
    scheme = url.partition(":")[0]
    if scheme not in SCHEMES:
        expected = "redis://, rediss:// or unix:// (redis+sentinel:// and redis+cluster:// are not supported yet)"
        raise ConfigError("store.url", _where(url), expected)
    try:
        options: dict[str, Any] = dict(parse_url(url))
        kind = options.pop("connection_class", Connection)
        for ours in ("protocol", "socket_timeout", "socket_connect_timeout", "driver_info", "max_connections"):
            options.pop(ours, None)
        kind(**options)
    except (ValueError, TypeError, RedisError) as error:
        raise ConfigError("store.url", _where(url), f"a URL that redis-py understands ({error})") from error
    return kind, options


def _where(url: str) -> str:
    """Return `url` without user, password and options, fit for a log."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def _told(error: Exception) -> str:
    """Return what an error says, and what to do where that is known."""
    said = " ".join(str(error).split())[:200] or type(error).__name__
    advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), "")
    return f"{said} ({advice})" if advice else said
