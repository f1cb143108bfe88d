"""What FastAPI found wrong with a request, as a problem that names field, value and what was expected."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from router.admin.problems import invalid, respond, shown
from router.settings.findings import nearest

EXPECTED: Mapping[str, str] = {
    "missing": "a value",
    "model_type": "a JSON object",
    "model_attributes_type": "a JSON object",
    "dict_type": "a JSON object",
    "list_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}
"""pydantic's kinds of error in our words; any other keeps pydantic's."""

SHOWN_ERRORS = 20


async def answer_invalid(request: Request, error: Exception) -> Response:
    """Answer a request whose body or parameters do not fit."""
    if not isinstance(error, RequestValidationError):
        raise error
    known = _model(request)
    return respond(invalid([_entry(details, known) for details in error.errors()[:SHOWN_ERRORS]]))


def _entry(details: Mapping[str, Any], known: type[BaseModel] | None) -> dict[str, object]:
    place = [part for part in details["loc"][1:] if part != "[key]"]
    kind = details["type"]
    value = None if kind == "missing" else details.get("input")
    return {"field": _dotted(place), "value": shown(value), "expected": _expected(details, place, known)}


def _expected(details: Mapping[str, Any], place: Sequence[str | int], model: type[BaseModel] | None) -> str:
    kind, words = details["type"], str(details["msg"])
    if kind == "extra_forbidden":
        own = len(place) == 1 or (len(place) == 2 and isinstance(place[0], int))
        known = model.model_fields if model is not None and own else ()
        return f"no field of this name; {nearest(str(place[-1]), known)}" if known else "no field of this name"
    return EXPECTED.get(kind) or words.removeprefix("Value error, ").removeprefix("Input should be ")


def _dotted(place: Sequence[str | int]) -> str:
    """Return `steps[0].weight`; the body as a whole is `body`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in place]
    return "".join(parts).removeprefix(".") or "body"


def _model(request: Request) -> type[BaseModel] | None:
    """Return the model of the called route's body, or of its parameters, if it has one."""
    route = request.scope.get("route")
    parameters = getattr(getattr(route, "dependant", None), "query_params", ())
    fields = [field for field in (getattr(route, "body_field", None), *parameters) if field is not None]
    found = [field.field_info.annotation for field in fields]
    models = [model for one in found for model in (one, *getattr(one, "__args__", ()))]
    return next((model for model in models if isinstance(model, type) and issubclass(model, BaseModel)), None)
