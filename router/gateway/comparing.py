"""What two answers say and how they differ: bytes in, small values out, no I/O.

The event loop does it for short answers, a process of its own for long ones (`large_answers`).
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from router.core.errors import UnreadableError
from router.core.inference import Answer, Prediction, RawAnswer, kept_label
from router.core.observations import ANSWERS, Comparison
from router.core.traffic import Role

if TYPE_CHECKING:
    from router.core.ports import Comparator, ModelAdapter
    from router.gateway.pieces import Pieces
    from router.gateway.side import Side


REASON_CHARS = 256
"""Longest reason of a comparison that is kept. Chosen: two labels of 64 bytes and a sentence around them."""

_TOO_MUCH = "takes more memory than the comparing process may have"


class Heard(NamedTuple):
    """What an answer has said that was read while it passed, and is not held any more; `why` it could not be read."""

    digest: str
    body_bytes: int
    prediction: Prediction | None
    why: str = ""


class Half(NamedTuple):
    """One variant's answer. `fields` are lines `name: value`; without a body `missing` says why there is none.

    An answer that was `heard` has no body either.
    """

    status: int
    fields: Sequence[bytes]
    body: "Pieces | None"
    missing: str
    heard: Heard | None = None


class Reading(NamedTuple):
    """What the pair log keeps of one answer: labels of a batch in one bounded text, the score of a single row.

    Of what a language model wrote also the `tokens` that its server counts, and in one text why each choice ended.
    """

    digest: str = ""
    label: str | None = None
    score: float | None = None
    tokens: int | None = None
    finish: str | None = None


class RawLines(RawAnswer):
    """A RawAnswer whose field lines become names and values once an adapter asks for them: most never do."""

    __slots__ = ("_lines",)
    _lines: Sequence[bytes]

    def __init__(self, status: int, lines: Sequence[bytes], body: bytes = b"") -> None:
        put = object.__setattr__  # as a frozen dataclass does
        put(self, "status", status)
        put(self, "body", body)
        put(self, "_lines", lines)

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Names in lower case and values."""
        parts = [line.partition(b":") for line in self._lines]
        return tuple([(name.decode("latin-1").lower(), value.strip().decode("latin-1")) for name, _, value in parts])


class Compared(NamedTuple):
    """How two answers differ, and what each of them says.

    The comparison's reason is in our words alone; `said` is what adapter or comparator said, which may quote answers.
    """

    comparison: Comparison
    stable: Reading
    candidate: Reading
    said: str = ""

    def explained(self, *, quoting: bool) -> Comparison:
        """Return the comparison with its bounded reason; `quoting`: with the words of adapter and comparator, too."""
        comparison = self.comparison
        if not quoting or not self.said:
            return comparison
        reason = f"{comparison.reason}: {self.said}" if comparison.reason else self.said
        return _with_reason(comparison, reason[:REASON_CHARS])


def half_of(side: "Side") -> Half:
    """Return what there is to compare of a closed half."""
    fields = side.answer.fields if side.answer is not None else ()
    if side.outcome not in ANSWERS:
        return Half(side.status, fields, None, f"no answer of {side.role.value}: {side.outcome.value}")
    if side.stream is not None:
        return Half(side.status, fields, None, side.stream.missing, side.stream.heard())
    return Half(side.status, fields, side.body, side.missing)


def not_compared(comparator: str, reason: str) -> Compared:
    """Return that nothing was read."""
    return Compared(Comparison(comparator, same=None, reason=reason), Reading(), Reading())


def compare(adapter: "ModelAdapter", comparator: "Comparator", stable: Half, candidate: Half) -> Compared:
    """Read both answers and compare them; a missing or unreadable one gives `same=None` and the reason."""
    first, reason, said = _read(adapter, stable, Role.STABLE)
    shown = _shown(first)
    if stable == candidate:  # what a model that has not changed says; whether that is the same, the comparator decides
        second, shown_too = first, shown
    else:
        second, why_not, said_too = _read(adapter, candidate, Role.CANDIDATE)
        shown_too = _shown(second)
        if not reason:
            reason, said = why_not, said_too
    if reason or first is None or second is None:
        comparison = Comparison(comparator.name, same=None, reason=reason)
    else:
        comparison, said = _compare(comparator, first, second)
    return Compared(comparison, shown, shown_too, said[:REASON_CHARS])


def _compare(comparator: "Comparator", stable: Answer, candidate: Answer) -> tuple[Comparison, str]:
    """Return the comparison without its reason, and that apart."""
    try:
        found = comparator.compare(stable, candidate)
    except MemoryError:
        return Comparison(comparator.name, same=None, reason=f"size: to compare the answers {_TOO_MUCH}"), ""
    except Exception as error:  # noqa: BLE001 - a plug-in's mistake costs its own comparison, not the worker's clock
        return Comparison(comparator.name, same=None, reason=f"comparator failed: {type(error).__name__}"), ""
    return (_with_reason(found, ""), found.reason) if found.reason else (found, "")


def _with_reason(comparison: Comparison, reason: str) -> Comparison:
    """Return it with another reason; `dataclasses.replace` takes three times as long."""
    return Comparison(comparison.comparator, same=comparison.same, distance=comparison.distance, reason=reason)


def _read(adapter: "ModelAdapter", half: Half, role: Role) -> tuple[Answer | None, str, str]:
    """Return the answer, and if its prediction could not be read why, in our words and in the adapter's."""
    if half.body is None:
        return _heard(half, role)
    body = b"".join(half.body)
    digest = hashlib.blake2b(body, digest_size=16).hexdigest()
    if half.status >= 300:  # an error body holds no prediction
        return Answer(half.status, len(body), digest, body=body), "", ""
    try:
        prediction = adapter.read_answer(RawLines(half.status, half.fields, body))
    except UnreadableError as error:
        return Answer(half.status, len(body), digest), f"unreadable answer of {role.value}", str(error)
    except MemoryError:  # only the comparing process has such a limit
        return Answer(half.status, len(body), digest), f"size: to read the answer of {role.value} {_TOO_MUCH}", ""
    except Exception as error:  # noqa: BLE001 - as in `_compare`
        return Answer(half.status, len(body), digest), f"adapter failed: {type(error).__name__}", ""
    return Answer(half.status, len(body), digest, prediction, body), "", ""


def _heard(half: Half, role: Role) -> tuple[Answer | None, str, str]:
    """Return the same for an answer without a body."""
    if half.heard is None:
        return None, half.missing, ""
    digest, body_bytes, prediction, why = half.heard
    answer = Answer(half.status, body_bytes, digest, prediction)
    return answer, f"unreadable answer of {role.value}" if why else "", why


def _shown(answer: Answer | None) -> Reading:
    if answer is None:
        return Reading()
    prediction = answer.prediction or Prediction()
    label = kept_label(prediction.labels) if prediction.labels else None
    score = prediction.scores[0] if len(prediction.scores) == 1 else None
    if prediction.generated is None:
        return Reading(answer.digest, label, score)
    return Reading(answer.digest, label, score, prediction.generated.tokens, kept_label(prediction.generated.finishes))
