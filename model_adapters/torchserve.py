"""TorchServe and DJL Serving: `POST .../predictions/{model}[/{version}]`.

The form of an answer is the model's own. JSON is read as `rows` says; an object of classes and probabilities gives the
most probable class; a list of numbers, or of DJL's `className` objects, is one row. What is not JSON is one text.
"""

import re
from urllib.parse import quote, unquote

import orjson

from model_adapters.addressing import check_one_address, readdressed, split_target
from model_adapters.rows import Row, class_row, joined, row_of
from router.core.errors import UnreadableError
from router.core.inference import InferenceRequest, Prediction, RawAnswer, RawRequest
from router.core.traffic import Variant

_MODEL = re.compile(r"/predictions/(?P<model>[^/]+)(?P<place>/(?P<version>[^/]+))?(?=/|$)")


class TorchServe:
    """Reads the inference API; a request's body is the model's own business and is not read."""

    name = "torchserve"
    mirror_safe = True  # the inference API has no side effect; management has a port of its own
    comparator = "label"

    def read_request(self, raw: RawRequest) -> InferenceRequest:
        """Return model and version from the path; a request is one row."""
        found = _MODEL.search(split_target(raw.target)[0])
        if found is None:
            raise UnreadableError("the path names no model: expected .../predictions/{model}")
        version = found["version"] and unquote(found["version"])
        return InferenceRequest(unquote(found["model"]), version, rows=1 if raw.method == "POST" else 0)

    def read_answer(self, raw: RawAnswer) -> Prediction:
        """Return labels and scores by the rules above."""
        try:
            value = orjson.loads(raw.body)
        except orjson.JSONDecodeError:
            return joined([Row(_text(raw.body))])
        if isinstance(value, dict):
            return joined([class_row(value) or row_of(value)])
        if isinstance(value, list) and value and not _one_row(value):
            return joined([_row(one) for one in value])
        return joined([row_of(value)])

    def check_variant(self, variant: Variant) -> None:
        """Raise ConfigError for a `path` beside `model` or `version`; called once at start."""
        check_one_address(variant)

    def retarget(self, raw: RawRequest, variant: Variant) -> RawRequest:
        """Return `raw` sent to the variant's `path`, or its `model` and `version`; query and body stay."""
        return readdressed(raw, variant, _MODEL, _place, ".../predictions/{model}")


def _place(version: str) -> str:
    return f"/{quote(version, safe='')}"


def _text(body: bytes) -> str:
    """Return a plain text, without the white space around it."""
    try:
        text = body.decode().strip()
    except UnicodeDecodeError:
        raise UnreadableError("answer: expected JSON or text in UTF-8") from None
    if not text or text[0] in '{["':
        raise UnreadableError("answer: expected JSON or text, found neither")
    return text


def _one_row(value: list[object]) -> bool:
    return all(type(one) in (int, float) or (isinstance(one, dict) and "className" in one) for one in value)


def _row(value: object) -> Row:
    return (class_row(value) if isinstance(value, dict) else None) or row_of(value)
