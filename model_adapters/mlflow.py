"""MLflow's scoring server: `POST .../invocations`, answers under `predictions`. Rows are read as `rows` says."""

from typing import Any

from model_adapters.addressing import check_no_names, to_path
from model_adapters.csv_bodies import content_type, csv_rows
from model_adapters.json_bodies import json_of, object_of
from model_adapters.rows import columns_of, prediction_of
from router.core.errors import UnreadableError
from router.core.inference import InferenceRequest, Prediction, RawAnswer, RawRequest
from router.core.traffic import Variant

_PROMPTS = ("messages", "prompt", "input")
"""What a request to a language model holds instead of rows."""


class MLflow:
    """Reads all input forms: `dataframe_split`, `dataframe_records`, `instances`, `inputs`, and CSV."""

    name = "mlflow"
    mirror_safe = True  # scoring has no side effect; the server has no other POST
    comparator = "label"

    def read_request(self, raw: RawRequest) -> InferenceRequest:
        """Return the rows; the protocol names no model."""
        if raw.method != "POST":
            return InferenceRequest()
        if content_type(raw.headers) == "text/csv":
            return InferenceRequest(rows=max(len(csv_rows(raw.body, "request")) - 1, 0))  # the first names the columns
        return InferenceRequest(rows=_rows(object_of(raw.body, "request")))

    def read_answer(self, raw: RawAnswer) -> Prediction:
        """Return labels and scores by the rules of `rows`; a bare list is what servers before 2.0 send."""
        body = json_of(raw.body, "answer")
        if isinstance(body, dict):
            if "predictions" not in body:
                raise UnreadableError("answer: expected `predictions`")
            body = body["predictions"]
            if isinstance(body, dict) and body and all(isinstance(column, list) for column in body.values()):
                return prediction_of(columns_of(body))
            return prediction_of(body if isinstance(body, list) else [body])
        if not isinstance(body, list):
            raise UnreadableError("answer: expected `predictions`")
        return prediction_of(body)

    def check_variant(self, variant: Variant) -> None:
        """Raise ConfigError when the variant asks for a `model` or `version`; called once at start."""
        check_no_names(variant, self.name, "model", "version")

    def retarget(self, raw: RawRequest, variant: Variant) -> RawRequest:
        """Return `raw` sent to the variant's `path`, its query kept. Raises UnreadableError for a `model`."""
        if variant.model is not None or variant.version is not None:
            raise UnreadableError("the mlflow adapter cannot write a model into a request")
        return to_path(raw, variant)


def _rows(body: dict[str, Any]) -> int:
    split = body.get("dataframe_split")
    if isinstance(split, dict) and isinstance(split.get("data"), list):
        return len(split["data"])
    if isinstance(body.get("dataframe_records"), list):
        return len(body["dataframe_records"])
    for name in ("instances", "inputs"):
        if name in body:
            return _length(body[name])
    if any(name in body for name in _PROMPTS):
        return 1
    raise UnreadableError("request: expected `dataframe_split`, `dataframe_records`, `instances` or `inputs`")


def _length(value: object) -> int:
    """Return the rows of a list, or of named lists."""
    if isinstance(value, dict) and value:
        value = next(iter(value.values()))
    return len(value) if isinstance(value, list) else 1
