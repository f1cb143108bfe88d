"""The ops port: liveness, readiness and metrics of the gateways. Nothing of the admin API is served here."""

import json
from collections.abc import Mapping
from typing import Protocol

from router.supervisor.http_server import App, Receive, Scope, Send
from router.telemetry import metrics


class Watched(Protocol):
    """What the ops port tells about."""

    def readiness(self) -> "tuple[bool, Mapping[str, object]]":
        """Return whether traffic should be sent here, and a JSON object that says why."""

    async def collect(self) -> metrics.Snapshot:
        """Return the merged metrics of all processes, asking the living."""


def ops_app(watched: Watched) -> App:
    """Return the ASGI app with /healthz, /readyz and /metrics."""

    async def answer(path: str) -> tuple[int, str, bytes]:
        match path:
            case "/healthz":
                return 200, "text/plain; charset=utf-8", b"ok\n"
            case "/readyz":
                ready, body = watched.readiness()
                return 200 if ready else 503, "application/json", json.dumps(body).encode() + b"\n"
            case "/metrics":
                return 200, metrics.CONTENT_TYPE, metrics.render(await watched.collect())
            case _:
                return 404, "text/plain; charset=utf-8", b"not found; try /healthz, /readyz or /metrics\n"

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] in ("GET", "HEAD"):
            status, content_type, body = await answer(scope["path"])
        else:
            status, content_type, body = 405, "text/plain; charset=utf-8", b"only GET and HEAD\n"
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    return app
