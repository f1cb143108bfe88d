"""OpenAI-compatible servers: chat, completions, embeddings and responses, also streamed as server-sent events.

- Each choice is a row; its label is what the model wrote, ending in a digest where it is long. Calls of functions are
  written behind the text as `name(arguments)`; their ids are left out, since they are drawn anew for each answer.
- Embeddings have vectors and no labels: compare them by `cosine`.
- A stream is complete with `[DONE]`, or once every choice has said why it ended, or with the event that ends a
  response. One that ends before, or in an error, is unreadable.
"""

import struct
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from model_adapters.addressing import check_no_names, to_path
from model_adapters.event_stream import EventStream, SentEvent
from model_adapters.json_bodies import object_of, with_member
from router.core.errors import UnreadableError
from router.core.inference import (
    Generated,
    InferenceRequest,
    Prediction,
    RawAnswer,
    RawRequest,
    StreamEvent,
    kept_label,
)
from router.core.traffic import Variant

TEXT_CHARS = 2**18
"""Most characters that are kept of a streamed answer, all choices together. A digest of so many takes 1 ms at worst;
a long book chapter is a third."""

_PARTS = 256
"""From how many pieces on a text is joined: a piece of a few letters takes ten times its length."""

PIECES = 128
"""Most choices of an answer, and most calls of one choice: OpenAI's own limit for `n`."""

_EVENT_STREAM = "text/event-stream"
_NOTHING = StreamEvent()


class OpenAI:
    """Reads `POST .../v1/{chat/completions,completions,embeddings,responses}`; the model is named in the body."""

    name = "openai"
    # Not by itself: responses are stored on the server unless a request says otherwise, other POSTs have effects, and
    # every copy costs what the request did.
    mirror_safe = False
    comparator = "label"

    def read_request(self, raw: RawRequest) -> InferenceRequest:
        """Return the model, and as rows how many inputs or prompts there are."""
        if raw.method != "POST":
            return InferenceRequest()
        body = object_of(raw.body, "request")
        model = body.get("model")
        if not isinstance(model, str):
            raise UnreadableError("request: expected `model`, a text")
        inputs = body.get("input", body.get("prompt"))
        several = isinstance(inputs, list) and bool(inputs) and all(isinstance(one, (str, list)) for one in inputs)
        return InferenceRequest(model, rows=len(inputs) if several and inputs else 1)

    def read_answer(self, raw: RawAnswer) -> Prediction:
        """Return labels and texts, or vectors, of a whole answer, a kept stream as well."""
        if raw.body[:1] != b"{" and _is_stream(raw):
            stream = Reading()
            stream.feed(raw.body)
            return stream.end()
        return _whole(object_of(raw.body, "answer"))

    def open_stream(self, head: RawAnswer) -> "Reading | None":
        """Return a reader of server-sent events, None for another media type or a compressed one."""
        return Reading() if _is_stream(head) else None

    def check_variant(self, variant: Variant) -> None:
        """Raise ConfigError when the variant asks for a `version`; called once at start."""
        check_no_names(variant, self.name, "version")

    def retarget(self, raw: RawRequest, variant: Variant) -> RawRequest:
        """Return `raw` with the variant's `model` in its body and sent to its `path`; all other bytes stay.

        Requests without a body (the list of models) stay as they are. Raises UnreadableError for a POST whose body
        names no model to replace.
        """
        if variant.version is not None:
            raise UnreadableError("the openai adapter cannot write a version into a request")
        sent = to_path(raw, variant)
        if variant.model is None or raw.method != "POST":
            return sent
        return replace(sent, body=with_member(raw.body, "model", variant.model))


class Reading:
    """Reads one stream while it passes; see AnswerStream."""

    __slots__ = ("_chars", "_choices", "_done", "_events", "_response", "_tokens", "_why")

    def __init__(self) -> None:
        self._events = EventStream()
        self._choices: dict[int, _Choice] = {}
        self._response: Prediction | None = None
        self._tokens: int | None = None
        self._chars = 0
        self._done = False
        self._why = ""

    @property
    def held_bytes(self) -> int:
        """What it holds, about: text, most of it in letters of one byte, and the event that is not complete."""
        return self._chars + self._events.held_bytes

    def feed(self, data: bytes) -> Sequence[StreamEvent]:
        """Return what these bytes completed."""
        if self._why:
            return ()
        found = [read for event in self._events.feed(data) if (read := self._read(event)) is not _NOTHING]
        if self._events.broken and not self._why:
            self._why = "answer: an event is longer than 64 KiB or has too many lines"
        return found

    def end(self) -> Prediction:
        """Return what the whole stream says. Raises UnreadableError."""
        if self._why:
            raise UnreadableError(self._why)
        if self._response is not None:
            return self._response
        ended = bool(self._choices) and all(choice.finish for choice in self._choices.values())
        if not (self._done or ended):
            raise UnreadableError("answer: the stream ended before it was complete")
        if not self._choices:
            raise UnreadableError("answer: expected at least one choice in the stream")
        choices = [self._choices[index] for index in sorted(self._choices)]
        return _generated([choice.text() for choice in choices], [choice.finish for choice in choices], self._tokens)

    def _read(self, event: SentEvent) -> StreamEvent:
        if self._why or self._done:
            return _NOTHING
        if event.data == b"[DONE]":
            self._done = True
            return _NOTHING
        try:
            body = object_of(event.data, "event")
            kind = body.get("type")
            found = self._response_event(kind, body) if isinstance(kind, str) else self._chunk(body)
        except UnreadableError as error:
            self._why = str(error)
            return _NOTHING
        self._chars += len(found.text)
        if self._chars > TEXT_CHARS:
            self._why = f"answer: the text is longer than {TEXT_CHARS} characters"
            self._choices.clear()
            return _NOTHING
        return found

    def _chunk(self, body: dict[str, Any]) -> StreamEvent:
        """Read one part of a chat or a completion."""
        if body.get("error") is not None:
            raise UnreadableError("answer: the stream ended in an error")
        self._tokens = _tokens(body, "completion_tokens", self._tokens)
        text, finish = "", ""
        for choice in _objects(body.get("choices") or [], "choices"):
            kept = self._choice(choice.get("index", 0))
            delta = choice.get("delta")
            part = kept.add(delta) if isinstance(delta, dict) else kept.write(choice.get("text"))
            text += part
            if isinstance(choice.get("finish_reason"), str):
                kept.finish = choice["finish_reason"]
                finish = kept.finish
        return StreamEvent(text, finish) if text or finish else _NOTHING

    def _choice(self, index: object) -> "_Choice":
        if type(index) is not int or not 0 <= index < PIECES:
            raise UnreadableError(f"event: expected an index from 0 to {PIECES - 1} of each choice")
        return self._choices.setdefault(index, _Choice())

    def _response_event(self, kind: str, body: dict[str, Any]) -> StreamEvent:
        """Read one event of a response: the last one repeats the whole of it."""
        if kind in ("response.completed", "response.incomplete"):
            self._response = _whole(_member(body, "response"))
            generated = self._response.generated
            return StreamEvent("", generated.finishes[0] if generated and generated.finishes else "")
        if kind in ("response.failed", "error"):
            raise UnreadableError("answer: the stream ended in an error")
        delta = body.get("delta")
        if kind in ("response.output_text.delta", "response.function_call_arguments.delta") and isinstance(delta, str):
            self._chars -= len(delta)  # it is not kept
            return StreamEvent(delta)
        return _NOTHING


class _Choice:
    """What one choice has brought so far."""

    __slots__ = ("calls", "finish", "written")

    def __init__(self) -> None:
        self.written = _Text()
        self.calls: dict[int, tuple[_Text, _Text]] = {}
        self.finish = ""

    def write(self, text: object) -> str:
        """Keep a piece of text and return it. Raises UnreadableError for what is neither text nor null."""
        if text is None:
            return ""
        if not isinstance(text, str):
            raise UnreadableError("answer: expected a text as what was written")
        self.written.add(text)
        return text

    def add(self, delta: dict[str, Any]) -> str:
        """Keep what one part of a chat adds and return its text."""
        if delta.get("audio") is not None or delta.get("function_call") is not None:
            raise UnreadableError("answer: expected text or tool calls; audio and function_call are not read")
        text = self.write(delta.get("content")) + self.write(delta.get("refusal"))
        for call in _objects(delta.get("tool_calls") or [], "tool_calls"):
            index = call.get("index", 0)
            if type(index) is not int or not 0 <= index < PIECES:
                raise UnreadableError(f"event: expected an index from 0 to {PIECES - 1} of each call")
            function = call.get("function")
            kept = self.calls.setdefault(index, (_Text(), _Text()))
            for place, name in zip(kept, ("name", "arguments"), strict=True):
                part = function.get(name) if isinstance(function, dict) else None
                if isinstance(part, str):
                    place.add(part)
                    text += part
        return text

    def text(self) -> str:
        """Return all of it."""
        calls = [f"{name}({arguments})" for _, (name, arguments) in sorted(self.calls.items())]
        return "\n".join([text for text in (str(self.written), *calls) if text])


class _Text:
    """A text that grows by pieces, in little more memory than its letters take."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[str] = []

    def add(self, part: str) -> None:
        if part:
            self._parts.append(part)
            if len(self._parts) > _PARTS:
                self._parts = [str(self)]

    def __str__(self) -> str:
        return "".join(self._parts)


def _is_stream(head: RawAnswer) -> bool:
    fields = dict(head.headers)
    kind = fields.get("content-type", "").partition(";")[0].strip().lower()
    return kind == _EVENT_STREAM and fields.get("content-encoding", "identity").lower() == "identity"


def _whole(body: dict[str, Any]) -> Prediction:
    """Return what an answer in one JSON object says."""
    if body.get("error") is not None:
        raise UnreadableError("answer: an error instead of an answer")
    if "choices" in body:
        choices = _objects(body["choices"], "choices")
        finishes = [_text(choice.get("finish_reason")) for choice in choices]
        return _generated([_written(choice) for choice in choices], finishes, _tokens(body, "completion_tokens", None))
    if "output" in body:
        return _response(body)
    if "data" in body:
        return Prediction(vectors=tuple([_embedding(one) for one in _objects(body["data"], "data")]))
    raise UnreadableError("answer: expected `choices`, `output` or `data`")


def _generated(texts: list[str], finishes: list[str], tokens: int | None) -> Prediction:
    return Prediction(
        tuple([kept_label((text,)) for text in texts]),
        generated=Generated(tuple(texts), tuple(finishes), tokens),
    )


def _written(choice: dict[str, Any]) -> str:
    """Return what one choice of a chat or a completion says."""
    if "message" not in choice:
        text = choice.get("text")
        if not isinstance(text, str):
            raise UnreadableError("answer: expected `message` or `text` in each choice")
        return text
    message = _member(choice, "message")
    calls = _objects(message.get("tool_calls") or [], "tool_calls")
    kept = _Choice()
    kept.add({**message, "tool_calls": [{**call, "index": place} for place, call in enumerate(calls)]})
    return kept.text()


def _response(body: dict[str, Any]) -> Prediction:
    """Return what a response says: its texts and calls in order, as one row."""
    if body.get("status") == "failed":
        raise UnreadableError("answer: an error instead of an answer")
    parts: list[str] = []
    for item in _objects(body["output"], "output"):
        if item.get("type") == "message":
            parts += [
                _text(content.get("text", content.get("refusal")))
                for content in _objects(item.get("content"), "content")
            ]
        elif item.get("type") == "function_call":
            parts.append(f"{_text(item.get('name'))}({_text(item.get('arguments'))})")
    if not parts:
        raise UnreadableError("answer: expected a message or a function call in `output`")
    status = _text(body.get("status"))
    return _generated(["\n".join(parts)], [status], _tokens(body, "output_tokens", None))


def _embedding(one: dict[str, Any]) -> tuple[float, ...]:
    """Return the numbers of an embedding: a list, or 32-bit floats in base64."""
    found = one.get("embedding")
    if isinstance(found, str):
        try:
            packed = a2b_base64(found, strict_mode=True)
            vector: tuple[float, ...] = struct.unpack(f"<{len(packed) // 4}f", packed)
        except (Base64Error, struct.error, ValueError):
            raise UnreadableError("answer: expected 32-bit floats in base64 as embedding") from None
    elif isinstance(found, list) and {int, float}.issuperset(map(type, found)):
        vector = tuple(map(float, found))
    else:
        raise UnreadableError("answer: expected `embedding`, a list of numbers")
    if not vector or not all(map(isfinite, vector)):
        raise UnreadableError("answer: expected finite numbers in each embedding")
    return vector


def _objects(value: object, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > PIECES * PIECES or not all(isinstance(one, dict) for one in value):
        raise UnreadableError(f"answer: expected `{name}`, a list of objects")
    return value


def _member(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    if not isinstance(found, dict):
        raise UnreadableError(f"answer: expected `{name}`, an object")
    return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _tokens(body: dict[str, Any], name: str, before: int | None) -> int | None:
    usage = body.get("usage")
    told = usage.get(name) if isinstance(usage, dict) else None
    return told if isinstance(told, int) and not isinstance(told, bool) else before
