"""What every model adapter must keep; run it in the tests of yours with requests and answers of your protocol."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from types import NoneType

from router.core.errors import ConfigError, UnreadableError
from router.core.inference import PREDICTION_BYTES, Generated, InferenceRequest, Prediction, RawAnswer, RawRequest
from router.core.ports import ChecksVariants, ModelAdapter, StreamReader
from router.core.traffic import Backend, Variant
from router.plugins import load_comparators
from router.testing.expect import ensure, expect
from router.testing.hostile import HOSTILE_BODIES, HOSTILE_TARGETS, check_time, damaged, headers_like
from router.testing.pure import doing_nothing_else
from router.testing.stream_checks import check_streams

REASON_CHARS = 300
"""Longest reason of an UnreadableError; it goes into logs."""

NO_ANSWERS = (b"<html></html>", b"\xff\xfe" * 50)
"""What no protocol of predictions answers with."""


@dataclass(frozen=True, slots=True)
class AdapterExample:
    """One exchange of the protocol, and what the adapter is expected to read from it."""

    request: RawRequest
    answer: RawAnswer
    read_request: InferenceRequest
    prediction: Prediction | None


def check_adapter(adapter: ModelAdapter, examples: Sequence[AdapterExample]) -> None:
    """Raise AssertionError with one sentence unless `adapter` keeps the contract of `ModelAdapter`.

    The examples are read as expected, in any order; bodies, header fields and targets that are damaged or hostile give
    a value or UnreadableError, always the same, and within half a second of CPU; `retarget` changes one name and can
    take it back; nothing but memory is touched. A `StreamReader` reads streamed answers as they pass, cut anywhere.

    Not seen: what depends on the hash seed of the process or on the time of day, sleep, threads, and memory but that of
    streams. It takes about a second.
    """
    ensure(isinstance(adapter, ModelAdapter), "an adapter has all parts of ModelAdapter")
    expect(str, type(adapter.name), "an adapter's name is a text")
    expect(bool, type(adapter.mirror_safe), "mirror_safe is true or false")
    expect(str, type(adapter.comparator), "an adapter names its comparator")
    installed = load_comparators()
    known = ", ".join(sorted(installed))
    ensure(adapter.comparator in installed, f"no comparator is called {adapter.comparator!r}; installed: {known}")
    ensure(examples, "at least one example of the protocol is needed")
    with doing_nothing_else("an adapter"):
        for example in (*examples, *reversed(examples)):  # in both orders, because reading must leave no trace
            _check_reading(adapter, example)
        for example in examples:
            _check_hostile_input(adapter, example)
            _check_retarget(adapter, example)
        for example in {_kinds(one): one for one in examples}.values():
            _check_time(adapter, example)
        if isinstance(adapter, StreamReader):
            check_streams(adapter, [one.answer for one in examples], adapter.read_answer)


def _check_reading(adapter: ModelAdapter, example: AdapterExample) -> None:
    found, prediction = adapter.read_request(example.request), adapter.read_answer(example.answer)
    expect(example.read_request, found, "the request is read as expected")
    expect(example.prediction, prediction, "the answer is read as expected")
    _check_request(found)
    _check_prediction(prediction)


def _check_request(found: object) -> None:
    if not isinstance(found, InferenceRequest):
        raise AssertionError(f"a request is read as an InferenceRequest, not {type(found).__name__}")  # noqa: TRY004
    names = (found.model, found.version, found.id)
    ensure(all(type(name) in (str, NoneType) for name in names), "a model, a version and an id are texts or None")
    ensure(type(found.rows) is int and found.rows >= 0, "rows are a whole number from 0 up")


def _check_prediction(found: object) -> None:
    match found:
        case None:
            pass
        case Prediction(labels=labels, scores=scores, vectors=vectors, generated=generated):
            parts = (labels, scores, vectors, *vectors)
            ensure(all(type(part) is tuple for part in parts), "labels, scores and vectors are tuples")
            ensure(all(type(label) is str for label in labels), "a label is a text")
            longest = max((len(label.encode(errors="replace")) for label in labels), default=0)
            ensure(longest <= PREDICTION_BYTES, "a label has at most 64 bytes: `kept_label` shortens longer ones")
            numbers = [*scores, *(number for vector in vectors for number in vector)]
            ensure(all(type(number) is float for number in numbers), "a score is a float, and so is each of a vector")
            ensure(all(map(isfinite, numbers)), "a score is finite, and so is each number of a vector")
            rows = {len(part) for part in (labels, scores, vectors) if part}
            ensure(len(rows) <= 1, "labels, scores and vectors are of the same rows")
            ensure(isinstance(generated, (Generated, NoneType)), "what was generated is a Generated or None")
        case _:
            raise AssertionError(f"an answer is read as a Prediction or None, not {type(found).__name__}")


def _check_hostile_input(adapter: ModelAdapter, example: AdapterExample) -> None:
    """Damage the example and replace its parts: the adapter reads what it can, or raises UnreadableError."""
    answer, request = example.answer, example.request
    for body in (*HOSTILE_BODIES, *damaged(answer.body)):
        _check_answer(adapter, replace(answer, body=body))
    for headers in headers_like(answer.headers):
        _check_answer(adapter, replace(answer, headers=headers))
    for body in (*HOSTILE_BODIES, *damaged(request.body)):
        _check_asked(adapter, replace(request, body=body))
    for headers in headers_like(request.headers):
        _check_asked(adapter, replace(request, headers=headers))
    for target in HOSTILE_TARGETS:
        _check_asked(adapter, replace(request, target=target))
    if example.prediction is not None:
        _check_it_says_what_it_cannot_read(adapter, answer)


def _check_answer(adapter: ModelAdapter, answer: RawAnswer) -> None:
    found = _result(lambda: adapter.read_answer(answer))
    if not isinstance(found, _Unreadable):
        _check_prediction(found)
    expect(found, _result(lambda: adapter.read_answer(answer)), "an answer is read the same twice")


def _check_asked(adapter: ModelAdapter, request: RawRequest) -> None:
    found = _result(lambda: adapter.read_request(request))
    if not isinstance(found, _Unreadable):
        _check_request(found)
    expect(found, _result(lambda: adapter.read_request(request)), "a request is read the same twice")
    for variant in _variants():
        _result(lambda variant=variant: adapter.retarget(request, variant))  # type: ignore[misc]


def _check_it_says_what_it_cannot_read(adapter: ModelAdapter, answer: RawAnswer) -> None:
    """What is no answer must not become a prediction: two of them would agree, and nobody would know."""
    first, second = (_result(lambda body=body: adapter.read_answer(replace(answer, body=body))) for body in NO_ANSWERS)  # type: ignore[misc]
    silent = "what cannot be read is an UnreadableError"
    ensure(first is not None and second is not None, f"{silent}, not None")
    ensure(first != second or isinstance(first, _Unreadable), f"{silent}, not a prediction that says nothing")


def _check_retarget(adapter: ModelAdapter, example: AdapterExample) -> None:
    """Readdress the request: one name is another, and all else stays byte for byte."""
    roomy = replace(example.request, body=b" \n" + example.request.body + b"\n ")  # who writes JSON anew loses these
    for request in (example.request, roomy):
        expected = _result(lambda request=request: adapter.read_request(request))  # type: ignore[misc]
        if isinstance(expected, InferenceRequest):
            for variant in _variants():
                sent = _result(lambda variant=variant, request=request: adapter.retarget(request, variant))  # type: ignore[misc]
                if not isinstance(sent, _Unreadable):
                    _check_sent(adapter, request, expected, variant, sent)
    if isinstance(adapter, ChecksVariants):
        for variant in _variants():
            _check_refusal(adapter, variant)


def _check_sent(
    adapter: ModelAdapter, request: RawRequest, expected: InferenceRequest, variant: Variant, sent: object
) -> None:
    if not isinstance(sent, RawRequest):
        raise AssertionError(f"retarget gives a RawRequest, not {type(sent).__name__}")  # noqa: TRY004
    expect(request.method, sent.method, "retarget keeps the method")
    expect(request.headers, sent.headers, "retarget keeps the header fields")
    ensure(sent.target.startswith("/"), "retarget gives a path")
    expect(_query(request), _query(sent), "retarget keeps the query")
    expect(sent, adapter.retarget(request, variant), "retarget gives the same twice")
    expect(sent, adapter.retarget(sent, variant), "retarget leaves a request that is readdressed already as it is")
    if variant.path is not None:
        expect(request.body, sent.body, "retarget to a path keeps the body")
        if request.method == "POST":
            expect(variant.path, sent.target.partition("?")[0], "retarget to a path sends the request there")
        return
    for field in ("model", "version"):
        name, before = getattr(variant, field), getattr(expected, field)
        if name is not None and before is not None:
            asked = replace(expected, **{field: name})
            expect(asked, adapter.read_request(sent), f"retarget changes the {field} and nothing else")
            back = adapter.retarget(sent, replace(variant, **{field: before}))
            expect(request, back, f"retarget to the {field} that it had gives the request back, byte for byte")


def _check_refusal(adapter: ChecksVariants, variant: Variant) -> None:
    try:
        adapter.check_variant(variant)
    except ConfigError as error:
        ensure(error.field in ("model", "version", "path"), "check_variant names a field of the variant")
    except Exception as error:
        raise AssertionError(f"check_variant raises ConfigError, not {type(error).__name__}: {error}") from error


def _check_time(adapter: ModelAdapter, example: AdapterExample) -> None:
    answer, request = example.answer, example.request
    check_time(answer.body, lambda body: _result(lambda: adapter.read_answer(replace(answer, body=body))))
    check_time(request.body, lambda body: _result(lambda: _asked(adapter, replace(request, body=body))))


def _asked(adapter: ModelAdapter, request: RawRequest) -> None:
    """Do all that is done to a request; what cannot be read is still readdressed."""
    for variant in _variants():
        _result(lambda variant=variant: adapter.retarget(request, variant))  # type: ignore[misc]
    adapter.read_request(request)


def _kinds(example: AdapterExample) -> tuple[str | None, ...]:
    """Return what tells apart examples that are read by different code: the media types."""
    return tuple(dict(one.headers).get("content-type") for one in (example.request, example.answer))


def _variants() -> tuple[Variant, ...]:
    """Return variants with a path, a model and a version; an adapter may refuse any, not mangle it."""
    backends = (Backend("127.0.0.1", 9001),)
    return (
        Variant("v2", backends, path="/other/path"),
        Variant("v2", backends, model="other"),
        Variant("v2", backends, model='other model/2?"\\\u00fc'),
        Variant("v2", backends, version="17"),
    )


def _query(request: RawRequest) -> str:
    return request.target.partition("?")[2]


@dataclass(frozen=True, slots=True)
class _Unreadable:
    reason: str


def _result(read: Callable[[], object]) -> object:
    """Return what was read, or the reason of an UnreadableError; anything else that is raised breaks the contract."""
    try:
        return read()
    except UnreadableError as error:
        reason = str(error)
        ensure(0 < len(reason) <= REASON_CHARS, f"an UnreadableError has a reason of up to {REASON_CHARS} characters")
        return _Unreadable(reason)
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"only UnreadableError may be raised, not {type(error).__name__}: {error}") from error
