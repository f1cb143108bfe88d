"""KServe v1 and TensorFlow Serving: `POST .../v1/models/{model}[/versions/{n}|/labels/{l}]:predict` and its like.

Rows become labels and scores as `rows` says; `:classify` gives the label with the highest score.
"""

import re
from typing import Any
from urllib.parse import quote, unquote

from model_adapters.addressing import check_one_address, readdressed, split_target
from model_adapters.json_bodies import object_of
from model_adapters.rows import Row, columns_of, joined, prediction_of, scalar_text
from router.core.errors import UnreadableError
from router.core.inference import InferenceRequest, Prediction, RawAnswer, RawRequest
from router.core.traffic import Variant

_MODEL = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(?P<place>/versions/(?P<version>[^/:]+)|/labels/(?P<label>[^/:]+))?(?=[/:]|$)"
)


class KServeV1:
    """Reads row form (`instances`, `predictions`), column form (`inputs`, `outputs`), `:classify` and `:regress`."""

    name = "kserve_v1"
    mirror_safe = True  # prediction has no side effect in this protocol, nor do its GETs
    comparator = "label"

    def read_request(self, raw: RawRequest) -> InferenceRequest:
        """Return model and version (or label) from the path, rows from the body (0 without one)."""
        found = _MODEL.search(split_target(raw.target)[0])
        if found is None:
            raise UnreadableError("the path names no model: expected .../v1/models/{model}:predict")
        version = found["version"] or found["label"]
        model, version = unquote(found["model"]), version and unquote(version)
        if raw.method != "POST":
            return InferenceRequest(model, version)
        return InferenceRequest(model, version, rows=_rows(object_of(raw.body, "request")))

    def read_answer(self, raw: RawAnswer) -> Prediction:
        """Return labels and scores by the rules of `rows`."""
        body = object_of(raw.body, "answer")
        if "predictions" in body:
            return prediction_of(_list(body["predictions"], "predictions"))
        if "outputs" in body:
            outputs = body["outputs"]
            if type(outputs) is dict:
                return prediction_of(columns_of(outputs))
            return prediction_of(outputs if type(outputs) is list else [outputs])
        for name in ("results", "result"):
            if name in body:
                return _results(_list(body[name], name))
        raise UnreadableError("answer: expected `predictions`, `outputs` or `results`")

    def check_variant(self, variant: Variant) -> None:
        """Raise ConfigError for a `path` beside `model` or `version`; called once at start."""
        check_one_address(variant)

    def retarget(self, raw: RawRequest, variant: Variant) -> RawRequest:
        """Return `raw` sent to the variant's `path`, or its `model` and `version`; verb, query and body stay.

        A version of digits goes to `/versions/`, any other to `/labels/`.
        """
        return readdressed(raw, variant, _MODEL, _place, ".../v1/models/{model}:predict")


def _place(version: str) -> str:
    digits = version.isascii() and version.isdigit()
    return f"/{'versions' if digits else 'labels'}/{quote(version, safe='')}"


def _rows(body: dict[str, Any]) -> int:
    for name in ("instances", "examples"):
        if name in body:
            return len(_list(body[name], name, "request"))
    inputs = body.get("inputs")
    if type(inputs) is dict and inputs:
        inputs = next(iter(inputs.values()))
    if inputs is None:
        raise UnreadableError("request: expected `instances`, `inputs` or `examples`")
    return len(inputs) if type(inputs) is list else 1


def _list(value: object, name: str, what: str = "answer") -> list[Any]:
    if not isinstance(value, list):
        raise UnreadableError(f"{what}: expected `{name}`, a list")
    return value


def _results(results: list[Any]) -> Prediction:
    """Return what `:classify` (a list of label and score for each row) or `:regress` (a number) says."""
    if list not in set(map(type, results)):
        return prediction_of(results)
    return joined([_best(row) for row in results])


def _best(row: object) -> Row:
    if not isinstance(row, list) or not row:
        raise UnreadableError("answer: expected pairs of label and score in each row of `results`")
    for pair in row:
        if type(pair) is not list or len(pair) != 2 or type(pair[1]) not in (int, float):
            raise UnreadableError("answer: expected pairs of label and score in each row of `results`")
    scores = tuple([float(pair[1]) for pair in row])
    best = scores.index(max(scores))
    # Models without a vocabulary leave all labels empty: then the place is the class.
    label = scalar_text(row[best][0]) or str(best)
    return Row(label, scores[best], scores if len(scores) > 1 else ())
