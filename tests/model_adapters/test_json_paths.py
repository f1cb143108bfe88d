"""The JSON adapter: paths that are refused at start, and what the others read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_adapters.json_paths import JsonPaths
from router.core.errors import ConfigError, UnreadableError
from router.core.inference import InferenceRequest, Prediction
from router.testing.adapter_contract import AdapterExample, check_adapter
from tests.model_adapters.wire import post, said

ONE = JsonPaths().configured({"label": "$.result.label", "confidence": "$['result'].p", "features": "$.rows"})
BATCH = JsonPaths().configured({"label": "$.rows[*].label", "score": "$.rows[*].score"})


@pytest.mark.parametrize(
    ("adapter", "example"),
    [
        (
            ONE,
            AdapterExample(
                post("/predict", {"rows": [[1], [2]]}),
                said({"result": {"label": "spam", "p": 0.9}}),
                InferenceRequest(rows=2),
                Prediction(("spam",), (0.9,)),
            ),
        ),
        (
            BATCH,
            AdapterExample(
                post("/predict", b"any"),
                said({"rows": [{"label": 1, "score": -3}, {"label": 2.0, "score": 7.5}]}),
                InferenceRequest(),
                Prediction(("1", "2"), (-3.0, 7.5)),
            ),
        ),
    ],
    ids=["one", "batch"],
)
def test_the_adapter_keeps_the_contract_it_shares_with_strangers(adapter: JsonPaths, example: AdapterExample) -> None:
    """With paths to one place, and to several."""
    check_adapter(adapter, [example])


@pytest.mark.parametrize(
    ("options", "field", "expected"),
    [
        ({}, "label", "a path to the label"),
        ({"confidence": "$.p"}, "label", "a path to the label"),
        ({"lable": "$.x"}, "lable", "known: confidence, features, label, score"),
        ({"label": "result.label"}, "label", "an RFC 9535 path"),
        ({"label": "$.a["}, "label", "an RFC 9535 path"),
        ({"label": 7}, "label", "an RFC 9535 path"),
        ({"label": ""}, "label", "an RFC 9535 path"),
        ({"label": "$" + ".a" * 200}, "label", "at most 256 characters"),
        ({"label": "$" + "[?(" * 60}, "label", "an RFC 9535 path"),
        ({"label": "$..a..b"}, "label", "at most once"),
        ({"label": "$.a[?search(@.b, '(a+)+$')]"}, "label", "an RFC 9535 path"),
        ({"label": "$.a", "score": "$.b", "confidence": "$.c"}, "confidence", "either"),
    ],
)
def test_a_path_that_cannot_be_used_is_refused_at_start(options: dict[str, object], field: str, expected: str) -> None:
    """The error names the option and says what would do."""
    with pytest.raises(ConfigError, match=expected) as caught:
        JsonPaths().configured(options)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        ("$", ("a,b",)),
        ("$[0]", ("a",)),
        ("$[-1]", ("b",)),
        ("$[*]", ("a", "b")),
        ("$[0,1]", ("a", "b")),
        ("$[?@ == 'b']", ("b",)),
        ("$..[0]", ("a",)),
    ],
)
def test_a_path_to_one_place_is_one_row_and_others_one_for_each(path: str, labels: tuple[str, ...]) -> None:
    """A list in one place is one label."""
    assert JsonPaths().configured({"label": path}).read_answer(said(["a", "b"])).labels == labels


@pytest.mark.parametrize(
    ("adapter", "answer"),
    [
        (ONE, {"result": {"p": 0.9}}),
        (ONE, {"result": {"label": "a"}}),
        (ONE, {"result": {"label": "a", "p": 90}}),
        (ONE, {"result": {"label": "a", "p": "0.9"}}),
        (ONE, {"result": {"label": None, "p": 0.9}}),
        (ONE, {"result": {"label": {}, "p": 0.9}}),
        (ONE, {"result": "label"}),
        (ONE, "text"),
        (BATCH, {"rows": [{"label": "a"}]}),
        (BATCH, {"rows": []}),
        (BATCH, '{"rows": [{"label": "a", "score": 1}]}'),
        (JsonPaths().configured({"label": "$..a"}), b"[" * 500 + b"]" * 500),
        (JsonPaths().configured({"label": "$[*]"}), [1] * 10_001),
        (JsonPaths().configured({"label": "$[?count(@) == 1]"}), [1]),
        (JsonPaths(), {}),
    ],
)
def test_what_does_not_stand_at_its_path_is_unreadable(adapter: JsonPaths, answer: object) -> None:
    """Nothing is guessed."""
    with pytest.raises(UnreadableError):
        adapter.read_answer(said(answer))


DEEP = b"[" * 95 + b"1" + b"]" * 95
EMPTY: list[int] = []
BUSHY = [[[EMPTY] * 20] * 20] * 4


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("$" + "[*,*]" * 40 + ".x", DEEP),
        ("$..[*,*][*,*][*,*][*,*].x", BUSHY),
        ("$..[?@..a]", DEEP),
        ("$..[?count(@..*) > 1]", BUSHY),
        ("$[*][?count($..*) < 0]", [[1]] * 800),
    ],
    ids=["doubling", "doubling below", "descents in a filter", "counting below", "counting all"],
)
def test_a_path_that_visits_an_answer_too_often_is_given_up_with_a_reason(path: str, answer: object) -> None:
    """2 to the power of 40 visits for one, the square of the answer for others: none takes more than a moment."""
    with pytest.raises(UnreadableError, match="the path of `label` takes too much work here"):
        JsonPaths().configured({"label": path}).read_answer(said(answer))


@pytest.mark.parametrize(
    "path", ["$..a", "$..[?@.a == 1].a", "$.rows[?@.b[0] == 2].a", "$.rows[?count(@.b[*]) == 2].a"]
)
@pytest.mark.parametrize("rows", [1, 5_000])
def test_a_path_that_visits_an_answer_a_few_times_is_followed_to_its_end(path: str, rows: int) -> None:
    """However long the answer: what is bounded is the work for each value of it."""
    answer = {"rows": [{"a": 1, "b": [2, 3]}] * rows}
    assert JsonPaths().configured({"label": path}).read_answer(said(answer)).labels == ("1",) * rows


def test_a_list_where_a_path_leads_is_read_as_the_list_that_it_is() -> None:
    """What counts the visits of a filter is gone from what it finds."""
    adapter = JsonPaths().configured({"label": "$.rows[?@.a].b", "features": "$..x"})
    answer = {"rows": [{"a": 1, "b": [[0.25, 0.75]]}, {"a": 1, "b": ["x", {"y": [1]}]}]}
    assert adapter.read_answer(said(answer)).labels == ("1", '["x",{"y":[1]}]')
    assert adapter.read_request(post("/", {"x": [1, 2, 3]})) == InferenceRequest(rows=3)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(alphabet="$.[]*?@'ab01-,:&|=()\"\\ ", max_size=20))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    """Only ConfigError is raised at start, and only UnreadableError of an answer."""
    try:
        adapter = JsonPaths().configured({"label": "$" + text})
    except ConfigError:
        return
    try:
        adapter.read_answer(said({"a": [{"b": 1}, 2], "b": "x"}))
    except UnreadableError:
        return


@pytest.mark.parametrize(
    ("path", "read_on_the_loop"),
    [("$.label", True), ("$.rows[*].label", True), ("$..label", False), ("$.rows[?@.best].label", False)],
)
def test_only_paths_that_go_down_step_by_step_are_followed_on_an_event_loop(
    path: str, *, read_on_the_loop: bool
) -> None:
    """One that filters or searches takes up to 105 ms in a hostile answer: its pairs go to the comparing process."""
    assert JsonPaths().configured({"label": path, "features": "$.x"}).loop_bytes == (4_096 if read_on_the_loop else 0)
