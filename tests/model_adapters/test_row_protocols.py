"""Adapters whose answers are rows of the model's own form: KServe v1, TorchServe, MLflow, SageMaker."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_adapters.kserve_v1 import KServeV1
from model_adapters.mlflow import MLflow
from model_adapters.sagemaker import SageMaker
from model_adapters.torchserve import TorchServe
from router.core.errors import ConfigError, UnreadableError
from router.core.inference import InferenceRequest, Prediction
from router.core.ports import ModelAdapter
from router.testing.adapter_contract import AdapterExample, check_adapter
from tests.model_adapters.wire import get, post, said, variant

LAWS = settings(max_examples=200, deadline=None, derandomize=True)
KSERVE, TORCH, MLFLOW, SAGE = KServeV1(), TorchServe(), MLflow(), SageMaker()
CSV = ("content-type", "text/csv; charset=utf-8")

EXAMPLES: dict[ModelAdapter, list[AdapterExample]] = {
    KSERVE: [
        AdapterExample(
            post("/v1/models/half/versions/3:predict", {"instances": [1.0, 2.0]}),
            said({"predictions": [2.5, 3.0]}),
            InferenceRequest("half", "3", rows=2),
            Prediction(("2.5", "3"), (2.5, 3.0)),
        ),
        AdapterExample(
            post("/v1/models/half/labels/canary:predict", {"inputs": {"x": [[1], [2]]}}),
            said({"outputs": {"classes": ["cat", "dog"], "scores": [[0.9, 0.1], [0.3, 0.7]]}}),
            InferenceRequest("half", "canary", rows=2),
            Prediction(("cat", "dog"), (0.9, 0.7), ((0.9, 0.1), (0.3, 0.7))),
        ),
        AdapterExample(
            post("/v1/models/m:classify", {"examples": [{"x": 1}]}),
            said({"results": [[["cat", 0.2], ["dog", 0.8]]]}),
            InferenceRequest("m", rows=1),
            Prediction(("dog",), (0.8,), ((0.2, 0.8),)),
        ),
        AdapterExample(
            get("/v1/models/m"), said({"result": [0.5]}), InferenceRequest("m"), Prediction(("0.5",), (0.5,))
        ),
    ],
    TORCH: [
        AdapterExample(
            post("/predictions/resnet/2.0?top=2", b"\xff\xd8\xff\xe0", ("content-type", "image/jpeg")),
            said({"tiger_cat": 0.46, "tabby": 0.38, "lynx": 0.1}),
            InferenceRequest("resnet", "2.0", rows=1),
            Prediction(("tiger_cat",), (0.46,)),
        ),
        AdapterExample(
            post("/predictions/digits", b"\x89PNG", ("content-type", "image/png")),
            said(b"7\n", "text/plain"),
            InferenceRequest("digits", rows=1),
            Prediction(("7",)),
        ),
        AdapterExample(
            post("/predictions/mlp", b"x"),
            said([{"className": "cat", "probability": 0.7}, {"className": "dog", "probability": 0.2}]),
            InferenceRequest("mlp", rows=1),
            Prediction(("cat",), (0.7,)),
        ),
    ],
    MLFLOW: [
        AdapterExample(
            post("/invocations", {"dataframe_split": {"columns": ["a"], "data": [[1], [2]]}}),
            said(b'{"predictions": [7, 8]}'),  # as MLflow 3.17.2 answers for a classifier of scikit-learn
            InferenceRequest(rows=2),
            Prediction(("7", "8")),
        ),
        AdapterExample(
            post("/invocations", b'a,b\r\n1,"x\ny"\r\n2,z\r\n', CSV),
            said({"predictions": [[0.1, 0.9], [0.75, 0.25]]}),
            InferenceRequest(rows=2),
            Prediction(("1", "0"), (0.9, 0.75), ((0.1, 0.9), (0.75, 0.25))),
        ),
        AdapterExample(
            post("/invocations", {"inputs": {"x": [1, 2, 3]}}),
            said({"predictions": [{"label": "spam", "score": 0.9}, {"label": "ham", "score": 0.8}]}),
            InferenceRequest(rows=3),
            Prediction(("spam", "ham"), (0.9, 0.8)),
        ),
    ],
    SAGE: [
        AdapterExample(
            post(
                "/invocations", b"1,2\n3,4\n", CSV, ("x-amzn-sagemaker-inference-id", "i-1"),
                ("x-amzn-sagemaker-target-variant", "blue"),
            ),
            said(b"0.25\n0.75\n", "text/csv"),
            InferenceRequest(None, "blue", "i-1", 2),
            Prediction(("0.25", "0.75"), (0.25, 0.75)),
        ),
        AdapterExample(
            post("/endpoints/churn/invocations", {"instances": []}),
            said({"predictions": [{"score": 0.4, "predicted_label": 0}]}),
            InferenceRequest("churn"),
            Prediction(("0",), (0.4,)),
        ),
        AdapterExample(
            post("/invocations", b'{"a":1}\n{"a":2}\n', ("content-type", "application/jsonlines")),
            said(b'{"label":"a","score":0.5}\n{"label":"b","score":0.75}\n', "application/jsonlines"),
            InferenceRequest(rows=2),
            Prediction(("a", "b"), (0.5, 0.75)),
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize("adapter", EXAMPLES, ids=lambda adapter: adapter.name)
def test_the_adapter_keeps_the_contract_it_shares_with_strangers(adapter: ModelAdapter) -> None:
    """`check_adapter` over recorded examples, and over what is left of them when they are damaged."""
    check_adapter(adapter, EXAMPLES[adapter])


@pytest.mark.parametrize(
    ("adapter", "answer", "prediction"),
    [
        (KSERVE, {"predictions": []}, Prediction()),
        (KSERVE, {"predictions": [[3]]}, Prediction(("3",))),
        (KSERVE, {"predictions": [[0.3, 0.3]]}, Prediction(("0.3,0.3",), (), ((0.3, 0.3),))),
        (KSERVE, {"predictions": [[0, 1]]}, Prediction(("0,1",), (), ((0.0, 1.0),))),
        (KSERVE, {"predictions": [[0.5, 0.5]]}, Prediction(("0",), (0.5,), ((0.5, 0.5),))),
        (KSERVE, {"predictions": [["a,b", "c"]]}, Prediction(('["a,b","c"]',))),
        (KSERVE, {"predictions": [{"price": 12.5}]}, Prediction(('{"price":12.5}',))),
        (KSERVE, {"predictions": [{"probabilities": [0.2, 0.7]}]}, Prediction(("1",), (0.7,), ((0.2, 0.7),))),
        (KSERVE, {"results": [[["", 0.2], ["", 0.8]]]}, Prediction(("1",), (0.8,), ((0.2, 0.8),))),
        (KSERVE, {"outputs": 5.0}, Prediction(("5",), (5.0,))),
        (TORCH, {"prediction": 12.5}, Prediction(("12.5",))),
        (TORCH, {"width": 2.0, "height": 0.1}, Prediction(('{"height":0.1,"width":2}',))),
        (TORCH, [[0.1, 0.9], [0.8, 0.2]], Prediction(("1", "0"), (0.9, 0.8), ((0.1, 0.9), (0.8, 0.2)))),
        (MLFLOW, {"predictions": {"label": ["a", "b"], "score": [0.1, 0.2]}}, Prediction(("a", "b"), (0.1, 0.2))),
        (MLFLOW, {"predictions": "a text"}, Prediction(("a text",))),
        (MLFLOW, [1, 2], Prediction(("1", "2"))),
        (SAGE, [[{"label": "P", "score": 0.1}, {"label": "N", "score": 0.9}]], Prediction(("N",), (0.9,))),
    ],
)  # fmt: skip
def test_rows_are_read_by_the_documented_rules(adapter: ModelAdapter, answer: object, prediction: Prediction) -> None:
    """Probabilities give the most probable class, names give labels, all else is one label as a whole."""
    assert adapter.read_answer(said(answer)) == prediction


def test_a_line_of_csv_is_never_taken_as_probabilities() -> None:
    """Servers that write a batch into one line would otherwise match silently."""
    assert SAGE.read_answer(said(b"0.1,0.9\n", "text/csv")).labels == ("0.1,0.9",)


@pytest.mark.parametrize(
    ("adapter", "answer"),
    [
        (KSERVE, {"error": "no such model"}),
        (KSERVE, {"predictions": 7}),
        (KSERVE, {"predictions": [None]}),
        (KSERVE, {"predictions": [[]]}),
        (KSERVE, {"outputs": {"a": [1], "b": [1, 2]}}),
        (KSERVE, {"results": [[["cat"]]]}),
        (KSERVE, {"results": [[["cat", "0.5"]]]}),
        (KSERVE, b'{"predictions":[NaN]}'),
        (KSERVE, b'{"predictions":' + b"[" * 200 + b"]" * 200 + b"}"),
        (TORCH, b"{"),
        (TORCH, b"\xff\xfe"),
        (TORCH, b""),
        (MLFLOW, {"error_code": "BAD_REQUEST"}),
        (MLFLOW, 7),
        (SAGE, b"0.5"[:0]),
        (SAGE, None),
    ],
)
def test_an_answer_that_cannot_be_read_says_why(adapter: ModelAdapter, answer: object) -> None:
    """Never a guess, and never a label that two such answers would share."""
    with pytest.raises(UnreadableError, match=r"expected|not JSON"):
        adapter.read_answer(said(answer))


@pytest.mark.parametrize(
    ("adapter", "target", "to", "expected"),
    [
        (KSERVE, "/v1/models/a:predict?x=1", {"model": "b c"}, "/v1/models/b%20c:predict?x=1"),
        (KSERVE, "/v1/models/a/versions/1:classify", {"version": "2"}, "/v1/models/a/versions/2:classify"),
        (KSERVE, "/v1/models/a/versions/1:regress", {"version": "new"}, "/v1/models/a/labels/new:regress"),
        (KSERVE, "/v1/models/a:predict", {"model": "b", "version": "2"}, "/v1/models/b/versions/2:predict"),
        (KSERVE, "/v1/models/a:predict", {"path": "/v1/models/b:predict"}, "/v1/models/b:predict"),
        (TORCH, "/predictions/a?x=1", {"version": "2.0"}, "/predictions/a/2.0?x=1"),
        (TORCH, "/predictions/a/1.0", {"model": "b"}, "/predictions/b/1.0"),
        (MLFLOW, "/invocations", {"path": "/v2/invocations"}, "/v2/invocations"),
        (SAGE, "/endpoints/a/invocations", {"model": "b"}, "/endpoints/b/invocations"),
    ],
)
def test_retarget_replaces_model_version_or_path(
    adapter: ModelAdapter, target: str, to: dict[str, Any], expected: str
) -> None:
    """And nothing else: verb, query, header fields and body stay."""
    raw = post(target, {"model": "keep"})
    assert adapter.retarget(raw, variant(**to)) == replace(raw, target=expected)


@pytest.mark.parametrize(
    ("adapter", "parts", "field"),
    [
        (KSERVE, {"model": "m", "path": "/x"}, "model"),
        (KSERVE, {"version": "1", "path": "/x"}, "version"),
        (TORCH, {"version": "1", "path": "/x"}, "version"),
        (MLFLOW, {"model": "m"}, "model"),
        (MLFLOW, {"version": "1"}, "version"),
        (SAGE, {"version": "1"}, "version"),
        (SAGE, {"model": "m", "path": "/x"}, "model"),
    ],
)
def test_a_variant_that_retarget_could_not_serve_is_refused_at_start(
    adapter: Any,  # noqa: ANN401 - an adapter that checks variants
    parts: dict[str, Any],
    field: str,
) -> None:
    """The error names the field."""
    with pytest.raises(ConfigError) as caught:
        adapter.check_variant(variant(**parts))
    assert caught.value.field == field


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["predictions", "outputs", "results", "label", "score", "className", "x"]), inner
        )
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("adapter", EXAMPLES, ids=lambda adapter: adapter.name)
@LAWS
@given(value=json_values, kind=st.sampled_from(["application/json", "text/csv", "application/jsonlines", ""]))
def test_any_json_is_read_or_refused(adapter: ModelAdapter, value: object, kind: str) -> None:
    """Only UnreadableError is ever raised, and what is read has one label for each score."""
    try:
        body = said(value, kind)
    except TypeError:  # a whole number that JSON of 64 bits does not hold
        return
    try:
        prediction = adapter.read_answer(body)
    except UnreadableError:
        return
    assert prediction is not None
    assert len(prediction.scores) in (0, len(prediction.labels))
