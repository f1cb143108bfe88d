"""Connections to one Redis or Valkey server: one deadline for each call, no retries, errors in our own words.

Built on redis-py's connections without its clients, which repeat commands by themselves (a repeated XADD is a second
entry). A connection is either idle and clean or owned by one call, and a call that does not come to its end, for
whatever reason, takes its connection with it. So no reply can ever reach somebody else's question.

Stores of several servers (`sentinel`, `cluster`) find the server of a key and then use this.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)

from router.core.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from router.store.addresses import Server

Command = tuple[str | bytes | float, ...]

REDIRECTS = (AskError, TryAgainError)
"""Replies that say "not here" or "not yet" (MOVED is an ASK too): the command was surely not carried out."""

_ADVICE: tuple[tuple[type[RedisError], str], ...] = (
    (OutOfMemoryError, "its memory is full: raise maxmemory or lower pairs.keep"),
    (ReadOnlyError, "it is a replica: point store.url to the primary, or use redis+sentinel://"),
    (BusyLoadingError, "it is loading its data, which ends by itself"),
    (AuthenticationError, "put a valid user and password into store.url"),
    (NoPermissionError, "let this user run EVAL, PUBLISH and SUBSCRIBE on turnout:* keys and channels"),
    (AskError, "it is a node of a cluster: use redis+cluster:// in store.url"),
    (ClusterDownError, "some slots of the cluster have no server: look at CLUSTER INFO"),
)
"""What an operator can do about an error reply; any other is shown as the server said it."""


class Line:
    """A connection of one's own, for pub/sub, whose replies come unasked. `where` is its server."""

    def __init__(self, connection: AbstractConnection, owner: "Connections") -> None:
        self._connection = connection
        self._owner = owner
        self.where = owner.where

    async def send(self, *command: str, within_s: float) -> None:
        """Hand a command to the server; raises StoreUnavailableError."""
        async with self._owner.translated(within_s):
            await self._connection.send_command(*command)

    async def receive(self, wait_s: float, within_s: float) -> list[Any] | None:
        """Return the next message, or None when none came within `wait_s`; raises StoreUnavailableError."""
        async with self._owner.translated(within_s):
            message: list[Any] | None = await _response(self._connection, wait_s)
            return message


class Link(Protocol):
    """What the store's client asks of one server, or of several that share the keys. For one event loop."""

    where: str

    async def ask(self, *command: str | bytes | float) -> Any:  # noqa: ANN401 - what a server replies
        """Return the reply to one command."""

    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to `commands`; StoreUnavailableError if any of them fails.

        After an error or a cancel each command may or may not have been carried out.
        """

    def opened(self) -> "AbstractAsyncContextManager[Line]":
        """Lend a new line, closed at the end."""

    async def close(self) -> None:
        """Close the idle connections now, and those in use when their call ends."""


class Connections:
    """Up to `size` connections to one server, each made when first needed."""

    def __init__(self, server: "Server", *, timeout_s: float, connect_s: float, size: int) -> None:
        self._server = server
        self._timeout_s, self._connect_s = timeout_s, connect_s
        self._slots = asyncio.Semaphore(size)
        self._idle: list[AbstractConnection] = []
        self._used = 0
        self._closed = False
        self.where = server.where

    def __repr__(self) -> str:
        state = "closed, " if self._closed else ""
        return f"<Connections to {self.where}: {state}{self._used} in use, {len(self._idle)} idle>"

    async def ask(self, *command: str | bytes | float) -> Any:  # noqa: ANN401 - what a server replies
        """Return the reply to one command."""
        return (await self.ask_all([command]))[0]

    async def ask_all(self, commands: Sequence[Command], connect_s: float | None = None) -> list[Any]:
        """Return the replies to `commands`, sent in one go; StoreUnavailableError if any of them fails.

        They have `connect_s` to get a connection and `timeout_s`, all together, to be answered. After an error or a
        cancel each command may or may not have been carried out.
        """
        replies = await self.try_all(commands, connect_s)
        for reply in replies:
            if isinstance(reply, RedisError):
                raise StoreUnavailableError(f"store {self.where}: {_told(reply)}") from reply
        return replies

    async def try_all(self, commands: Sequence[Command], connect_s: float | None = None) -> list[Any]:
        """Return the replies as `ask_all` does, with REDIRECTS among them as they are."""
        packed = [pack_command(command) for command in commands]  # type: ignore[arg-type]  # stub: one item
        within_s = self._connect_s if connect_s is None else connect_s
        async with self._lent(within_s) as connection, self.translated(self._timeout_s):
            await connection.send_packed_command(packed, check_health=False)
            return [await _reply(connection) for _ in commands]

    @asynccontextmanager
    async def opened(self) -> "AsyncIterator[Line]":
        """Lend a new line, closed at the end."""
        connection = self._server.make(self._connect_s)
        try:
            async with self.translated(self._connect_s):
                await connection.connect()  # type: ignore[no-untyped-call]
            yield Line(connection, self)
        finally:
            await connection.disconnect(nowait=True)

    @asynccontextmanager
    async def translated(self, timeout_s: float) -> "AsyncIterator[None]":
        """Run the body within `timeout_s`; every failure of the server or the line becomes StoreUnavailableError."""
        if self._closed:
            raise StoreUnavailableError(f"store {self.where}: this client is closed, make a new one")
        late = f"store {self.where}: no answer within {timeout_s:g} s; check that it runs and is not overloaded"
        try:
            async with in_time(timeout_s, late):
                yield
        except (RedisError, OSError) as error:
            raise StoreUnavailableError(f"store {self.where}: {_told(error)}") from error

    async def close(self) -> None:
        """Close the idle connections now, and those in use when their call ends."""
        self._closed = True
        while self._idle:
            with suppress(RedisError, OSError):  # a server that does not take leave either
                await self._idle.pop().disconnect()

    @asynccontextmanager
    async def _lent(self, within_s: float) -> "AsyncIterator[AbstractConnection]":
        """Lend a clean connection; it goes back only if the body comes to its end."""
        async with self.translated(within_s):
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
        connection = self._server.make(self._connect_s)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection


@asynccontextmanager
async def in_time(timeout_s: float, late: str) -> "AsyncIterator[None]":
    """Run the body within `timeout_s`, else StoreUnavailableError with the sentence `late`."""
    task = asyncio.current_task()
    cancels = task.cancelling() if task else 0
    deadline = asyncio.timeout(timeout_s)
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


async def _reply(connection: AbstractConnection) -> Any:  # noqa: ANN401 - what a server replies
    try:
        return await _response(connection)
    except REDIRECTS as redirect:
        return redirect


async def _response(connection: AbstractConnection, wait_s: float | None = None) -> Any:  # noqa: ANN401 - the same
    try:
        return await connection.read_response(timeout=wait_s)
    except ValueError as error:  # redis-py's own, for a MOVED that names no address
        raise RedisError(f"an error reply that cannot be read: {error}") from error


async def _is_clean(connection: AbstractConnection) -> bool:
    """Return whether a question may be asked: readable means closed by the server, or an answer nobody asked for."""
    try:
        return bool(connection.is_connected) and not await connection.can_read()
    except (RedisError, OSError):
        return False


def _told(error: Exception) -> str:
    """Return what an error says, and what to do where that is known."""
    said = " ".join(str(error).split())[:200] or type(error).__name__
    advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), "")
    return f"{said} ({advice})" if advice else said
