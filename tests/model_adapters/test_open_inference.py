"""The Open Inference Protocol adapter: what it reads, what it refuses, how it readdresses requests."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_adapters.open_inference import OpenInference
from router.core.errors import ConfigError, UnreadableError
from router.core.inference import PREDICTION_BYTES, InferenceRequest, Prediction, RawAnswer, RawRequest
from router.core.traffic import Backend, Variant
from router.testing.adapter_contract import AdapterExample, check_adapter

ADAPTER = OpenInference()
LAWS = settings(max_examples=150, deadline=None, derandomize=True)
JSON = (("content-type", "application/json"),)


def request(target: str = "/v2/models/digits/infer", method: str = "POST", **body: object) -> RawRequest:
    """Return an inference request; without `inputs` it has one row of four numbers."""
    content = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0.1, 0.2, 0.3, 0.4]}], **body}
    return RawRequest(method, target, JSON, json.dumps(content).encode())


def answer(*outputs: object) -> RawAnswer:
    """Return an answer with these outputs."""
    return RawAnswer(200, JSON, orjson.dumps({"model_name": "digits", "id": "1", "outputs": list(outputs)}))


def tensor(name: str, shape: list[int], data: list[Any], datatype: str = "FP64") -> dict[str, object]:
    """Return one output."""
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def read(*outputs: object) -> Prediction:
    """Return what the adapter reads of an answer with these outputs."""
    return ADAPTER.read_answer(answer(*outputs))


def variant(**parts: Any) -> Variant:  # noqa: ANN401 - any field of a Variant
    """Return a variant with these fields."""
    return Variant("v2", (Backend("127.0.0.1", 9001),), **parts)


LABEL = tensor("label", [1], [7], "INT64")
VECTOR = (0.1, 0.7, 0.2)
SCORES = tensor("probabilities", [1, 3], list(VECTOR))

MLSERVER = (
    b'{"model_name":"digits","model_version":"v1","id":"r1","parameters":{},"outputs":[{"name":"predict","shape":[2,1],'
    b'"datatype":"INT64","parameters":{"content_type":"np"},"data":[7,8]},{"name":"predict_proba","shape":[2,2],'
    b'"datatype":"FP64","parameters":{"content_type":"np"},"data":[0.1,0.9,0.25,0.75]}]}'
)
"""As MLServer 1.7.1 answers for a classifier of scikit-learn asked for both outputs, with two classes of its ten."""

EXAMPLES = [
    AdapterExample(
        request(id="r-1"),
        answer(LABEL, SCORES),
        InferenceRequest("digits", None, "r-1", 1),
        Prediction(("7",), (0.7,), (VECTOR,)),
    ),
    AdapterExample(
        request("/v2/models/my%20model/versions/3/infer?trace=1"),
        RawAnswer(200, JSON, MLSERVER),
        InferenceRequest("my model", "3", None, 1),
        Prediction(("7", "8"), (0.9, 0.75), ((0.1, 0.9), (0.25, 0.75))),
    ),
    AdapterExample(
        RawRequest("GET", "/v2/models/digits/ready", (), b""),
        answer(tensor("class", [2], ["cat", "dog"], "BYTES"), tensor("score", [2, 1], [0.9, 0.8])),
        InferenceRequest("digits"),
        Prediction(("cat", "dog"), (0.9, 0.8)),
    ),
]


def test_the_adapter_keeps_the_contract_it_shares_with_strangers() -> None:
    """`check_adapter` is what an author of a plug-in runs too."""
    check_adapter(ADAPTER, EXAMPLES)


@pytest.mark.parametrize(
    ("outputs", "prediction"),
    [
        ([LABEL], Prediction(("7",))),
        ([SCORES, LABEL], Prediction(("7",), (0.7,), (VECTOR,))),
        ([tensor("other", [1], [1], "INT64"), LABEL], Prediction(("7",))),
        ([tensor("first", [1], [1], "INT64"), tensor("second", [1], [2], "INT64")], Prediction(("1",))),
        ([SCORES], Prediction((), (0.7,), (VECTOR,))),
        ([LABEL, tensor("score", [1], [0.9]), SCORES], Prediction(("7",), (0.9,))),
        ([LABEL, tensor("scores", [1], [3], "INT64")], Prediction(("7",), (3.0,))),
        ([], Prediction()),
        ([tensor("label", [0], [], "INT64")], Prediction()),
        ([tensor("label", [], [7], "INT64")], Prediction(("7",))),
    ],
    ids=[
        "label",
        "by name",
        "label beats first",
        "first",
        "scores alone",
        "first scores",
        "integer scores",
        "none",
        "no rows",
        "scalar",
    ],
)
def test_label_and_scores_are_found_by_the_documented_rule(outputs: list[object], prediction: Prediction) -> None:
    """The output named `label`, else the first that holds no scores; scores by their name."""
    assert read(*outputs) == prediction


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (7.0, "7"),
        ("7", "7"),
        (2**63, "9223372036854775808"),
        (-3, "-3"),
        (0.1 + 0.2, "0.3"),
        (1 / 3, "0.333333"),
        (-0.0, "0"),
        (1e300, "1e+300"),
        (True, "true"),
        (False, "false"),
        ("Größe", "Größe"),
        ("", ""),
    ],
    ids=repr,
)
def test_a_label_is_a_text_by_its_value(value: object, text: str) -> None:
    """Servers disagree on datatypes: 7, 7.0 and "7" are one label; floats have six significant digits."""
    assert read(tensor("label", [1], [value])).labels == (text,)


@pytest.mark.parametrize(
    ("shape", "data", "labels"),
    [
        ([3], [1, 2, 3], ("1", "2", "3")),
        ([3, 1], [1, 2, 3], ("1", "2", "3")),
        ([3, 1], [[1], [2], [3]], ("1", "2", "3")),
        ([2, 2], [1, 2, 3, 4], ("1,2", "3,4")),
        ([2, 2], [[1, 2], [3, 4]], ("1,2", "3,4")),
        ([2, 1, 2], [[[1, 2]], [[3, 4]]], ("1,2", "3,4")),
        ([2, 1, 2], [[1, 2], [3, 4]], ("1,2", "3,4")),
        ([1, 3], ["a", "b", "c"], ("a,b,c",)),
    ],
)
def test_a_batch_has_one_label_for_each_row(shape: list[int], data: list[Any], labels: tuple[str, ...]) -> None:
    """Data may be flat or nested; several elements of a row make one label."""
    assert read(tensor("label", shape, data)).labels == labels


def test_the_score_of_a_row_is_its_largest_element_and_its_vector_are_all() -> None:
    """Row by row, also when nested; one number a row is no vector."""
    found = read(tensor("scores", [2, 2], [[0.1, 0.9], [0.6, 0.4]]))
    assert (found.scores, found.vectors) == ((0.9, 0.6), ((0.1, 0.9), (0.6, 0.4)))
    assert read(tensor("predict_proba", [2, 1], [0.9, 0.6])).vectors == ()


def test_a_long_label_is_cut_and_still_tells_two_texts_apart() -> None:
    """At most 64 bytes, whole characters, and a digest of all of it at the end."""
    one, other = ("ß" * 40 + end for end in "ab")
    labels = read(tensor("label", [2], [one, other], "BYTES")).labels
    assert labels[0] != labels[1]
    for label in labels:
        assert len(label.encode()) <= PREDICTION_BYTES
        assert label.startswith("ß" * 23 + "~")
    assert read(tensor("label", [1], ["x" * 64], "BYTES")).labels == ("x" * 64,)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ({"name": "label", "shape": [1], "datatype": "INT64"}, "expected `data`"),
        (tensor("label", [2], [1]), "found 1 elements"),
        (tensor("label", [1], [1, 2]), "found 2 elements"),
        ({"name": "label", "data": [1]}, "expected `shape`"),
        (tensor("label", [-1], []), "sizes from 0 up"),
        ({"name": "label", "shape": [1.0], "data": [1]}, "sizes from 0 up"),
        ({"name": "label", "shape": [True], "data": [1]}, "sizes from 0 up"),
        (tensor("label", [1] * 33, [1]), "at most 32 sizes"),
        (tensor("label", [10**12, 0], []), "at least one element in each row"),
        (tensor("label", [1, 0], []), "at least one element in each row"),
        (tensor("label", [2, 2], [[1, 2, 3], [4]]), "rows of one length"),
        (tensor("label", [2], [[1], 2]), "rows of one length"),
        (tensor("label", [1], [None]), "texts, numbers or booleans"),
        (tensor("label", [1], [{"a": 1}]), "texts, numbers or booleans"),
        (tensor("scores", [1], [None]), "expected numbers"),
        (tensor("scores", [1], ["0.9"]), "expected numbers"),
        (tensor("scores", [1], [True]), "expected numbers"),
        (tensor("scores", [1, 0], []), "at least one element in each row"),
        ("label", "each output to be an object"),
    ],
)
def test_an_odd_tensor_is_unreadable(output: object, reason: str) -> None:
    """Nothing is guessed: the reason says what was expected."""
    with pytest.raises(UnreadableError, match=reason):
        read(output)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"outputs":{}}',
        b"{}",
        b'{"outputs":[{"shape":[1],"data":[1e999]}]}',
        b"\x1f\x8b\x08",
    ],
)
def test_an_answer_that_is_none_is_unreadable(body: bytes) -> None:
    """An empty, cut or compressed body too: answers are never inflated."""
    with pytest.raises(UnreadableError):
        ADAPTER.read_answer(RawAnswer(200, JSON, body))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (request(), InferenceRequest("digits", None, None, 1)),
        (request("/team/v2/models/digits/versions/1.2/infer"), InferenceRequest("digits", "1.2", None, 1)),
        (request(id="abc", inputs=[{"shape": [32, 64]}]), InferenceRequest("digits", None, "abc", 32)),
        (request(id=7), InferenceRequest("digits", None, None, 1)),
        (RawRequest("GET", "/v2/models/digits", (), b""), InferenceRequest("digits")),
    ],
    ids=["plain", "version", "id and rows", "an id that is no text", "metadata"],
)
def test_a_request_tells_its_model_version_id_and_rows(raw: RawRequest, expected: InferenceRequest) -> None:
    """Model and version from the path, the rest from the body."""
    assert ADAPTER.read_request(raw) == expected


@pytest.mark.parametrize(
    "raw",
    [
        request("/v2/health/ready"),
        request("/invocations?x=/v2/models/digits/infer"),
        request(inputs=[]),
        request(inputs=[{"shape": "no"}]),
        replace(request(), body=b"not json"),
    ],
)
def test_a_request_of_another_protocol_is_unreadable(raw: RawRequest) -> None:
    """Wrong paths and wrong bodies."""
    with pytest.raises(UnreadableError):
        ADAPTER.read_request(raw)


@pytest.mark.parametrize(
    ("target", "to", "expected"),
    [
        ("/v2/models/digits/infer", {"model": "digits-v2"}, "/v2/models/digits-v2/infer"),
        ("/v2/models/digits/infer?a=/v2/models/x/", {"model": "d2"}, "/v2/models/d2/infer?a=/v2/models/x/"),
        ("/v2/models/digits/versions/1/infer", {"model": "d2"}, "/v2/models/d2/versions/1/infer"),
        ("/team/v2/models/models/infer", {"model": "d2"}, "/team/v2/models/d2/infer"),
        ("/v2/models/my%20model/infer", {"model": "a b/c?"}, "/v2/models/a%20b%2Fc%3F/infer"),
        ("/v2/models/digits/infer?a=1", {"path": "/v2/models/other/infer"}, "/v2/models/other/infer?a=1"),
        ("/anything", {"path": "/v2/models/other/infer"}, "/v2/models/other/infer"),
        ("/v2/models/digits/infer", {}, "/v2/models/digits/infer"),
    ],
)
def test_retarget_changes_the_model_or_the_path_and_nothing_else(
    target: str, to: dict[str, str], expected: str
) -> None:
    """Query, header fields and body stay byte for byte."""
    raw = request(target, id="keep", model_name="digits")
    assert ADAPTER.retarget(raw, variant(**to)) == replace(raw, target=expected)


@pytest.mark.parametrize(
    ("target", "to", "expected"),
    [
        ("/v2/models/digits/ready", {"model": "d2"}, "/v2/models/d2/ready"),
        ("/v2/health/ready", {"model": "d2"}, "/v2/health/ready"),
        ("/v2/models/digits/ready", {"path": "/infer"}, "/v2/models/digits/ready"),
    ],
)
def test_a_get_goes_to_the_same_model_and_never_to_the_inference_path(
    target: str, to: dict[str, str], expected: str
) -> None:
    """Health and metadata name a model, or none at all."""
    assert ADAPTER.retarget(RawRequest("GET", target, (), b""), variant(**to)).target == expected


def test_a_post_without_a_model_cannot_be_sent_to_another_one() -> None:
    """It is unreadable rather than sent to a model that nobody chose."""
    with pytest.raises(UnreadableError, match="names no model to replace"):
        ADAPTER.retarget(request("/v2/repository/index"), variant(model="d2"))


def test_a_variant_with_both_model_and_path_is_refused_at_start() -> None:
    """The path names the model already."""
    ADAPTER.check_variant(variant(model="d2"))
    ADAPTER.check_variant(variant(path="/x"))
    with pytest.raises(ConfigError, match="either `model` or `path`"):
        ADAPTER.check_variant(variant(model="d2", path="/x"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["label", "scores", "x"]) | json_values,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | json_values,
        "data": st.lists(json_values, max_size=9) | json_values,
        "datatype": st.sampled_from(["INT64", "FP32", "BYTES"]) | json_values,
    },
)
targets = st.text() | st.from_regex(r"(/v2|/models|/[a-z%?]{0,3}|/versions|/infer)*")
bodies = (
    st.binary(max_size=200)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries(
        {}, optional={"outputs": st.lists(tensors, max_size=3) | json_values, "id": json_values}
    ).map(lambda value: json.dumps(value).encode())
)


def refusal(act: Callable[[], object]) -> str:
    """Return the reason why something is unreadable, or nothing; any other error goes through."""
    try:
        act()
    except UnreadableError as error:
        return str(error)
    return ""


@given(bodies)
@LAWS
def test_whatever_the_bytes_an_answer_is_read_or_unreadable(body: bytes) -> None:
    """No other error leaves the adapter, and what it reads is within its bounds."""
    raw = RawAnswer(200, JSON, body)
    reason = refusal(lambda: ADAPTER.read_answer(raw))
    assert len(reason) <= 300
    if not reason:
        assert all(len(label.encode()) <= PREDICTION_BYTES for label in ADAPTER.read_answer(raw).labels)


@given(targets, st.sampled_from(["GET", "POST"]), bodies)
@LAWS
def test_whatever_the_bytes_a_request_is_read_or_unreadable(target: str, method: str, body: bytes) -> None:
    """Nor when it is readdressed."""
    raw = RawRequest(method, target, (), body)
    assert len(refusal(lambda: ADAPTER.read_request(raw))) <= 300
    assert len(refusal(lambda: ADAPTER.retarget(raw, variant(model="m/2")))) <= 300
    assert len(refusal(lambda: ADAPTER.retarget(raw, variant(path="/p")))) <= 300


wide_integers = st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1, max_size=5)


@given(wide_integers)
@LAWS
def test_integer_labels_are_exact(values: list[int]) -> None:
    """Every integer of 64 bits is read back digit by digit, one for each row."""
    labels = read(tensor("label", [len(values)], values, "INT64")).labels
    assert [int(label) for label in labels] == values
