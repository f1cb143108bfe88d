"""What every adapter with the power `StreamReader` must keep of the answers that it reads as they pass."""

import random
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from router.core.errors import UnreadableError
from router.core.inference import Prediction, RawAnswer, StreamEvent
from router.core.ports import AnswerStream, StreamReader
from router.testing.expect import ensure, expect
from router.testing.hostile import HOSTILE_BODIES, damaged

CUTS = 20
"""Random ways in which a stream is cut, by fixed seeds."""

BYTEWISE = 4_096
"""Longest hostile stream that is fed byte by byte; each byte is a call."""

FED_BYTES, PIECE_BYTES = 2 * 2**20, 2**15

HELD_BYTES = 3 * 2**19
"""Most memory of one stream after FED_BYTES. Chosen: the openai adapter has limits of 1 MiB for an event and a text."""

Read = tuple[list[StreamEvent], Prediction | str]


def check_streams(
    adapter: StreamReader, answers: Sequence[RawAnswer], read_answer: Callable[[RawAnswer], Prediction | None]
) -> None:
    """Raise AssertionError with one sentence unless the streamed ones of `answers` are read as the contract says."""
    streamed = [answer for answer in answers if adapter.open_stream(replace(answer, body=b"")) is not None]
    ensure(streamed, "a StreamReader needs an example with a streamed answer")
    for answer in streamed:
        opened = _opener(adapter, replace(answer, body=b""))
        whole = _read(opened(), [answer.body])
        expect(read_answer(answer), whole[1], "a stream says what the same bytes say in one body")
        expect(whole, _read(opened(), _bytes(answer.body)), "a stream is read the same byte by byte")
        for seed in range(CUTS):
            expect(whole, _read(opened(), _pieces(answer.body, seed)), "a stream is read the same, cut anywhere")
        half = _read(opened(), [answer.body[: len(answer.body) // 2]])[1]
        ensure(isinstance(half, str), "a stream that was cut off in its middle is unreadable")
        for body in (*HOSTILE_BODIES, *damaged(answer.body)):
            cut = _bytes(body) if len(body) <= BYTEWISE else _pieces(body, 0)
            expect(_read(opened(), [body]), _read(opened(), cut), "a hostile stream is read the same, cut anywhere")
    answer = streamed[0]
    begin = answer.body[: answer.body.find(b"\n\n", len(answer.body) // 3) + 2]  # its first events, which end nothing
    for flood in (b"a", b"data: x\n", begin):
        _check_memory(_opener(adapter, replace(answer, body=b""))(), flood)


def _opener(adapter: StreamReader, head: RawAnswer) -> Callable[[], AnswerStream]:
    def opened() -> AnswerStream:
        stream = adapter.open_stream(head)
        if stream is None:
            raise AssertionError("open_stream says the same of one head each time")
        return stream

    return opened


def _read(stream: AnswerStream, pieces: Sequence[bytes]) -> Read:
    """Return all events, and the end or the reason why there is none."""
    try:
        events = [event for piece in pieces for event in stream.feed(piece)]
    except Exception as error:
        raise AssertionError(f"feed never raises, not even {type(error).__name__}: {error}") from error
    ensure(all(isinstance(event, StreamEvent) for event in events), "feed gives StreamEvents")
    try:
        end: object = stream.end()
    except UnreadableError as error:
        return events, str(error)
    except Exception as error:
        raise AssertionError(f"end raises only UnreadableError, not {type(error).__name__}: {error}") from error
    if not isinstance(end, Prediction):
        raise AssertionError(f"end gives a Prediction, not {type(end).__name__}")  # noqa: TRY004
    return events, end


def _bytes(body: bytes) -> list[bytes]:
    return [body[at : at + 1] for at in range(len(body))]


def _pieces(body: bytes, seed: int) -> list[bytes]:
    drawn = random.Random(seed)  # noqa: S311 - the same each time
    cuts = [0, *sorted(drawn.randrange(len(body) + 1) for _ in range(drawn.randrange(1, 9))), len(body)]
    return [body[start:end] for start, end in pairwise(cuts)]


def _check_memory(stream: AnswerStream, flood: bytes) -> None:
    piece = flood * (PIECE_BYTES // max(1, len(flood)) + 1)
    tracemalloc.start()
    try:
        for _ in range(FED_BYTES // len(piece)):
            stream.feed(piece)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    ensure(held <= HELD_BYTES, f"a stream holds at most {HELD_BYTES} bytes; after {flood[:20]!r} repeated: {held}")
