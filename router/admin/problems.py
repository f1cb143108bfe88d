"""Every error of the admin API as a problem document (RFC 9457)."""

import json
from collections.abc import Iterable, Mapping
from functools import singledispatch
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from router.control.commands import (
    ContendedError,
    RefusedError,
    RevisionMismatchError,
    UnknownRouteError,
)
from router.core.errors import ConfigError, IllegalTransitionError, StoreUnavailableError, UnreadableStateError
from router.core.rollout import Phase, legal_moves
from router.settings import SettingsError

MEDIA_TYPE = "application/problem+json"

SHOWN = 100
"""How many characters of a wrong value are shown back."""

VERBS: Mapping[str, tuple[str, ...]] = {
    "start": ("start",),
    "advance": ("promote",),
    "pause": ("pause",),
    "resume": ("resume",),
    "approve": ("approve",),
    "set_exposure": ("set-weight",),
    "set_policy": ("set-policy",),
    "give_places": (),
    "promote": ("promote",),
    "roll_back": ("abort",),
    "undo": ("undo",),
}
"""Kind of decision -> what an operator types for it; nothing where only control decides so."""


class ProblemError(HTTPException):
    """Ends a request with a problem document; `kind` names it within Turnout, `members` are added to the document."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        members: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.kind = kind
        self.members = members or {}


def field_problem(field: str, value: object, expected: str) -> ProblemError:
    """Return the 422 that names field, value and what was expected."""
    return invalid([{"field": field, "value": shown(value), "expected": expected}])


def invalid(errors: list[dict[str, object]]) -> ProblemError:
    """Return the 422 for one or more wrong fields; the first also stands at the top of the document."""
    first = errors[0]
    detail = f"{first['field']}: got {first['value']!r}, expected {first['expected']}"
    return ProblemError(422, "invalid", detail, {**first, "errors": errors})


def _entry(error: ConfigError) -> dict[str, object]:
    return {"field": error.field or "body", "value": shown(error.value), "expected": error.expected}


def shown(value: object) -> object:
    """Return a value as it may be shown back: itself if small and plain, else the beginning of its text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def respond(problem: ProblemError) -> Response:
    """Return the answer for a problem."""
    try:
        title = HTTPStatus(problem.status_code).phrase
    except ValueError:
        title = "Error"
    document = {
        "type": f"urn:turnout:problem:{problem.kind}" if problem.kind else "about:blank",
        "title": title,
        "status": problem.status_code,
        "detail": problem.detail,
        **problem.members,
    }
    # ASCII only: whatever somebody managed to put into a name cannot break a terminal.
    body = json.dumps(document, ensure_ascii=True).encode()
    return Response(body, problem.status_code, problem.headers, MEDIA_TYPE)


@singledispatch
def problem_of(_error: Exception) -> ProblemError | None:
    """Return the problem that an expected error means, None for an unexpected one."""
    return None


@problem_of.register
def _(error: ProblemError) -> ProblemError:
    return error


@problem_of.register
def _(error: HTTPException) -> ProblemError:
    return ProblemError(error.status_code, "", error.detail, headers=error.headers)


@problem_of.register
def _(error: UnknownRouteError) -> ProblemError:
    return ProblemError(404, "unknown-route", str(error), {"known": error.known})


@problem_of.register
def _(error: IllegalTransitionError) -> ProblemError:
    verb = VERBS.get(error.move, (error.move,))[0]
    legal = verbs_of(error.legal, error.phase)
    detail = f"{verb} is not possible while the rollout is {error.phase}; possible: {', '.join(legal) or 'none'}"
    return ProblemError(409, "illegal-transition", detail, {"phase": error.phase, "legal": legal})


@problem_of.register
def _(error: RefusedError) -> ProblemError:
    state, legal = error.state, legal_verbs(error.state.phase)
    members = {"phase": state.phase, "legal": legal, "revision": state.revision}
    return ProblemError(409, "refused", f"{error}; possible now: {', '.join(legal) or 'none'}", members)


@problem_of.register
def _(error: ContendedError) -> ProblemError:
    return ProblemError(409, "contended", str(error), headers={"Retry-After": "1"})


@problem_of.register
def _(error: RevisionMismatchError) -> ProblemError:
    members = {"expected": error.expected, "revision": error.actual}
    return ProblemError(412, "revision-mismatch", str(error), members, {"ETag": f'"{error.actual}"'})


@problem_of.register
def _(error: ConfigError) -> ProblemError:
    return field_problem(error.field, error.value, error.expected)


@problem_of.register
def _(error: SettingsError) -> ProblemError:
    return invalid([_entry(problem) for problem in error.problems])


@problem_of.register
def _(error: UnreadableStateError) -> ProblemError:
    return ProblemError(503, "state-unreadable", str(error), {"routes": list(error.why)}, {"Retry-After": "1"})


@problem_of.register
def _(error: StoreUnavailableError) -> ProblemError:
    detail = (
        f"the store does not answer ({error}); traffic goes on as it was. "
        "If this was a command, it may or may not have been carried out: read the rollout before trying again"
    )
    return ProblemError(503, "store-unavailable", detail, headers={"Retry-After": "1"})


async def answer_error(_request: Request, error: Exception) -> Response:
    """Answer an expected error; what is unexpected goes on, to be logged and answered at the edge."""
    problem = problem_of(error)
    if problem is None:
        raise error
    return respond(problem)


def legal_verbs(phase: Phase) -> list[str]:
    """Return what an operator may type in `phase`, sorted."""
    return verbs_of(legal_moves(phase), phase)


def verbs_of(moves: Iterable[str], phase: str) -> list[str]:
    """Return the verbs for kinds of decisions; a start after a rollback may also be a retry."""
    verbs = {verb for move in moves for verb in VERBS[move]}
    if phase == Phase.ROLLED_BACK and "start" in verbs:
        verbs.add("retry")
    return sorted(verbs)
