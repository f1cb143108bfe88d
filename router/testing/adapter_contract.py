"""What every model adapter must keep; run it in the tests of yours with requests and answers of your protocol."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite

from router.core.errors import UnreadableError
from router.core.inference import PREDICTION_BYTES, InferenceRequest, Prediction, RawAnswer, RawRequest
from router.core.ports import ModelAdapter
from router.core.traffic import Backend, Variant
from router.testing.expect import ensure, expect

REASON_CHARS = 300
"""Longest reason of an UnreadableError; it goes into logs."""

HOSTILE_BODIES = (
    b"",
    b"\x00",
    b"\xff\xfe" * 50,
    b"null",
    b"true",
    b"-0",
    b'""',
    b"[]",
    b"{}",
    b"[[[[",
    b'{"a":' * 2_000,
    b"[" * 100_000,
    b"<html></html>",
    b"9" * 5_000,
)


@dataclass(frozen=True, slots=True)
class AdapterExample:
    """One exchange of the protocol, and what the adapter is expected to read from it."""

    request: RawRequest
    answer: RawAnswer
    read_request: InferenceRequest
    prediction: Prediction | None


def check_adapter(adapter: ModelAdapter, examples: Sequence[AdapterExample]) -> None:
    """Raise AssertionError with one sentence unless `adapter` keeps the contract of `ModelAdapter`."""
    ensure(isinstance(adapter, ModelAdapter), "an adapter has all parts of ModelAdapter")
    expect(str, type(adapter.name), "an adapter's name is a text")
    expect(bool, type(adapter.mirror_safe), "mirror_safe is true or false")
    expect(str, type(adapter.comparator), "an adapter names its comparator")
    ensure(examples, "at least one example of the protocol is needed")
    for example in examples:
        _check_reading(adapter, example)
        _check_hostile_bytes(adapter, example)
        _check_retarget(adapter, example.request)


def _check_reading(adapter: ModelAdapter, example: AdapterExample) -> None:
    for _ in range(2):  # twice, because reading must leave no trace
        expect(example.read_request, adapter.read_request(example.request), "the request is read as expected")
        expect(example.prediction, adapter.read_answer(example.answer), "the answer is read as expected")
    _check_prediction(example.prediction)


def _check_prediction(prediction: object) -> None:
    match prediction:
        case None:
            pass
        case Prediction(labels=labels, scores=scores):
            ensure(all(len(label.encode()) <= PREDICTION_BYTES for label in labels), "a label has at most 64 bytes")
            ensure(all(isfinite(score) for score in scores), "a score is finite")
        case _:
            raise AssertionError(f"an answer is read as a Prediction or None, not {type(prediction).__name__}")


def _check_hostile_bytes(adapter: ModelAdapter, example: AdapterExample) -> None:
    """Cut and change the example's bodies: the adapter reads what it can, or raises UnreadableError."""
    for body in (*HOSTILE_BODIES, *_damaged(example.answer.body)):
        answer = replace(example.answer, body=body)
        _check_prediction(_or_unreadable(lambda answer=answer: adapter.read_answer(answer)))  # type: ignore[misc]
    for body in (*HOSTILE_BODIES, *_damaged(example.request.body)):
        request = replace(example.request, body=body)
        _or_unreadable(lambda request=request: adapter.read_request(request))  # type: ignore[misc]
    for target in ("", "/", "*", "//", "/?", "/%", "/%ff%00/\u00e9", "/" + "a/" * 2_000, "http://["):
        request = replace(example.request, target=target)
        _or_unreadable(lambda request=request: adapter.read_request(request))  # type: ignore[misc]
        for variant in _variants():
            _or_unreadable(lambda request=request, variant=variant: adapter.retarget(request, variant))  # type: ignore[misc]


def _damaged(body: bytes) -> list[bytes]:
    """Return the body cut short at about 50 places, with bytes left out, and with bytes changed."""
    cuts = sorted({0, *range(0, len(body), max(1, len(body) // 50)), len(body)})
    return [
        *(body[:cut] for cut in cuts[:-1]),
        *(body[:start] + body[end:] for start, end in pairwise(cuts)),
        *(body[:cut] + bytes([body[cut] ^ 0x11]) + body[cut + 1 :] for cut in cuts[:-1]),
    ]


def _check_retarget(adapter: ModelAdapter, request: RawRequest) -> None:
    """Readdress the request: the method, the header fields and what the protocol does not name stay as they are."""
    for variant in _variants():
        match _or_unreadable(lambda variant=variant: adapter.retarget(request, variant)):  # type: ignore[misc]
            case None:
                pass
            case RawRequest(method=method, target=target, headers=headers) as sent:
                expect(request.method, method, "retarget keeps the method")
                expect(request.headers, headers, "retarget keeps the header fields")
                ensure(target.startswith("/"), "retarget gives a path")
                expect(_query(request), _query(sent), "retarget keeps the query")
                expect(sent, adapter.retarget(request, variant), "retarget gives the same twice")
            case other:
                raise AssertionError(f"retarget gives a RawRequest, not {type(other).__name__}")


def _variants() -> tuple[Variant, ...]:
    """Return variants with a path and with a model; an adapter may refuse either, not mangle it."""
    backends = (Backend("127.0.0.1", 9001),)
    return (Variant("v2", backends, path="/other/path"), Variant("v2", backends, model="other model/2?"))


def _query(request: RawRequest) -> str:
    return request.target.partition("?")[2]


def _or_unreadable(read: Callable[[], object]) -> object:
    """Return what was read, None for an UnreadableError; anything else that is raised breaks the contract."""
    try:
        return read()
    except UnreadableError as error:
        ensure(
            0 < len(str(error)) <= REASON_CHARS, f"an UnreadableError has a reason of up to {REASON_CHARS} characters"
        )
        return None
    except Exception as error:
        raise AssertionError(f"only UnreadableError may be raised, not {type(error).__name__}: {error}") from error
