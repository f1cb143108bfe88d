"""Endpoints that show a Route's rollout and move it."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol

from fastapi import Header, Request, Response
from pydantic import ValidationError

from router.admin import schemas as s
from router.admin.access import actor_of
from router.admin.problems import field_problem
from router.admin.services import Services
from router.control.commands import Change, Order
from router.core.rollout import RolloutState
from router.settings import rollout_from_json

IfMatch = Annotated[
    str | None, Header(description='Act only on this revision: `5` or `"5"`; another stored one answers 412.')
]

Endpoint = Callable[..., Awaitable[s.RolloutView]]


class Command(Protocol):
    """A method of Commands that needs only a Route and an Order."""

    __name__: str

    def __call__(self, route: str, order: Order) -> Awaitable[RolloutState]:
        """Carry it out and return the state that was written."""


NO_REASON = "no reason given"


def revision_of(if_match: str | None) -> int | None:
    """Return the revision in an If-Match field, None where any will do; raises ProblemError 422."""
    text = (if_match or "*").strip()
    if text == "*":
        return None
    digits = text[1:-1] if len(text) > 2 and text[0] == text[-1] == '"' else text
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 15):
        raise field_problem("If-Match", text, 'a revision like "5"')
    return int(digits)


def order_of(request: Request, reason: str, if_match: str | None) -> Order:
    """Return who commands, why, and on which revision."""
    return Order(actor_of(request), reason or NO_REASON, revision_of(if_match))


def _take_reason(block: dict[str, Any]) -> str:
    """Return the reason and leave the rollout block as the file would have it; raises ProblemError 422."""
    reason = block.pop("reason", "")
    try:
        return s.ActionBody.model_validate({"reason": reason}).reason
    except ValidationError:
        raise field_problem("reason", reason, f"one line of at most {s.REASON_CHARS} characters") from None


class RolloutEndpoints:
    """One method for each operation on `/v1/routes/{route}/rollout` and `.../rollouts`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._commands = services.control.commands
        self._policies = services.control.commands.policies

    async def show(self, route: str, response: Response) -> s.RolloutView:
        """Where the rollout stands; `ETag` is its revision. A Route without a rollout answers with phase `idle`."""
        services = self._services
        state = await services.state(route)
        judgement = await services.control.states.judge(state)
        response.headers["ETag"] = f'"{state.revision}"'
        return services.shown(state, judgement, await services.store.heartbeats())

    async def start(
        self, route: str, body: dict[str, Any], request: Request, response: Response, if_match: IfMatch = None
    ) -> s.RolloutView:
        """Start a rollout, if its candidate can be reached and is healthy."""
        block = dict(body)
        order = order_of(request, _take_reason(block), if_match)
        stable = (await self._services.state(route)).stable
        spec = rollout_from_json(block, self._services.route(route), stable=stable, policies=self._policies)
        response.headers["Location"] = f"/v1/routes/{route}/rollout"
        return await self._done(response, await self._commands.start(route, spec, order))

    async def change(
        self, route: str, body: s.ChangeBody, request: Request, response: Response, if_match: IfMatch = None
    ) -> s.RolloutView:
        """Set policy, steps, weight and mirror of a running rollout, all in one write."""
        if body.weight is None and body.mirror is None and body.policy is None and not body.steps:
            raise field_problem("body", None, "at least one of weight, mirror, policy, steps")
        steps = tuple(step.value() for step in body.steps)
        change = Change(weight_bp=body.weight, mirror_bp=body.mirror, policy=body.policy, steps=steps)
        order = order_of(request, body.reason, if_match)
        return await self._done(response, await self._commands.change(route, change, order))

    def action(self, command: Command) -> Endpoint:
        """Return the endpoint that carries out one of the commands that take nothing but a reason."""

        async def act(
            route: str, request: Request, response: Response,
            body: s.ActionBody | None = None, if_match: IfMatch = None,
        ) -> s.RolloutView:  # fmt: skip
            order = order_of(request, body.reason if body else "", if_match)
            return await self._done(response, await command(route, order))

        act.__name__, act.__doc__ = command.__name__, command.__doc__
        return act

    async def promote(
        self, route: str, request: Request, response: Response,
        body: s.PromoteBody | None = None, if_match: IfMatch = None,
    ) -> s.RolloutView:  # fmt: skip
        """Go to the next step; from the last one, or with `full` from any, make the candidate stable."""
        order = order_of(request, body.reason if body else "", if_match)
        full = body.full if body else False
        return await self._done(response, await self._commands.promote(route, order, full=full))

    async def _done(self, response: Response, state: RolloutState) -> s.RolloutView:
        services = self._services
        response.headers["ETag"] = f'"{state.revision}"'
        judgement = await services.control.states.judge_or_invalid(state)
        return services.shown(state, judgement, await services.heartbeats_or_last_seen())
