"""`check_adapter` itself: it must notice what it promises to notice."""

import contextlib
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model_adapters.opaque import Opaque
from model_adapters.openai import OpenAI, Reading
from router.core.errors import ConfigError, UnreadableError
from router.core.inference import InferenceRequest, Prediction, RawAnswer, RawRequest, StreamEvent
from router.core.traffic import Variant
from router.testing.adapter_contract import AdapterExample, check_adapter

REQUEST = RawRequest("POST", "/predict?x=1", (("content-type", "text/plain"),), b"seven")
ANSWER = RawAnswer(200, (), b"7")
READABLE = AdapterExample(REQUEST, ANSWER, InferenceRequest(), Prediction(("7",)))


def whole(raw: RawAnswer) -> Prediction:
    """Read a whole answer as its label."""
    return Prediction((raw.body.decode("latin-1")[:32],))


class Plain(Opaque):
    """Reads a whole answer as its label, with one thing done wrongly."""

    def __init__(
        self,
        reads: Callable[[RawAnswer], Any] = whole,
        sends: Callable[[RawRequest], RawRequest] = lambda raw: raw,
        asks: Callable[[RawRequest], Any] = lambda _: InferenceRequest(),
        comparator: str = "label",
    ) -> None:
        self._reads = reads
        self._sends = sends
        self._asks = asks
        self.comparator = comparator

    def read_request(self, raw: RawRequest) -> InferenceRequest:
        """Return what the broken reader makes of it."""
        return self._asks(raw)  # type: ignore[no-any-return]

    def read_answer(self, raw: RawAnswer) -> Prediction | None:
        """Return what the broken reader makes of it."""
        return self._reads(raw)  # type: ignore[no-any-return]

    def retarget(self, raw: RawRequest, variant: Variant) -> RawRequest:
        """Return what the broken sender makes of it."""
        return self._sends(super().retarget(raw, variant))


def test_an_adapter_that_keeps_the_contract_passes() -> None:
    """The frame of the broken ones below is sound."""
    check_adapter(Plain(), [READABLE])


def odd(prediction: object) -> Callable[[RawAnswer], object]:
    """Read the example rightly, and all else as `prediction`."""
    return lambda raw: Prediction(("7",)) if raw == ANSWER else prediction


def swallowing(raw: RawAnswer) -> Prediction:
    """Read digits, and a made-up label where there are none."""
    return Prediction((raw.body.decode()[:32] if raw.body.isdigit() else "unknown",))


def charset(raw: RawAnswer) -> Prediction:
    """Believe the charset that is said."""
    said = dict(raw.headers).get("content-type", "").partition("charset=")[2] or "latin-1"
    return Prediction((raw.body.decode(said, "replace")[:16],))


def remembering() -> Callable[[RawAnswer], Prediction]:
    """Read the second time something else."""
    count = itertools.count()
    return lambda raw: whole(raw) if next(count) < 1 else Prediction(("8",))


def drawing() -> Callable[[RawAnswer], Prediction]:
    """Read damaged answers each time otherwise."""
    count = itertools.count()
    return lambda raw: whole(raw) if raw == ANSWER else Prediction((str(next(count)),))


def squaring(raw: RawAnswer) -> Prediction:
    """Take the square of the time where the answer is one of a kind."""
    if re.search(rb"(\s*,\s*)*x", raw.body):
        raise UnreadableError("an x")
    return whole(raw)


def doubling(raw: RawAnswer) -> Prediction:
    """Take twice the time for each byte more."""
    if re.fullmatch(rb"(a+)+b", raw.body):
        raise UnreadableError("an a")
    return whole(raw)


def quoting(raw: RawAnswer) -> Prediction:
    """Put the answer into the reason."""
    if len(raw.body) > 300:
        raise UnreadableError(raw.body.decode("latin-1"))
    return whole(raw)


def doing(what: Callable[[], object]) -> Callable[[RawAnswer], Prediction]:
    """Do something beside reading, and survive it."""

    def reads(raw: RawAnswer) -> Prediction:
        with contextlib.suppress(OSError):
            what()
        return whole(raw)

    return reads


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (
            Plain(reads=lambda raw: Prediction((str(int(raw.body)),))),
            "only UnreadableError may be raised, not ValueError",
        ),
        (Plain(reads=charset), "only UnreadableError may be raised, not LookupError"),
        (Plain(reads=quoting), "a reason of up to 300 characters"),
        (Plain(reads=lambda _: None), "the answer is read as expected"),
        (Plain(reads=remembering()), "the answer is read as expected"),
        (Plain(reads=drawing()), "an answer is read the same twice"),
        (Plain(reads=lambda raw: Prediction((raw.body.decode("latin-1"),))), "at most 64 bytes"),
        (Plain(reads=odd(Prediction(("7",), (float("nan"),)))), "a score is finite"),
        (Plain(reads=odd(Prediction(("7",), (1,)))), "a score is a float"),
        (Plain(reads=odd(Prediction(("7",), (1.0, 0.5)))), "of the same rows"),
        (Plain(reads=odd(Prediction(["7"]))), "are tuples"),  # type: ignore[arg-type]
        (Plain(reads=odd(Prediction((7,)))), "a label is a text"),  # type: ignore[arg-type]
        (Plain(reads=odd({"label": "7"})), "read as a Prediction or None, not dict"),
        (Plain(reads=odd(None)), "what cannot be read is an UnreadableError, not None"),
        (Plain(reads=swallowing), "what cannot be read is an UnreadableError, not a prediction that says nothing"),
        pytest.param(
            Plain(reads=squaring),
            r"within 0.5 s of CPU, whatever it holds: \d+ bytes like b' +'",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            Plain(reads=doubling),
            r"within 0.5 s of CPU, whatever it holds: \d+ bytes like b'a+'",
            marks=pytest.mark.slow,
        ),
        (Plain(reads=doing(lambda: Path("/nowhere").read_text())), r"an adapter does no I/O; seen: open \('/nowhere'"),
        (Plain(reads=doing(lambda: subprocess.run(["true"], check=True))), "does no I/O; seen: subprocess.Popen"),
        (Plain(reads=doing(lambda: print("read"))), "prints nothing; seen: 'read"),  # noqa: T201
        (Plain(comparator="lable"), "no comparator is called 'lable'; installed: argmax"),
        (Plain(asks=lambda raw: InferenceRequest(rows=int(raw.body == b"seven"))), "the request is read as expected"),
        (Plain(asks=lambda raw: None if raw.body != b"seven" else InferenceRequest()), "read as an InferenceRequest"),
        (Plain(asks=lambda raw: InferenceRequest(rows=-(raw.body == b""))), "a whole number from 0 up"),
        (Plain(asks=lambda raw: InferenceRequest(*json.loads(b"[]" if raw == REQUEST else b"{"))), "JSONDecodeError"),
        (Plain(sends=lambda raw: replace(raw, method="GET")), "retarget keeps the method"),
        (Plain(sends=lambda raw: replace(raw, headers=())), "retarget keeps the header fields"),
        (Plain(sends=lambda raw: replace(raw, target="/other/path")), "retarget keeps the query"),
        (Plain(sends=lambda raw: replace(raw, target=raw.target[1:])), "retarget gives a path"),
        (Plain(sends=lambda raw: replace(raw, body=raw.body.strip())), "retarget to a path keeps the body"),
        (
            Plain(sends=lambda raw: replace(raw, target=f"/v2{raw.target}")),
            "retarget to a path sends the request there",
        ),
    ],
)
def test_an_adapter_that_breaks_the_contract_is_found(adapter: Plain, sentence: str) -> None:
    """Each fault by itself fails the check, with a sentence that names it."""
    with pytest.raises(AssertionError, match=sentence):
        check_adapter(adapter, [READABLE])


def test_a_module_that_is_loaded_late_is_no_io(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python opens its file, for whoever needs it first."""
    (tmp_path / "needed_late.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert "needed_late" not in sys.modules
    check_adapter(Plain(reads=doing(lambda: __import__("needed_late"))), [READABLE])
    del sys.modules["needed_late"]


NAMED = RawRequest("POST", "/v1/chat", (), b'{"model": "one", "input": "one"}')


class Named(Plain):
    """Writes the model into the body by `write`."""

    def __init__(self, write: Callable[[bytes, str], bytes], refusal: Exception | None = None) -> None:
        super().__init__(asks=self._model)
        self._write = write
        self._refusal = refusal

    @staticmethod
    def _model(raw: RawRequest) -> InferenceRequest:
        try:
            body = json.loads(raw.body)
            return InferenceRequest(str(body["model"]), id=str(body["input"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UnreadableError("request: expected a model and an input") from None

    def check_variant(self, variant: Variant) -> None:  # noqa: ARG002 - part of the contract
        """Refuse in the broken way."""
        if self._refusal is not None:
            raise self._refusal

    def retarget(self, raw: RawRequest, variant: Variant) -> RawRequest:
        """Write the model in the broken way."""
        if variant.model is None:
            raise UnreadableError("only a model can be written")
        self._model(raw)
        return replace(raw, body=self._write(raw.body, json.dumps(variant.model)))


def in_place(body: bytes, model: str) -> bytes:
    """Replace the model."""
    return re.sub(rb'(?<="model": )"(\\.|[^"\\])*"', lambda _: model.encode(), body, count=1)


def everywhere(body: bytes, model: str) -> bytes:
    """Replace every text that is the model's name."""
    return body.replace(json.dumps(json.loads(body)["model"]).encode(), model.encode())


def anew(body: bytes, model: str) -> bytes:
    """Write the whole document anew."""
    return json.dumps({**json.loads(body), "model": json.loads(model)}).encode()


def unescaped(body: bytes, model: str) -> bytes:
    """Put the name between quotation marks as it is."""
    return in_place(body, f'"{json.loads(model)}"')


NAMING = AdapterExample(NAMED, ANSWER, InferenceRequest("one", id="one"), Prediction(("7",)))


def test_an_adapter_that_writes_a_name_in_its_place_passes() -> None:
    """The frame of the next ones is sound."""
    check_adapter(Named(in_place, ConfigError("path", "/x", "no path")), [NAMING])


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (Named(everywhere), "retarget changes the model and nothing else"),
        (Named(anew), "retarget to the model that it had gives the request back, byte for byte"),
        (Named(unescaped), "only UnreadableError may be raised, not|expected a model"),
        (Named(lambda body, _: body), "retarget changes the model and nothing else"),
        (
            Named(lambda body, name: in_place(body, name) + b" "),
            "leaves a request that is readdressed already as it is",
        ),
        (Named(in_place, ConfigError("name", "v2", "no name")), "check_variant names a field of the variant"),
        (Named(in_place, ValueError("no path")), "check_variant raises ConfigError, not ValueError"),
    ],
    ids=["everywhere", "anew", "unescaped", "not at all", "each time more", "wrong field", "wrong error"],
)
def test_a_name_that_is_written_wrongly_is_found(adapter: Named, sentence: str) -> None:
    """By reading what would be sent, and by taking it back."""
    with pytest.raises((AssertionError, UnreadableError), match=sentence):
        check_adapter(adapter, [NAMING])


STREAM = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n' * 6 + (
    b'data: {"choices":[{"index":0,"delta":{"content":"!"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
STREAMED = AdapterExample(
    RawRequest("POST", "/v1/chat/completions", (), b'{"model":"gpt","stream":true}'),
    RawAnswer(200, (("content-type", "text/event-stream"),), STREAM),
    InferenceRequest("gpt", rows=1),
    OpenAI().read_answer(RawAnswer(200, (("content-type", "text/event-stream"),), STREAM)),
)


class Streamed(OpenAI):
    """Reads streams with one thing done wrongly."""

    def __init__(self, reading: type[Reading]) -> None:
        self._reading = reading

    def open_stream(self, head: RawAnswer) -> Reading | None:
        """Return the broken reader."""
        return None if super().open_stream(head) is None else self._reading()


class Uncut(Reading):
    """Believes that a piece is an event."""

    def feed(self, data: bytes) -> Sequence[StreamEvent]:
        """Drop what does not end here."""
        return super().feed(data) if data.endswith(b"\n\n") else ()


class Raising(Reading):
    """Raises at a byte."""

    def feed(self, data: bytes) -> Sequence[StreamEvent]:
        """Raise at a NUL."""
        if b"\x00" in data:
            raise ValueError("a NUL")
        return super().feed(data)


class Hoarding(Reading):
    """Keeps all bytes."""

    __slots__ = ("kept",)

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[bytes] = []

    def feed(self, data: bytes) -> Sequence[StreamEvent]:
        """Keep them."""
        self.kept.append(bytes(bytearray(data)))
        return super().feed(data)


class Guessing(Reading):
    """Takes what there is for the whole."""

    def end(self) -> Prediction:
        """Return the text so far."""
        try:
            return super().end()
        except UnreadableError:
            return Prediction(("cut",))


class Otherwise(Reading):
    """Says at the end something else than the whole answer."""

    def end(self) -> Prediction:
        """Leave out what was generated."""
        return super().end()._replace(generated=None)


def test_an_adapter_that_reads_streams_as_they_pass_is_sound() -> None:
    """The frame of the next ones."""
    check_adapter(Streamed(Reading), [STREAMED])


@pytest.mark.parametrize(
    ("reading", "sentence"),
    [
        (Uncut, "a stream is read the same byte by byte"),
        (Raising, "feed never raises, not even ValueError"),
        (Hoarding, "a stream holds at most 1572864 bytes"),
        (Guessing, "a stream that was cut off in its middle is unreadable"),
        (Otherwise, "a stream says what the same bytes say in one body"),
    ],
)
def test_a_stream_that_is_read_wrongly_is_found(reading: type[Reading], sentence: str) -> None:
    """Each by its own sentence."""
    with pytest.raises(AssertionError, match=sentence):
        check_adapter(Streamed(reading), [STREAMED])


def test_a_reader_of_streams_needs_one_as_example() -> None:
    """Otherwise nothing of that power would have been checked."""
    plain = replace(STREAMED, answer=RawAnswer(200, (), b'{"choices":[{"text":"x"}]}'))
    plain = replace(plain, prediction=OpenAI().read_answer(plain.answer))
    with pytest.raises(AssertionError, match="needs an example with a streamed answer"):
        check_adapter(OpenAI(), [plain])


def test_an_adapter_cannot_be_checked_without_examples() -> None:
    """Nothing read is nothing proved."""
    with pytest.raises(AssertionError, match="at least one example"):
        check_adapter(Plain(), [])
