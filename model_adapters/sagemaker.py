"""SageMaker: `POST .../invocations` of a container, or `/endpoints/{name}/invocations` of the runtime.

The answer's media type says how it is read: JSON, JSON lines or CSV. JSON is read as `rows` says, also under
`predictions`. A line of CSV is one label; its numbers are never taken as probabilities, since some servers write a
batch of scores into one line.
"""

import re
from typing import Any
from urllib.parse import unquote

from model_adapters.addressing import check_no_names, readdressed, split_target
from model_adapters.csv_bodies import content_type, csv_rows
from model_adapters.json_bodies import json_of
from model_adapters.rows import Row, joined, prediction_of, row_of
from router.core.errors import ConfigError, UnreadableError
from router.core.inference import InferenceRequest, Prediction, RawAnswer, RawRequest
from router.core.traffic import Variant

_ENDPOINT = re.compile(r"/endpoints/(?P<model>[^/]+)(?P<place>)(?=/invocations$)")
_NUMBER = re.compile(r"[+-]?(?:\d+(?P<fraction>\.\d*)?|(?P<point>\.\d+))(?P<power>[eE][+-]?\d{1,4})?", re.ASCII)
_DIGITS = 300
"""Longest number that is read as one: no whole number of so many digits is too large for a float."""

LINES = ("application/jsonlines", "application/x-jsonlines", "application/jsonl")


class SageMaker:
    """Reads inference id, target model and target variant from the header fields, answers by their media type."""

    name = "sagemaker"
    mirror_safe = True  # invocations have no side effect; the container has no other POST
    comparator = "label"

    def read_request(self, raw: RawRequest) -> InferenceRequest:
        """Return the inference id, the target model or endpoint, the target variant, and the rows of CSV and lines.

        Other bodies are the model's own business: 0 rows.
        """
        fields = dict(raw.headers)
        found = _ENDPOINT.search(split_target(raw.target)[0])
        model = fields.get("x-amzn-sagemaker-target-model") or (unquote(found["model"]) if found else None)
        rows = 0
        if raw.method == "POST":
            kind = content_type(raw.headers)
            if kind == "text/csv":
                rows = len(csv_rows(raw.body, "request"))
            elif kind in LINES:
                rows = len(_lines(raw.body))
        return InferenceRequest(
            model,
            fields.get("x-amzn-sagemaker-target-variant"),
            fields.get("x-amzn-sagemaker-inference-id"),
            rows,
        )

    def read_answer(self, raw: RawAnswer) -> Prediction:
        """Return labels and scores by the rules above."""
        kind = content_type(raw.headers)
        if kind == "text/csv":
            return joined([_csv_row(row) for row in csv_rows(raw.body, "answer")])
        if kind in LINES:
            return prediction_of([json_of(line, "answer") for line in _lines(raw.body)])
        body = json_of(raw.body, "answer")
        if isinstance(body, dict) and isinstance(body.get("predictions"), list):
            body = body["predictions"]
        return prediction_of(body) if isinstance(body, list) else joined([row_of(body)])

    def check_variant(self, variant: Variant) -> None:
        """Raise ConfigError for a `version`, or a `path` beside a `model`; called once at start."""
        check_no_names(variant, self.name, "version")
        if variant.path is not None and variant.model is not None:
            raise ConfigError("model", variant.model, "either `model` or `path`: the path already names the endpoint")

    def retarget(self, raw: RawRequest, variant: Variant) -> RawRequest:
        """Return `raw` sent to the variant's `path`, or to its `model` as endpoint; header fields and body stay."""
        if variant.version is not None:
            raise UnreadableError("the sagemaker adapter cannot write a version into a request")
        return readdressed(raw, variant, _ENDPOINT, str, "/endpoints/{name}/invocations")


def _lines(body: bytes) -> list[bytes]:
    return [line for line in body.split(b"\n") if line.strip()]


def _csv_row(cells: list[str]) -> Row:
    return row_of([_cell(cell.strip()) for cell in cells], sums=False)


def _cell(text: str) -> Any:  # noqa: ANN401 - a number or a text
    found = _NUMBER.fullmatch(text) if len(text) <= _DIGITS else None
    if found is None:
        return text
    if found["fraction"] is None and found["point"] is None and found["power"] is None:
        return int(text)
    value = float(text)
    return value if abs(value) != float("inf") else text
