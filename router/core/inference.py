"""Requests and answers as an adapter sees them: raw bytes in, small plain values out."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

PREDICTION_BYTES = 64
"""Longest label or score text that is kept of a prediction (design.md section 8, Pair)."""

_DIGEST_CHARS = 16
"""Hex digits that end a shortened label: 64 bits, so no two labels of one model meet by chance."""


def kept_label(labels: Sequence[str]) -> str:
    """Return the labels of one answer as one text of at most 64 bytes, joined by commas.

    A longer one keeps its beginning and ends in a digest: two answers have the same text iff they have the same labels.
    """
    text = labels[0] if len(labels) == 1 else ",".join(labels)
    if len(text) * 4 <= PREDICTION_BYTES:  # no character takes more than four bytes
        return text
    encoded = text.encode(errors="replace")  # a plug-in may hand over what UTF-8 cannot hold
    if len(encoded) <= PREDICTION_BYTES:
        return encoded.decode()
    kept = encoded[: PREDICTION_BYTES - _DIGEST_CHARS - 1].decode(errors="ignore")
    return f"{kept}~{blake2b(encoded, digest_size=_DIGEST_CHARS // 2).hexdigest()}"


@dataclass(frozen=True, slots=True)
class RawRequest:
    """One complete request: `target` is the request target as sent, header names are lower-case."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """One complete answer of a Variant; header names are lower-case, the body is as sent (not inflated)."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What an adapter could tell of a request. `rows` is the batch size, 0 when unknown."""

    model: str | None = None
    version: str | None = None
    id: str | None = None
    rows: int = 0


class StreamEvent(NamedTuple):
    """What one event of a streamed answer brought.

    `text` is what the model wrote, also the arguments of a call, and empty for bookkeeping; `finish` is why a choice
    ended, empty while it goes on.
    """

    text: str = ""
    finish: str = ""


@dataclass(frozen=True, slots=True)
class Generated:
    """What a language model wrote: one text and one reason to stop for each choice, in order.

    A reason may be empty. `tokens` is how many the server says it made, None if it does not say.
    """

    texts: tuple[str, ...]
    finishes: tuple[str, ...] = ()
    tokens: int | None = None


class Prediction(NamedTuple):
    """What a model said: one label and one score per row of the batch; either may be empty.

    Labels are text (a class, a rounded number), scores are what the model thinks of that label (a probability, a
    regression value). A score is finite. `vectors` are the finite numbers behind each row where the protocol shows
    some: class probabilities in the order of the classes, an embedding. `generated` is the full text behind labels.
    """

    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    vectors: tuple[tuple[float, ...], ...] = ()
    generated: Generated | None = None


class Answer(NamedTuple):
    """One Variant's answer, ready to be compared. `prediction` is None when the adapter reads none.

    `body` is there for comparators that read it themselves. A NamedTuple, as Prediction and Comparison are: gateways
    make some for each pair, and a frozen dataclass takes two to three times as long to make.
    """

    status: int
    body_bytes: int
    digest: str
    prediction: Prediction | None = None
    body: bytes = b""

    def __repr__(self) -> str:
        return f"<Answer {self.status}, {self.body_bytes} bytes, {self.prediction}>"
