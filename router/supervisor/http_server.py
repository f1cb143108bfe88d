"""Serves an ASGI app inside a running loop: for the ops port and the admin API, never for traffic."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, TypeAlias

import uvicorn

from router.supervisor.keeper import StartError

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

SHUTDOWN_S = 1
"""How long open connections may take to end. Chosen: a stream of events must not hold up an orderly stop."""

CONNECTIONS = 1_000
"""Connections at once; uvicorn answers 503 above. Chosen: operators, dashboards and scrapers are few."""


class HttpServer:
    """One app on one listening socket, which it closes at the end.

    h11 rather than httptools: it bounds the size of a request's head, which uvicorn's httptools does not.
    """

    def __init__(self, app: App, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # else a local client could name another address and dodge the limit on wrong tokens
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
        self._server = _Server(config)
        self._listener = listener

    async def run(self) -> None:
        """Serve until `stop`; returns when the last connection has ended."""
        await self._server.serve(sockets=[self._listener])

    async def wait_started(self) -> None:
        """Return when connections are accepted. Raises StartError when they never will be; `run` has the reason."""
        await self._server.tried.wait()
        if not self._server.started:
            raise StartError("the HTTP server of the control plane did not start", lasting=False)

    def stop(self, *, at_once: bool = False) -> None:
        """Accept nothing more and let `run` return, `at_once` without waiting for open connections."""
        self._server.should_exit = True
        self._server.force_exit = at_once


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to the process that runs it, and says when it has started or failed to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.tried = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.tried.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
