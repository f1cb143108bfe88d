"""The outermost layer: what a browser page must not be able to do, and a last answer when everything else failed."""

from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.admin.problems import ProblemError, respond
from router.core.config import TurnoutConfig
from router.settings.forms import is_loopback
from router.telemetry import logs

READING = frozenset({"GET", "HEAD", "OPTIONS"})

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Edge:
    """Refuses foreign Hosts and Origins while loopback is the only protection, and turns a crash into a plain 500.

    With tokens there is nothing a page could do: a browser does not send our tokens by itself. Without tokens every
    page in a browser on this machine could reach us, directly or by DNS rebinding, so only our own names are answered
    (Host) and only our own pages may change anything (Origin, Sec-Fetch-Site).
    """

    def __init__(self, app: ASGIApp, config: TurnoutConfig) -> None:
        self._app = app
        self._open = not config.tokens
        self._log = logs.get("admin")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        problem = foreign(scope["method"], Headers(scope=scope)) if self._open else None
        try:
            if problem is not None:
                await respond(problem)(scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001 - the server below would log a traceback
            self._log.error("a request has failed", method=scope["method"], path=scope["path"], exc_info=error)
            if not started:
                problem = ProblemError(500, "internal", "an error inside Turnout; its log says more")
                await respond(problem)(scope, Request(scope, receive).receive, send_with_headers)


def foreign(method: str, headers: Headers) -> ProblemError | None:
    """Return the 403 for a request that another site made a browser send, None for any other."""
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not is_loopback(_name(hosts[0])):
        detail = f"Host: got {_shown(hosts)}, expected localhost or a loopback address; other names need tokens"
        return ProblemError(403, "foreign-host", detail)
    if method in READING:
        return None
    origins = headers.getlist("origin")
    if any(origin != f"http://{hosts[0]}" for origin in origins):
        return ProblemError(
            403, "foreign-origin", f"Origin: got {_shown(origins)}, expected none, or http://{hosts[0]}"
        )
    if any(site not in ("same-origin", "none") for site in headers.getlist("sec-fetch-site")):
        return ProblemError(403, "foreign-origin", "a page of another site must not change anything here")
    return None


def _name(host: str) -> str:
    """Return the name in a Host field in lower case, without port and brackets."""
    name, colon, port = host.rpartition(":")
    bare = name if colon and port.isdigit() and not host.endswith("]") else host
    return bare.removeprefix("[").removesuffix("]").lower()


def _shown(values: Iterable[str]) -> str:
    return ", ".join(value[:100] for value in values) or "none"
