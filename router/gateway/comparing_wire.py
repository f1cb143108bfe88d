"""What a worker and its comparing process say to each other: frames of four bytes of length and a JSON text.

Behind the frame of a question come the two bodies as they are, or as JSON what was heard of one. Nothing is unpickled:
the bodies are a model server's bytes, and a process that read them is trusted with no more than a small answer.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, BinaryIO

from router.core.inference import Generated, Prediction
from router.core.observations import Comparison
from router.core.options import Option, PluginUse, configured
from router.core.ports import Comparator, ModelAdapter
from router.gateway.comparing import Compared, Half, Heard, Reading, compare, not_compared
from router.gateway.pieces import Pieces

LENGTH = struct.Struct(">I")

ANSWER_BYTES = 16 * 2**10
"""Longest answer of the comparing process. Chosen: a reason and two readings take less than 2 KiB."""


def question(adapter: PluginUse, comparator: PluginUse, stable: Half, candidate: Half) -> Pieces:
    """Return the parts of a question, the bodies among them as they are held."""
    bodies: list[Pieces | None] = [_body(half) for half in (stable, candidate)]
    halves = [
        {
            "status": half.status,
            "fields": [line.decode("latin-1") for line in half.fields],
            "bytes": None if body is None else sum(map(len, body)),
            "missing": half.missing,
            "heard": None if half.heard is None else (half.heard.digest, half.heard.body_bytes, half.heard.why),
        }
        for half, body in zip((stable, candidate), bodies, strict=True)
    ]
    head = json.dumps({"adapter": adapter, "comparator": comparator, "halves": halves}).encode()
    return [LENGTH.pack(len(head)) + head, *[piece for body in bodies for piece in body or ()]]


def _body(half: Half) -> Pieces | None:
    if half.heard is None:
        return half.body
    prediction = half.heard.prediction
    if prediction is None:
        return [b"null"]
    wrote = prediction.generated
    return [json.dumps({**prediction._asdict(), "generated": wrote and asdict(wrote)}).encode()]


def answer_next(
    stream: BinaryIO, adapters: Mapping[str, ModelAdapter], comparators: Mapping[str, Comparator]
) -> bytes | None:
    """Read one question and return the answer's frame; None when the worker has closed its end."""
    length = stream.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    asked = json.loads(stream.read(LENGTH.unpack(length)[0]))
    stable, candidate = [_half(told, stream) for told in asked["halves"]]
    adapter, comparator = _use(asked["adapter"]), _use(asked["comparator"])
    if adapter.name not in adapters:
        return _frame(not_compared(comparator.name, "this adapter is not installed"))
    compares = configured(comparators[comparator.name], comparator.options)
    reads = configured(adapters[adapter.name], adapter.options)
    return _frame(compare(reads, compares, stable, candidate))


def _use(told: tuple[str, list[tuple[str, Option]]]) -> PluginUse:
    """Return what JSON has made lists of."""
    return PluginUse(told[0], tuple([(name, option) for name, option in told[1]]))


def _half(told: Mapping[str, Any], stream: BinaryIO) -> Half:
    body: Pieces | None = None if told["bytes"] is None else [stream.read(told["bytes"])]
    fields = [line.encode("latin-1") for line in told["fields"]]
    if told["heard"] is None:
        return Half(told["status"], fields, body, told["missing"])
    digest, body_bytes, why = told["heard"]
    heard = Heard(digest, body_bytes, _prediction(b"".join(body or ())), why)
    return Half(told["status"], fields, None, told["missing"], heard)


def _prediction(text: bytes) -> Prediction | None:
    told = json.loads(text)
    if told is None:
        return None
    wrote = told["generated"]
    return Prediction(
        tuple(told["labels"]),
        tuple(told["scores"]),
        tuple(map(tuple, told["vectors"])),
        None if wrote is None else Generated(tuple(wrote["texts"]), tuple(wrote["finishes"]), wrote["tokens"]),
    )


def _frame(found: Compared) -> bytes:
    comparison = found.comparison
    text = json.dumps(
        {
            "comparator": comparison.comparator,
            "same": _maybe(bool, comparison.same),  # a plug-in may have meant a numpy number
            "distance": _maybe(float, comparison.distance),
            "reason": comparison.reason,
            "said": found.said,
            "readings": [found.stable, found.candidate],
        }
    ).encode()
    return LENGTH.pack(len(text)) + text


def read_answer(text: bytes) -> Compared:
    """Return what an answer says. Raises ValueError when it is none."""
    try:
        told = json.loads(text)
        comparison = Comparison(
            str(told["comparator"]), _maybe(bool, told["same"]), _maybe(float, told["distance"]), str(told["reason"])
        )
        stable, candidate = [_reading(*one) for one in told["readings"]]
        said = str(told["said"])
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"not an answer of a comparing process: {error!r}") from None
    return Compared(comparison, stable, candidate, said)


def _reading(digest: object, label: object, score: object, tokens: object, finish: object) -> Reading:
    return Reading(str(digest), _maybe(str, label), _maybe(float, score), _maybe(int, tokens), _maybe(str, finish))


def _maybe(kind: Any, value: object) -> Any:  # noqa: ANN401 - one for three types
    return None if value is None else kind(value)
