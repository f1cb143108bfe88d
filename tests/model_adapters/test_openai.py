"""The OpenAI adapter: whole answers, streams cut anywhere, and the model in the body."""

import base64
import random
import struct
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_adapters.event_stream import EVENT_BYTES, EventStream
from model_adapters.openai import TEXT_CHARS, OpenAI
from router.core.errors import UnreadableError
from router.core.inference import Generated, InferenceRequest, Prediction, RawAnswer, StreamEvent
from router.core.ports import StreamReader
from router.testing.adapter_contract import AdapterExample, check_adapter
from tests.model_adapters.wire import get, post, said, variant

ADAPTER = OpenAI()
SSE = "text/event-stream; charset=utf-8"
HEAD = RawAnswer(200, (("content-type", SSE),), b"")
LAWS = settings(max_examples=200, deadline=None, derandomize=True)


def chunk(delta: dict[str, Any], finish: str | None = None, **more: object) -> dict[str, object]:
    """Return one part of a streamed chat."""
    return {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }


def events(*parts: object, end: bytes = b"\n") -> bytes:
    """Return parts as server-sent events."""
    lines = [b"data: " + (part if isinstance(part, bytes) else orjson.dumps(part)) for part in parts]
    return b"".join([line + end + end for line in lines])


CHAT = events(
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Hello"}),
    chunk({"content": " world"}),
    chunk({}, "stop"),
    {"choices": [], "usage": {"completion_tokens": 2}},
    b"[DONE]",
)
SAID = Prediction(("Hello world",), generated=Generated(("Hello world",), ("stop",), 2))
LITSERVE = (
    b'data: {"id":"chatcmpl-e39da6","object":"chat.completion.chunk","created":1795620032,"model":"parrot",'
    b'"system_fingerprint":null,"choices":[{"delta":{"role":"assistant","content":"two ","name":null,"tool_calls":null,'
    b'"tool_call_id":null},"finish_reason":null,"index":0,"logprobs":null}],"usage":null}\n\n'
    b'data: {"id":"chatcmpl-71119e","object":"chat.completion.chunk","created":1795620032,"model":"parrot",'
    b'"system_fingerprint":null,"choices":[{"delta":{"role":null,"content":null,"name":null,"tool_calls":null,'
    b'"tool_call_id":null},"finish_reason":"stop","index":0,"logprobs":null}],"usage":{"prompt_tokens":0,'
    b'"total_tokens":0,"completion_tokens":0}}\n\ndata: [DONE]\n\n'
)
"""As LitServe 0.2.19 streams: a new id with every event, nulls for what there is not, and no tokens counted."""

LITSERVE_WHOLE = (
    b'{"id":"chatcmpl-61b2ad","object":"chat.completion","created":1795620032,"model":"parrot","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"two three ","name":null,"tool_calls":null,"tool_call_id":null},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":0,"total_tokens":0,"completion_tokens":0}}'
)

LITELLM = (
    b'data: {"id":"chatcmpl-37b0d400","object":"chat.completion.chunk","created":1795621565,"model":"parrot-v2",'
    b'"choices":[{"index":0,"delta":{"role":"assistant","content":"The"}}]}\n\n'
    b'data: {"id":"chatcmpl-37b0d400","object":"chat.completion.chunk","created":1795621565,"model":"parrot-v2",'
    b'"choices":[{"index":0,"delta":{"content":" an"}}]}\n\n'
    b'data: {"id":"chatcmpl-37b0d400","object":"chat.completion.chunk","created":1795621565,"model":"parrot-v2",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
"""As LiteLLM 1.106.2 streams: members that are null are left out, also `usage`."""

RESPONSE = {
    "object": "response",
    "status": "completed",
    "output": [
        {"type": "reasoning", "summary": []},
        {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]},
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "x"},
    ],
    "usage": {"output_tokens": 3},
}
EXAMPLES = [
    AdapterExample(
        post("/v1/chat/completions", {"model": "gpt", "messages": [{"role": "user", "content": "model"}]}),
        said({
            "choices": [{"index": 0, "message": {"content": "Hello world"}, "finish_reason": "stop"}],
            "usage": {"completion_tokens": 2},
        }),
        InferenceRequest("gpt", rows=1),
        SAID,
    ),
    AdapterExample(
        post("/v1/chat/completions", {"stream": True, "model": "gpt"}),
        said(CHAT, SSE),
        InferenceRequest("gpt", rows=1),
        SAID,
    ),
    AdapterExample(
        post("/v1/chat/completions", {"stream": True, "model": "parrot"}),
        said(LITSERVE, SSE),
        InferenceRequest("parrot", rows=1),
        Prediction(("two ",), generated=Generated(("two ",), ("stop",), 0)),
    ),
    AdapterExample(
        post("/v1/chat/completions", {"model": "parrot"}),
        said(LITSERVE_WHOLE),
        InferenceRequest("parrot", rows=1),
        Prediction(("two three ",), generated=Generated(("two three ",), ("stop",), 0)),
    ),
    AdapterExample(
        post("/v1/chat/completions", {"stream": True, "model": "parrot-v2"}),
        said(LITELLM, SSE),
        InferenceRequest("parrot-v2", rows=1),
        Prediction(("The an",), generated=Generated(("The an",), ("stop",))),
    ),
    AdapterExample(
        post("/v1/embeddings", {"model": "e", "input": ["a", "b"]}),
        said({"data": [
            {"embedding": [0.5, -1]}, {"embedding": base64.b64encode(struct.pack("<2f", 0.5, 2.0)).decode()},
        ]}),
        InferenceRequest("e", rows=2),
        Prediction(vectors=((0.5, -1.0), (0.5, 2.0))),
    ),
    AdapterExample(
        post("/v1/responses", {"model": "r", "input": "hi"}),
        said(RESPONSE),
        InferenceRequest("r", rows=1),
        Prediction(("Hi\nf({})",), generated=Generated(("Hi\nf({})",), ("completed",), 3)),
    ),
    AdapterExample(
        post("/v1/completions", {"model": "c", "prompt": ["a", "b"], "n": 1}),
        said({"choices": [{"text": "x", "finish_reason": "length"}, {"text": "y", "finish_reason": "stop"}]}),
        InferenceRequest("c", rows=2),
        Prediction(("x", "y"), generated=Generated(("x", "y"), ("length", "stop"))),
    ),
]  # fmt: skip


def test_the_adapter_keeps_the_contract_it_shares_with_strangers() -> None:
    """`check_adapter` over recorded examples, and over what is left of them when they are damaged."""
    check_adapter(ADAPTER, EXAMPLES)


def read(pieces: list[bytes]) -> tuple[list[StreamEvent], Prediction]:
    """Return the events and the end of a stream fed in pieces."""
    stream = ADAPTER.open_stream(HEAD)
    assert stream is not None
    found = [event for piece in pieces for event in stream.feed(piece)]
    return found, stream.end()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=repr)
def test_a_stream_cut_anywhere_reads_the_same(end: bytes) -> None:
    """Byte by byte, whole, and at 200 random pairs of places; comments and other fields mean nothing."""
    body = b"\xef\xbb\xbf: hello" + end + b"id: 1" + end + CHAT.replace(b"\n", end)
    expected = ([StreamEvent("Hello"), StreamEvent(" world"), StreamEvent("", "stop")], SAID)
    assert read([body]) == expected
    assert read([bytes([byte]) for byte in body]) == expected
    drawn = random.Random(7)
    for _ in range(200):
        one, two = sorted(drawn.choices(range(len(body) + 1), k=2))
        assert read([body[:one], body[one:two], body[two:]]) == expected


def test_a_long_stream_of_short_tokens_holds_its_text_and_little_more() -> None:
    """A piece of a few letters takes ten times its length: so pieces are joined, and `held_bytes` says what is held."""
    stream = ADAPTER.open_stream(HEAD)
    assert stream is not None
    part = events(*[chunk({"content": "abcd"})] * 1_000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(65):
            stream.feed(part)
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert stream.held_bytes == 260_000
    assert 260_000 <= held <= 320_000
    assert not stream.feed(events(chunk({"content": "a" * (TEXT_CHARS - 260_000 + 1)})))
    assert stream.held_bytes <= TEXT_CHARS + 1


def test_data_of_several_lines_is_one_event() -> None:
    """Its lines are joined by LF; an event without its blank line is none."""
    stream = EventStream()
    found = stream.feed(b"event: x\ndata: a\ndata\ndata:b\n\ndata: cut")
    assert [(event.kind, event.data) for event in found] == [(b"x", b"a\n\nb")]


def test_a_call_of_a_function_is_what_the_model_wrote() -> None:
    """Its pieces are joined in both forms; ids, drawn anew each time, are left out."""
    first = {"tool_calls": [{"index": 0, "id": "call_9", "function": {"name": "f", "arguments": '{"a"'}}]}
    rest = {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}
    whole = {"tool_calls": [{"id": "call_1", "function": {"name": "f", "arguments": '{"a":1}'}}], "content": None}
    _, streamed = read([events(chunk(first), chunk(rest), chunk({}, "tool_calls"))])
    assert streamed == ADAPTER.read_answer(said({"choices": [{"message": whole, "finish_reason": "tool_calls"}]}))
    assert streamed.labels == ('f({"a":1})',)


def test_the_last_event_of_a_response_is_the_whole_of_it() -> None:
    """Its deltas tell when the first token came."""
    body = events(
        {"type": "response.output_text.delta", "delta": "Hi"}, {"type": "response.completed", "response": RESPONSE}
    )
    found, prediction = read([body])
    assert found == [StreamEvent("Hi"), StreamEvent("", "completed")]
    assert prediction == ADAPTER.read_answer(said(RESPONSE))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (CHAT[:60], "ended before it was complete"),
        (events(chunk({"content": "Hel"})), "ended before it was complete"),
        (events(chunk({"content": "Hel"}), {"error": {"message": "secret"}}), "ended in an error"),
        (events({"type": "response.failed"}), "ended in an error"),
        # As LitServe 0.2.19 ends when its model fails: with status 200, and without an empty line.
        (events(chunk({"content": "Hel"})) + b'data: {"error": {"code": "internal_error"}}', "before it was complete"),
        (events(b"{nonsense"), "not JSON"),
        (events(b"[DONE]"), "at least one choice"),
        (events(chunk({"content": ["a"]})), "expected a text"),
        (b"data: " + b"x" * (EVENT_BYTES + 1), "longer than 64 KiB"),
        (b"data\n" * 20_000, "too many lines"),
        (events(*[chunk({"content": "x" * 2**15})] * (TEXT_CHARS // 2**15 + 1)), "the text is longer"),
        (events({"choices": [{"index": 10**9, "delta": {}}]}), "an index from 0 to 127"),
    ],
)  # fmt: skip
def test_a_stream_that_cannot_be_read_says_why_at_its_end(body: bytes, reason: str) -> None:
    """A cut one never looks like a short answer; the message of an error is not repeated."""
    with pytest.raises(UnreadableError, match=reason) as caught:
        read([body])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"message": "x"}},
        {"choices": [{"message": {"content": [{"type": "text", "text": "x"}]}}]},
        {"choices": [{"message": {"content": None, "audio": {"id": "1"}}}]},
        {"choices": "x"},
        {"choices": [{}]},
        {"data": [{"embedding": []}]},
        {"data": [{"embedding": "AAAA"}]},
        {"data": [{"embedding": [True]}]},
        {"output": []},
        {"object": "list"},
    ],
)
def test_an_answer_that_cannot_be_read_is_never_an_empty_label(answer: object) -> None:
    """Two answers in forms that are not known would match silently."""
    with pytest.raises(UnreadableError):
        ADAPTER.read_answer(said(answer))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a","messages":[{"model":"a"}]}', b'{"model":"b\\"c","messages":[{"model":"a"}]}'),
        (b'{ "x": {"model":"a"}, "model" : "a" , "y":[1.5]}', b'{ "x": {"model":"a"}, "model" : "b\\"c" , "y":[1.5]}'),
        (b'{"mo\\u0064el":"a","y":"\\"model\\":{"}', b'{"mo\\u0064el":"b\\"c","y":"\\"model\\":{"}'),
        (b'{"y":"model","model":"a"}', b'{"y":"model","model":"b\\"c"}'),
    ],
)  # fmt: skip
def test_retarget_changes_the_model_in_the_body_and_no_other_byte(body: bytes, expected: bytes) -> None:
    """Only the member of the request itself, however it is written."""
    sent = ADAPTER.retarget(post("/v1/chat/completions?x=1", body), variant(model='b"c', path="/openai/chat"))
    assert (sent.target, sent.body) == ("/openai/chat?x=1", expected)


@pytest.mark.parametrize("body", [b'{"model":"a","model":"b"}', b'{"model":1}', b"{}", b"", b"--boundary"])
def test_a_body_that_names_no_one_model_is_not_sent_elsewhere(body: bytes) -> None:
    """A model that nobody chose would answer."""
    with pytest.raises(UnreadableError):
        ADAPTER.retarget(post("/v1/chat/completions", body), variant(model="b"))


def test_what_has_no_body_stays_as_it_is() -> None:
    """The list of models, for instance."""
    assert ADAPTER.retarget(get("/v1/models"), variant(model="b", path="/x")) == get("/v1/models")


def test_only_event_streams_are_read_as_such() -> None:
    """Not JSON, and nothing that is compressed."""
    assert isinstance(ADAPTER, StreamReader)
    assert ADAPTER.open_stream(said(b"")) is None
    assert ADAPTER.open_stream(RawAnswer(200, (*HEAD.headers, ("content-encoding", "gzip")), b"")) is None


@LAWS
@given(st.lists(st.binary(max_size=30) | st.sampled_from([CHAT[:90], b"\n\n", b"data: {}\n\n", b"data: [DONE]\r\r"])))
def test_any_bytes_are_read_or_refused(pieces: list[bytes]) -> None:
    """`feed` never raises, `end` only UnreadableError; and pieces read as their sum does."""
    results: list[object] = []
    for fed in (pieces, [b"".join(pieces)]):
        try:
            results.append(read(fed)[1])
        except UnreadableError as error:
            results.append(str(error))
    assert results[0] == results[1]
