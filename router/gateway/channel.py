"""Messages between a parent and the processes it started, over a socketpair.

A frame is four bytes of length and a pickle. Pickle is safe here and nowhere else in Turnout: a socketpair has
no name, so nobody but the two processes holds an end of it, both run the same code under the same user, and no
bytes from a client, a file or the store are ever unpickled: such data is only a string inside a message.

End of file is a message too: the other process is gone.
"""

import asyncio
import pickle
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from router.core.config import TurnoutConfig
from router.gateway.endpoints import LeftOut
from router.telemetry.tracing import Span

_LENGTH = struct.Struct(">I")

FRAME_BYTES = 16 * 2**20
"""Longest frame. Chosen: a configuration of 10,000 Routes takes 5 MB, everything else far less."""


@dataclass(frozen=True, slots=True)
class Settings:
    """To a child, once, at its start: what to run with. `slot` counts from 0 and outlives its processes.

    `file` is what `config` was read from, empty for none. `strict`: the process takes another one's place, and
    must fail if it could not route by the states of now. `left_out`: what the process before it in this slot left out.
    """

    config: TurnoutConfig
    boot: str
    store_url: str
    slot: int
    file: str = ""
    strict: bool = False
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricsRequest:
    """To a child: answer with `Metrics`."""


@dataclass(frozen=True, slots=True)
class ModulesRequest:
    """To a child: answer with `Modules`."""


@dataclass(frozen=True, slots=True)
class Drain:
    """To a child: accept nothing new, finish within `deadline_s`, exit 0."""

    deadline_s: float


@dataclass(frozen=True, slots=True)
class Ready:
    """To the parent: requests are being answered."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """To the parent: a Snapshot of `router.telemetry.metrics`, and what a successor should leave out, too.

    The last one comes unasked, after a drain.
    """

    snapshot: Mapping[str, Mapping[tuple[str, ...], object]]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class Spans:
    """To the parent: export these."""

    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Modules:
    """To the parent: names of all loaded modules, sorted."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """To the parent: cannot start. `lasting`: another try with the same settings must fail as well."""

    reason: str
    lasting: bool


@dataclass(frozen=True, slots=True)
class ReloadAsked:
    """To the parent: read the file again."""


Message: TypeAlias = (
    Settings | MetricsRequest | ModulesRequest | Drain | Ready | Metrics | Spans | Modules | Failed | ReloadAsked
)


class Channel:
    """One end. Not for several tasks at once: one may send while one receives."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frame_bytes: int | None = None
        """Length of a frame whose head has been read: kept, so that a cancelled `receive` loses nothing."""
        writer.transport.set_write_buffer_limits(high=0)  # `flush` then waits for everything

    def __repr__(self) -> str:
        return f"<Channel {'closing' if self._writer.is_closing() else 'open'}>"

    @classmethod
    async def open(cls, end: socket.socket) -> "Channel":
        """Return a Channel over one end of a socketpair, which it owns from now on."""
        end.setblocking(False)  # noqa: FBT003 - the socket's own signature
        reader, writer = await asyncio.open_unix_connection(sock=end)
        return cls(reader, writer)

    def send(self, message: Message) -> None:
        """Queue `message`; lost without an error when the other process is gone (`receive` tells)."""
        frame = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        if len(frame) > FRAME_BYTES:
            kind = type(message).__name__
            raise ValueError(f"{kind} takes {len(frame)} bytes, expected at most {FRAME_BYTES}")
        if not self._writer.is_closing():
            self._writer.write(_LENGTH.pack(len(frame)) + frame)

    @property
    def clear(self) -> bool:
        """Whether all that was sent is in the kernel's hands."""
        return self._writer.transport.get_write_buffer_size() == 0

    async def flush(self) -> None:
        """Return when all that was sent is in the kernel's hands, or the other process is gone."""
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    async def receive(self) -> Message | None:
        """Return the next message, None when the other process is gone. A cancelled call loses no message."""
        try:
            if self._frame_bytes is None:
                (self._frame_bytes,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            frame = await self._reader.readexactly(self._frame_bytes)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        self._frame_bytes = None
        return _decode(frame)

    def close(self) -> None:
        """Let go of this end; the other process sees end of file."""
        self._writer.close()


def _decode(frame: bytes) -> Message:
    message: Message = pickle.loads(frame)  # noqa: S301 - see the top of this file
    return message
