"""Keeps the embedded store server running: asks whether it lives, starts it again at the same place."""

import asyncio
from typing import Protocol

from router.core.errors import TurnoutError
from router.supervisor.restarts import Restarts
from router.telemetry import logs

ASK_S = 0.1
"""How often to ask. Chosen: gateways notice a dead store themselves, this only bounds how long it stays dead."""


class StoreServer(Protocol):
    """A store server of our own; `router.store.embedded.EmbeddedValkey` is one."""

    def start(self) -> str:
        """Start it and return its URL once it answers. Raises StoreUnavailableError."""

    def poll(self) -> int | None:
        """Return its exit status, None while it lives."""

    def restart(self) -> str:
        """Start it again after it died, at the same URL, with the data it had written, and return the URL."""

    def stop(self) -> None:
        """End it and remove its temporary files; nothing happens if it has not been started."""


class StoreKeeper:
    """Owns one StoreServer. Its methods block for the 0.1 s that a start takes.

    They are called on the main thread on purpose: Linux ends a child when the *thread* that started it ends.
    """

    def __init__(self, server: StoreServer) -> None:
        self._server = server
        self._restarts = Restarts()
        self._log = logs.get("supervisor")
        self.is_up = False

    def start(self) -> str:
        """Start the server and return its URL. Raises StoreUnavailableError."""
        url = self._server.start()
        self.is_up = True
        return url

    async def run(self) -> None:
        """Replace the server whenever it dies, until cancelled."""
        loop = asyncio.get_running_loop()
        up_since_s = loop.time()
        while True:
            await asyncio.sleep(ASK_S)
            status = self._server.poll()
            if status is None:
                continue
            self.is_up = False
            delay_s = self._restarts.delay_s(loop.time() - up_since_s)
            self._log.warning("store server ended, starting it again", status=status, delay_s=delay_s)
            await asyncio.sleep(delay_s)
            try:
                self._server.restart()
            except (TurnoutError, OSError) as error:
                self._log.error("store server cannot be started", exc_info=error)
                continue
            self.is_up = True
            up_since_s = loop.time()

    def stop(self) -> None:
        """End the server."""
        self.is_up = False
        self._server.stop()
