"""A process for a slot that is no gateway: a real socket, a real channel, and ways to misbehave.

Run as `python stand_in.py MODE CHANNEL_FD LISTENER_FD PARENT_PID`. It answers every request with its pid. `/slow?FILE`
makes `FILE.seen` and answers once FILE exists. Modes: `good`, `crash` (dies at start), `refuse` (its settings cannot
work), `hang` (never gets ready), `deaf` (ignores drain), `broken_metrics`.
"""
# ruff: noqa: ASYNC240 - touching and looking for an empty file blocks nobody

import asyncio
import os
import socket
import sys
from pathlib import Path

from router.gateway.channel import (
    Channel,
    Drain,
    Failed,
    Message,
    Metrics,
    MetricsRequest,
    Modules,
    ModulesRequest,
    Ready,
    Settings,
)

POLL_S = 0.01


class StandIn:
    """Answers requests and messages."""

    def __init__(self, mode: str, channel: Channel) -> None:
        self.mode = mode
        self.channel = channel
        self.answered = 0
        self.busy = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request on one connection."""
        self.busy += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await self.dawdle(head.split(b" ")[1].decode())
            self.answered += 1
            body = str(os.getpid()).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
            self.busy -= 1

    async def dawdle(self, target: str) -> None:
        """Wait for the file that the request names, if it names one."""
        path, _, name = target.partition("?")
        if path == "/slow":
            flag = Path(name)
            flag.with_suffix(".seen").touch()
            while not flag.exists():  # noqa: ASYNC110 - the test's process sets the flag
                await asyncio.sleep(POLL_S)

    async def obey(self, message: Message, server: asyncio.Server) -> bool:
        """Do what the parent says; return whether this was the end."""
        match message:
            case MetricsRequest():
                self.channel.send(self.metrics())
            case ModulesRequest():
                self.channel.send(Modules(tuple(sorted(sys.modules))))
            case Drain() if self.mode != "deaf":
                server.close()
                while self.busy:  # noqa: ASYNC110 - once, at the end
                    await asyncio.sleep(POLL_S)
                self.channel.send(self.metrics())
                await self.channel.flush()
                return True
            case _:
                pass
        return False

    def metrics(self) -> Metrics:
        """Return what was counted, under a name that exists or does not."""
        name = "turnout_nonsense" if self.mode == "broken_metrics" else "turnout_requests_total"
        return Metrics({name: {("digits", "v1", "ok"): float(self.answered)}})


async def main(mode: str, channel_fd: int, listener_fd: int) -> None:
    """Play one process of a slot."""
    if mode == "crash":
        sys.exit(7)
    channel = await Channel.open(socket.socket(fileno=channel_fd))
    if not isinstance(await channel.receive(), Settings):
        return
    if mode == "refuse":
        channel.send(Failed("adapter 'nonsense' is unknown, expected one of: opaque", lasting=True))
        await channel.flush()
        sys.exit(2)
    if mode == "hang":
        await channel.receive()
        return
    stand_in = StandIn(mode, channel)
    server = await asyncio.start_server(stand_in.answer, sock=socket.socket(fileno=listener_fd))
    channel.send(Ready())
    while (message := await channel.receive()) is not None:
        if await stand_in.obey(message, server):
            return
    os._exit(0)  # the parent is gone


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
