"""One digit model behind the Open Inference Protocol v2 (JSON over HTTP), as a bare ASGI application.

Bare ASGI because the demo runs two of these servers, the gateway, the store, the control process and the
traffic on two cores. CPU of the server process for one inference request (wrk, 4 connections, uvicorn with
httptools and uvloop, the model v2, of which the model's sums are 25 us): this style 114 us, Starlette 182
us, FastAPI 332 us, FastAPI with pydantic bodies 451 us.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import numpy as np
import orjson

from router.demo.models import DIGITS, PIXEL_MAX, PIXELS, Floats, Model, Prediction

MAX_IMAGES: Final = 1024  # chosen: a batch of this size keeps the event loop busy for less than 20 ms
MAX_BODY_BYTES: Final = 4 * 1024 * 1024  # 1,024 images with long numbers are about 1.3 MB
INPUT_DATATYPES: Final = ("FP64", "FP32")
OUTPUTS: Final = ("label", "scores")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the client: status, JSON value of the body, and the method to name in a 405."""

    status: HTTPStatus
    body: Mapping[str, object]
    allow: str = ""


class BadInputError(Exception):
    """What the client sent is no inference request for this model; the text says what was expected."""


class OpenInferenceApp:
    """The ASGI application that serves one version of one model. It keeps no state between requests."""

    def __init__(self, model: Model, *, name: str, version: str) -> None:
        self._model = model
        self._name = name
        self._version = version

    def __repr__(self) -> str:
        return f"<OpenInferenceApp {self._name} version {self._version}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; a client that goes away before its body is complete gets nothing."""
        body = await _read_body(receive)
        if body is None:
            return
        if len(body) > MAX_BODY_BYTES:
            sentence = f"The body is larger than {MAX_BODY_BYTES} bytes; send fewer images in one request."
            answer = _error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, sentence)
        else:
            answer = self.answer(scope["method"], scope["path"], body)
        await _send_answer(send, answer)

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Return the answer to one request; never raises because of what the client sent."""
        match path.strip("/").split("/"):
            case ["v2"]:
                return _only("GET", method, self._server_metadata)
            case ["v2", "health", "live" | "ready" as what]:
                # The model is fitted before the server starts, so a server that answers at all is ready.
                return _only("GET", method, lambda: _ok(**{what: True}))
            case ["v2", "models", self._name, "versions", self._version, *rest]:
                return self._answer_model(method, rest, body)
            case ["v2", "models", self._name, *rest]:
                return self._answer_model(method, rest, body)
        return self._not_found(path)

    def _answer_model(self, method: str, rest: list[str], body: bytes) -> Answer:
        """Return the answer to a request whose path goes on with `rest` after this model's name."""
        match rest:
            case []:
                return _only("GET", method, self._model_metadata)
            case ["ready"]:
                return _only("GET", method, lambda: _ok(name=self._name, ready=True))
            case ["infer"]:
                return _only("POST", method, lambda: self._infer(body))
        return self._not_found("/".join(rest))

    def _not_found(self, path: str) -> Answer:
        here = f"This server has the model {self._name!r} in version {self._version!r}."
        return _error(HTTPStatus.NOT_FOUND, f"There is nothing at {path!r}. {here}")

    def _server_metadata(self) -> Answer:
        return _ok(name="turnout-demo", version=self._version, extensions=[])

    def _model_metadata(self) -> Answer:
        return _ok(
            name=self._name,
            versions=[self._version],
            platform="scikit-learn",
            inputs=[{"name": "image", "datatype": "FP64", "shape": [-1, PIXELS]}],
            outputs=[
                {"name": "label", "datatype": "INT64", "shape": [-1]},
                {"name": "scores", "datatype": "FP64", "shape": [-1, DIGITS]},
            ],
        )

    def _infer(self, body: bytes) -> Answer:
        try:
            request = _read_object(body)
            wanted = _read_wanted_outputs(request)
            images = _read_images(request)
        except BadInputError as error:
            return _error(HTTPStatus.BAD_REQUEST, str(error))
        answered: dict[str, object] = {"model_name": self._name, "model_version": self._version}
        if "id" in request:
            answered["id"] = request["id"]
        tensors = _output_tensors(self._model.predict(images))
        return _ok(**answered, outputs=[tensors[name] for name in wanted])


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInputError(f"The body is not JSON: {error}.") from error
    if not isinstance(request, dict):
        raise BadInputError(f"The body is a JSON {type(request).__name__}; expected an object with 'inputs'.")
    if not isinstance(request.get("id", ""), str):
        raise BadInputError(f"'id' is {request['id']!r}; expected a string.")
    return request


def _read_images(request: Mapping[str, Any]) -> Floats:
    """Return the images of an inference request, (n, 64) with pixels 0..16, n between 1 and MAX_IMAGES."""
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise BadInputError("'inputs' must be a list of exactly one tensor, named 'image'.")
    tensor = inputs[0]
    if tensor.get("datatype") not in INPUT_DATATYPES:
        raise BadInputError(
            f"The datatype is {tensor.get('datatype')!r}; expected one of {', '.join(INPUT_DATATYPES)}."
        )
    shape = tensor.get("shape")
    match shape:
        case [int(count), width] if 1 <= count <= MAX_IMAGES and count is not True and width == PIXELS:
            pass
        case _:
            raise BadInputError(f"The shape is {shape!r}; expected [n, {PIXELS}] with n between 1 and {MAX_IMAGES}.")
    return _read_pixels(tensor.get("data"), count)


def _read_pixels(data: object, count: int) -> Floats:
    """Return `data`, flat or nested by rows as the protocol allows both, as (count, 64)."""
    if not isinstance(data, list):
        raise BadInputError("The tensor has no 'data' list; binary tensor data is not supported here.")
    try:
        pixels = np.array(data)
    except ValueError as error:  # rows of different lengths
        raise BadInputError(f"'data' must be flat or in rows of {PIXELS} numbers: {error}.") from error
    # No dtype is given above, because numpy would turn text such as "7" into a number without a word.
    if pixels.dtype.kind not in "iuf":
        raise BadInputError("'data' must hold numbers only.")
    if pixels.shape not in ((count * PIXELS,), (count, PIXELS)):
        raise BadInputError(f"'data' has the shape {list(pixels.shape)}, which does not fill [{count}, {PIXELS}].")
    if pixels.min() < 0.0 or pixels.max() > PIXEL_MAX:
        raise BadInputError(f"A pixel is outside 0..{PIXEL_MAX:g}.")
    return pixels.reshape(count, PIXELS).astype(np.float64, copy=False)


def _read_wanted_outputs(request: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the outputs the client asked for, in its order; all of them when it named none."""
    asked = request.get("outputs")
    if asked is None:
        return OUTPUTS
    try:
        names = tuple(output["name"] for output in asked)
    except (TypeError, LookupError):
        names = ()
    if not names or any(name not in OUTPUTS for name in names):
        raise BadInputError(f"'outputs' must be a list of objects whose 'name' is one of {', '.join(OUTPUTS)}.")
    return names


def _output_tensors(prediction: Prediction) -> dict[str, dict[str, object]]:
    count = len(prediction.labels)
    label, scores = prediction.labels.tolist(), prediction.scores.ravel().tolist()
    return {
        "label": {"name": "label", "datatype": "INT64", "shape": [count], "data": label},
        "scores": {"name": "scores", "datatype": "FP64", "shape": [count, DIGITS], "data": scores},
    }


def _only(allowed: str, method: str, make: Callable[[], Answer]) -> Answer:
    """Return what `make` makes if the method is the `allowed` one, else a 405."""
    if method == allowed:
        return make()
    sentence = f"{method} is not possible here, only {allowed}."
    return Answer(HTTPStatus.METHOD_NOT_ALLOWED, {"error": sentence}, allow=allowed)


def _ok(**body: object) -> Answer:
    return Answer(HTTPStatus.OK, body)


def _error(status: HTTPStatus, sentence: str) -> Answer:
    return Answer(status, {"error": sentence})


async def _read_body(receive: Receive) -> bytes | None:
    """Return the whole request body, or None if the client went away.

    At most one byte more than MAX_BODY_BYTES is kept; the rest is read and forgotten, so that the client
    sees its 413 instead of a connection that breaks while it still sends.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    while message["type"] == "http.request" and message.get("more_body", False):
        message = await receive()
        if len(body) <= MAX_BODY_BYTES:
            body = (body + message.get("body", b""))[: MAX_BODY_BYTES + 1]
    return body if message["type"] == "http.request" else None


async def _send_answer(send: Send, answer: Answer) -> None:
    body = orjson.dumps(answer.body)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if answer.allow:
        headers.append((b"allow", answer.allow.encode()))
    await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
