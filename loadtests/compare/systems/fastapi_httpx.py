"""The usual Python way: a FastAPI application that asks with httpx. Run by uvicorn, it reads MODE and both URLs."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import httpx
from fastapi import FastAPI, Request, Response

from loadtests.compare.figures import CANARY, MIRROR
from loadtests.compare.systems.system import ALL_MODES, KEPT, Place

HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}


class FastapiHttpx:
    """FastAPI, uvicorn (uvloop, httptools) and httpx, one process."""

    name = "fastapi+httpx"
    modes = ALL_MODES

    def version(self) -> str:
        """Return both."""
        return f"{version('fastapi')}+{version('httpx')}"

    def command(self, place: Place) -> list[str]:
        """Start `make_app` with what it reads from its environment."""
        urls = [f"{name}=http://127.0.0.1:{port}" for name, port in (("S", place.stable), ("C", place.candidate))]
        uvicorn = [sys.executable, "-m", "uvicorn", "loadtests.compare.systems.fastapi_httpx:make_app", "--factory"]
        options = ["--port", str(place.port), "--log-level", "error", "--no-access-log", "--loop", "uvloop"]
        return ["env", f"MODE={place.mode}", *urls, *uvicorn, *options]


def make_app() -> FastAPI:
    """Return the proxy."""
    mode, stable, candidate = (os.environ[name] for name in ("MODE", "S", "C"))
    client = httpx.AsyncClient(limits=httpx.Limits(max_connections=None, max_keepalive_connections=KEPT), timeout=60)
    copies: set[asyncio.Task[httpx.Response]] = set()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    app = FastAPI(lifespan=lifespan)

    async def ask(base: str, request: Request, body: bytes) -> httpx.Response:
        headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
        return await client.request(request.method, base + request.url.path, content=body, headers=headers)

    @app.post("/{path:path}")
    async def forward(path: str, request: Request) -> Response:  # noqa: ARG001 - FastAPI gives it by name
        body = await request.body()
        if mode == MIRROR:
            copy = asyncio.create_task(ask(candidate, request, body))
            copies.add(copy)
            copy.add_done_callback(copies.discard)
        to_candidate = mode == CANARY and random.random() < 0.1
        answer = await ask(candidate if to_candidate else stable, request, body)
        headers = {name: value for name, value in answer.headers.items() if name not in HOP_BY_HOP}
        return Response(answer.content, answer.status_code, headers)

    return app
