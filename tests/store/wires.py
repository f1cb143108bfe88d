"""A wire to a server that can fail without a word: it falls silent both ways, or everything on it takes longer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Wire:
    """Carries bytes between those who connect to `port` and a server. For one event loop.

    While it is `silent` nothing gets through and nobody is told: connections stay open, as when a firewall begins to
    drop packets, and what was sent arrives when the silence ends. `delay_s` is how much later all bytes arrive.
    """

    server_port: int
    port: int = 0
    delay_s: float = 0.0
    _talking: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def silent(self) -> bool:
        """Whether nothing gets through."""
        return not self._talking.is_set()

    @silent.setter
    def silent(self, silent: bool) -> None:
        if silent:
            self._talking.clear()
        else:
            self._talking.set()

    @asynccontextmanager
    async def running(self) -> "AsyncIterator[Wire]":
        """Carry for the duration of the block."""
        self.silent = False
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far: asyncio.StreamWriter | None = None
        try:
            await self._talking.wait()
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.server_port)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, far))
                both.create_task(self._carry(far_reader, writer))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for end in (writer, far):
                if end is not None:
                    end.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(2**16):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._talking.wait()
            target.write(data)
            await target.drain()
        await asyncio.sleep(self.delay_s)  # the end travels as well
        raise ConnectionResetError("one side has ended")
