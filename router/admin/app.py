"""Builds the admin API: the one table of its routes, each with its role."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from router import version
from router.admin.access import ROLE, Doorkeeper, RoleRoute
from router.admin.bind import check_bind
from router.admin.edge import Edge
from router.admin.explanations import ExplanationEndpoints
from router.admin.feedback import FeedbackEndpoints
from router.admin.health import HealthEndpoints
from router.admin.problems import MEDIA_TYPE, answer_error
from router.admin.records import RecordEndpoints
from router.admin.reloads import ReloadEndpoints, Reloader
from router.admin.rollouts import RolloutEndpoints
from router.admin.routes import RouteEndpoints
from router.admin.schemas import ActionBody
from router.admin.services import Services
from router.admin.tokens import AccessRole
from router.admin.validation import answer_invalid
from router.control.loop import ControlLoop
from router.core.config import TurnoutConfig
from router.core.errors import TurnoutError
from router.core.ports import Store
from router.settings.rollout_blocks import RolloutBlock

NONE, VIEWER, OPERATOR, ADMIN = AccessRole.NONE, AccessRole.VIEWER, AccessRole.OPERATOR, AccessRole.ADMIN

ROUTE = "/v1/routes/{route}"


@dataclass(frozen=True, slots=True)
class Row:
    """One operation: what is called, by whom at least, and the status of success."""

    method: str
    path: str
    endpoint: Callable[..., Awaitable[object]]
    role: AccessRole
    status: int = 200
    body_schema: Mapping[str, Any] | None = None
    """Describes a body that FastAPI passes on unread."""


def table(services: Services, reloader: Reloader | None) -> tuple[Row, ...]:
    """Return every operation of the admin API."""
    health, routes = HealthEndpoints(services), RouteEndpoints(services)
    rollouts, records = RolloutEndpoints(services), RecordEndpoints(services)
    commands = services.control.commands
    actions = (commands.pause, commands.resume, commands.abort, commands.retry, commands.undo, commands.approve)
    return (
        Row("GET", "/healthz", health.healthz, NONE),
        Row("GET", "/readyz", health.readyz, NONE),
        Row("GET", "/metrics", health.metrics, VIEWER),
        Row("POST", "/v1/reload", ReloadEndpoints(services, reloader).reload, ADMIN, 202),
        Row("GET", "/v1/routes", routes.index, VIEWER),
        Row("GET", ROUTE, routes.show, VIEWER),
        Row("POST", f"{ROUTE}/rollouts", rollouts.start, OPERATOR, 201, start_schema()),
        Row("GET", f"{ROUTE}/rollout", rollouts.show, VIEWER),
        Row("PATCH", f"{ROUTE}/rollout", rollouts.change, OPERATOR),
        Row("POST", f"{ROUTE}/rollout/promote", rollouts.promote, OPERATOR),
        *(Row("POST", f"{ROUTE}/rollout/{one.__name__}", rollouts.action(one), OPERATOR) for one in actions),
        Row("GET", f"{ROUTE}/explain", ExplanationEndpoints(services).explain, VIEWER),
        Row("GET", f"{ROUTE}/pairs", records.pairs, VIEWER),
        Row("GET", f"{ROUTE}/decisions", records.decisions, VIEWER),
        Row("GET", f"{ROUTE}/evidence", records.evidence, VIEWER),
        Row("GET", f"{ROUTE}/timeline", records.timeline, VIEWER),
        Row("POST", "/v1/feedback", FeedbackEndpoints(services).take, OPERATOR),
    )


def create_app(  # noqa: PLR0913 - everything it serves is handed in
    *,
    config: TurnoutConfig,
    store: Store,
    control: ControlLoop,
    now_s: Callable[[], float],
    monotonic: Callable[[], float],
    reloader: Reloader | None = None,
) -> FastAPI:
    """Return the admin API. It serves whether or not `control` runs; whoever calls runs both, and closes the store.

    `now_s` is the wall clock, `monotonic` one that never jumps; without `reloader` nothing can be reloaded. Raises
    ConfigError when it would be open to other machines without any token, or when a token's hash cannot be read.
    """
    check_bind(config)
    app = FastAPI(
        title="Turnout admin API",
        version=version(),
        openapi_url=None,  # served below, behind a role; the interactive pages would load scripts from elsewhere
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.router.route_class = RoleRoute
    app.state.doorkeeper = Doorkeeper(config, monotonic)
    for row in table(Services(config, store, control, now_s, monotonic), reloader):
        _add(app, row)

    async def openapi() -> dict[str, Any]:
        """Return this description."""
        return app.openapi()

    _add(app, Row("GET", "/openapi.json", openapi, VIEWER))
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(HTTPException, answer_error)
    app.add_exception_handler(TurnoutError, answer_error)
    app.add_middleware(Edge, config=config)
    return app


def start_schema() -> Mapping[str, Any]:
    """Return the JSON Schema of a rollout block with a reason, without references, as OpenAPI has them elsewhere."""
    schema = RolloutBlock.model_json_schema()
    schema["properties"]["reason"] = ActionBody.model_json_schema()["properties"]["reason"]
    found: Mapping[str, Any] = _inlined(schema, schema.pop("$defs", {}))
    return found


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    rest = {key: _inlined(part, definitions) for key, part in schema.items() if key != "$ref"}
    return {**_inlined(definitions[name], definitions), **rest} if name else rest


PROBLEM = {"description": "A problem document (RFC 9457).", "content": {MEDIA_TYPE: {}}}


def _add(app: FastAPI, row: Row) -> None:
    schema = row.body_schema
    body = {"requestBody": {"content": {"application/json": {"schema": schema}}}} if schema else {}
    app.add_api_route(
        row.path,
        row.endpoint,
        methods=[row.method],
        status_code=row.status,
        responses={"default": PROBLEM},
        openapi_extra={ROLE: str(row.role), **body},
    )
