"""Who may call what: bearer tokens, wrong ones counted by address, and one declared role for each route."""

from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from router.admin.bodies import StrictRequest
from router.admin.problems import ProblemError
from router.admin.tokens import AccessRole, Caller, Keyring
from router.core.config import TurnoutConfig
from router.core.decisions import Actor, ActorKind
from router.telemetry import logs

ROLE = "x-turnout-role"
"""Where a route's OpenAPI operation names the role it needs."""

WRONG_TOKENS = 10
WINDOW_S = 60.0
ADDRESSES = 4_096
"""How many addresses are remembered; the one heard longest ago is forgotten first."""

LOCAL = Caller("local", AccessRole.ADMIN)
"""Whoever can reach loopback, while no tokens are configured."""

ANONYMOUS = Caller("", AccessRole.NONE)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class WrongTokens:
    """Counts wrong tokens of each address within the last minute. Bounded; the time is an argument."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def add(self, address: str, now_s: float) -> float | None:
        """Count one more; return None while there are at most 10, else the seconds until the next may be tried."""
        times = self._times.setdefault(address, deque())
        self._times.move_to_end(address)
        if len(self._times) > ADDRESSES:
            self._times.popitem(last=False)
        while times and times[0] <= now_s - WINDOW_S:
            times.popleft()
        if len(times) >= WRONG_TOKENS:
            return times[0] + WINDOW_S - now_s
        times.append(now_s)
        return None


class Doorkeeper:
    """Lets a request in or raises ProblemError 401, 403 or 429.

    A right token is let in even from an address that sent wrong ones: tokens cannot be guessed, so shutting the
    address out would add nothing, but would let anybody behind the same proxy keep operators from an abort.
    """

    def __init__(self, config: TurnoutConfig, monotonic: Callable[[], float]) -> None:
        self._keyring = Keyring(config.tokens)
        self._monotonic = monotonic
        self._wrong = WrongTokens()
        self._log = logs.ThrottledLog(logs.get("access"), clock=monotonic)

    def admit(self, request: Request, needed: AccessRole) -> Caller:
        """Return the caller if it has the needed role."""
        if needed is AccessRole.NONE:
            return ANONYMOUS
        caller = self._caller(request) if len(self._keyring) else LOCAL
        if caller.role < needed:
            detail = f"token {caller.name} is {caller.role}; this needs {needed}"
            raise ProblemError(403, "forbidden", detail, {"needed": str(needed)})
        return caller

    def _caller(self, request: Request) -> Caller:
        given = request.headers.getlist("authorization")
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("a token is needed: send the header `Authorization: Bearer <token>`")
        caller = self._keyring.find(token.strip())
        if caller is not None:
            return caller
        address = request.client.host if request.client else "unknown"
        self._log.warning(address, "wrong token", address=address)
        wait_s = self._wrong.add(address, self._monotonic())
        if wait_s is None:
            raise _unauthorized("this token is not known; `turnout token` makes one, auth.tokens holds its hash")
        detail = f"{WRONG_TOKENS} wrong tokens within a minute from {address}"
        raise ProblemError(429, "too-many-wrong-tokens", detail, headers={"Retry-After": f"{wait_s:.0f}"})


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError(401, "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="turnout"'})


class RoleRoute(APIRoute):
    """A route that cannot be made without a role, and reads nothing of a request before that is checked."""

    def get_route_handler(self) -> Handler:
        """Return the handler with the check around it; raises ValueError for a route that declares no role."""
        name = (self.openapi_extra or {}).get(ROLE)
        role = next((role for role in AccessRole if str(role) == name), None)
        if role is None:
            raise ValueError(f"{self.path}: {ROLE} is {name!r}, expected one of {', '.join(map(str, AccessRole))}")
        handle = super().get_route_handler()

        async def admitted(request: Request) -> Response:
            doorkeeper: Doorkeeper = request.app.state.doorkeeper
            request.state.caller = doorkeeper.admit(request, role)
            return await handle(StrictRequest(request.scope, request.receive))

        return admitted


def actor_of(request: Request) -> Actor:
    """Return the admitted caller as the actor of decisions."""
    caller: Caller = request.state.caller
    return Actor(ActorKind.OPERATOR, caller.name)
