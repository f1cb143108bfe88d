"""Open Inference Protocol v2 over JSON, as spoken by MLServer, KServe, Triton and OpenVINO.

How an answer becomes a Prediction, without guessing:

- scores are those of the first output named `score`, `scores`, `probabilities` or, as MLServer names those of
  scikit-learn, `predict_proba`; a row's score is its largest element, its vector all of several;
- labels are the output named `label`, else the first output that holds no scores; none, if there is no such
  output;
- a batch has as many rows as `shape[0]` says, one if `shape` is empty; several elements in a row are joined
  by commas;
- texts stay as they are, integers are exact, other numbers have six significant digits (7, 7.0 and "7" are
  one label);
- the binary tensors of Triton's extension are read as the same tensors of JSON would be;
- a label over 64 bytes keeps its beginning and ends in a digest, so that two long labels still differ.
"""

import re
from math import prod
from typing import Any
from urllib.parse import quote, unquote

from model_adapters.addressing import check_one_address, readdressed, split_target
from model_adapters.binary_tensors import fill, json_length
from model_adapters.json_bodies import object_of
from model_adapters.rows import scalar_text
from router.core.errors import UnreadableError
from router.core.inference import PREDICTION_BYTES, InferenceRequest, Prediction, RawAnswer, RawRequest, kept_label
from router.core.traffic import Variant

SCORES = frozenset({"score", "scores", "probabilities", "predict_proba"})

_MODEL = re.compile(r"/v2/models/(?P<model>[^/]+)(?P<place>/versions/(?P<version>[^/]+))?(?=/|$)")

_DIMENSIONS = 32
"""Most dimensions of a tensor; numpy 1 had the same limit. Bounds the work on a hostile answer."""

_NUMBERS = frozenset({float, int})

_SURELY_KEPT = PREDICTION_BYTES // 4
"""Characters that `kept_label` leaves as they are, whatever they are."""


class OpenInference:
    """Reads `POST .../v2/models/{model}[/versions/{version}]/infer` with a JSON body."""

    name = "open_inference"
    mirror_safe = True  # inference has no side effect in this protocol, nor do its GETs
    comparator = "label"

    def read_request(self, raw: RawRequest) -> InferenceRequest:
        """Return model and version from the path, id and rows from the body (0 rows without one)."""
        found = _MODEL.search(split_target(raw.target)[0])
        if found is None:
            raise UnreadableError("the path names no model: expected .../v2/models/{model}/...")
        model, version = unquote(found["model"]), found["version"] and unquote(found["version"])
        if raw.method != "POST":
            return InferenceRequest(model, version)
        body = _whole(raw, "request", "inputs")
        request_id = body.get("id")
        inputs = body.get("inputs")
        if not isinstance(inputs, list) or not inputs or not isinstance(inputs[0], dict):
            raise UnreadableError("request: expected `inputs`, a list of tensors")
        return InferenceRequest(
            model, version, request_id if isinstance(request_id, str) else None, _rows(_shape(inputs[0]))
        )

    def read_answer(self, raw: RawAnswer) -> Prediction:
        """Return labels and scores by the rules above."""
        try:
            return _prediction(object_of(raw.body, "answer").get("outputs"))
        except UnreadableError:  # plain JSON is the common case, and is not asked for a header field first
            if json_length(raw.headers, raw.body) is None:
                raise
        return _prediction(_whole(raw, "answer", "outputs").get("outputs"))

    def check_variant(self, variant: Variant) -> None:
        """Raise ConfigError for a `path` beside `model` or `version`; called once at start."""
        check_one_address(variant)

    def retarget(self, raw: RawRequest, variant: Variant) -> RawRequest:
        """Return `raw` sent to the variant's `path`, or to its `model` and `version`; query and body stay.

        Only a POST goes to `path`, which is where inference is. Requests that name no model (health) stay as
        they are. Raises UnreadableError for a POST whose path names no model to replace.
        """
        return readdressed(raw, variant, _MODEL, _place, ".../v2/models/{model}/infer")


def _whole(raw: RawRequest | RawAnswer, what: str, tensors: str) -> dict[str, Any]:
    """Return the object in a body, the data of binary tensors filled in."""
    length = json_length(raw.headers, raw.body)
    if length is None:
        return object_of(raw.body, what)
    value = object_of(raw.body[:length], what)
    fill(value.get(tensors), raw.body[length:])
    return value


def _prediction(outputs: object) -> Prediction:
    if not isinstance(outputs, list):
        raise UnreadableError("answer: expected `outputs`, a list of tensors")
    labels = scores = None
    for output in outputs:
        if not isinstance(output, dict):
            raise UnreadableError("answer: expected each output to be an object")
        name = output.get("name")
        if type(name) is str and name in SCORES:
            scores = output if scores is None else scores
        elif labels is None or (name == "label" and labels.get("name") != "label"):
            labels = output
    told = ((), ()) if scores is None else _scores(scores)
    return Prediction(() if labels is None else _labels(labels), *told)


def _place(version: str) -> str:
    return f"/versions/{quote(version, safe='')}"


def _shape(tensor: dict[str, Any]) -> list[int]:
    shape = tensor.get("shape")
    if type(shape) is not list or len(shape) > _DIMENSIONS:
        raise UnreadableError(f"tensor: expected `shape`, a list of at most {_DIMENSIONS} sizes")
    for size in shape:
        if type(size) is not int or size < 0:
            raise UnreadableError("tensor: expected sizes from 0 up in `shape`")
    return shape


def _rows(shape: list[int]) -> int:
    return shape[0] if shape else 1


def _elements(tensor: dict[str, Any]) -> tuple[list[Any], int]:
    """Return the elements of a tensor, whose data may be flat or nested, in one list; and how many a row has."""
    shape = _shape(tensor)
    data = tensor.get("data")
    if type(data) is not list:
        raise UnreadableError("tensor: expected `data`, a list")
    for _ in shape:
        if not data or type(data[0]) is not list:
            break
        data = _flatter(data)
    if len(data) != prod(shape):
        raise UnreadableError(f"tensor: found {len(data)} elements, expected as many as `shape` says")
    rows = _rows(shape)
    if not data and rows:  # refused rather than believed: shape [10**12, 0] would make as many empty rows
        raise UnreadableError("tensor: expected at least one element in each row")
    return data, len(data) // rows if rows else 0


def _flatter(data: list[Any]) -> list[Any]:
    """Return the elements of `data`'s elements: one level less of nesting."""
    width = len(data[0])
    flat: list[Any] = []
    for row in data:
        if type(row) is not list or len(row) != width:
            raise UnreadableError("tensor: expected rows of one length in `data`")
        flat += row
    return flat


def _labels(tensor: dict[str, Any]) -> tuple[str, ...]:
    data, width = _elements(tensor)
    if len(data) == 1:  # most answers, in half the time
        text = scalar_text(data[0])
        return (text if len(text) <= _SURELY_KEPT else kept_label((text,)),)
    texts = _texts(data)
    if width == 1:
        if max(map(len, texts)) <= _SURELY_KEPT:
            return tuple(texts)
        return tuple([kept_label((text,)) for text in texts])
    return tuple([kept_label(texts[start : start + width]) for start in range(0, len(texts), width or 1)])


def _texts(data: list[Any]) -> list[str]:
    """Return elements as texts: fast where all are of one type, since gateways read this on their loop."""
    kinds = set(map(type, data))
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is str:
        return data
    if kind is int:
        return list(map(str, data))
    if kind is float:
        return [f"{value + 0.0:.6g}" for value in data]  # the sum makes -0.0 a plain 0
    return list(map(scalar_text, data))  # by JSON type, since servers disagree on datatypes for one model


def _scores(tensor: dict[str, Any]) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    """Return the largest element of each row, and all of them where a row has several."""
    data, width = _elements(tensor)
    if not _NUMBERS.issuperset(map(type, data)):
        raise UnreadableError("scores: expected numbers, at least one in each row")
    # All are finite: JSON has no other numbers, and orjson refuses those that overflow.
    numbers = list(map(float, data))
    if width <= 1:
        return tuple(numbers), ()
    if width == len(numbers):
        return (max(numbers),), (tuple(numbers),)
    vectors = tuple(zip(*[iter(numbers)] * width, strict=True))  # each row, without a call of ours
    return tuple(map(max, vectors)), vectors
