"""Streamed answers are read while they pass: what they say and when they began, in bounded memory, by turns."""

import asyncio
import json
import statistics
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from model_adapters.comparators.label import Label
from model_adapters.comparators.text import Text
from model_adapters.openai import OpenAI
from router.core.config import RecorderConfig
from router.core.inference import Prediction, RawAnswer, StreamEvent
from router.core.observations import Generation, Outcome
from router.core.ports import ModelAdapter
from router.gateway.table import LiveTable
from tests.gateway.bench import Bench, Gateway, route_of, started, until
from tests.gateway.clients import request
from tests.gateway.upstreams import Script, Visit, never, ok

KIB, MIB = 2**10, 2**20
OPENAI = OpenAI()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"completion_tokens": 7}}


def piece(data: bytes) -> bytes:
    """Return one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(body: object) -> bytes:
    """Return one event of a stream, in a chunk of its own."""
    return piece(b"data: %b\n\n" % json.dumps(body).encode())


def says(text: str, **more: object) -> bytes:
    """Return the event in which a model writes this; `more` makes it longer without a word."""
    return event({"choices": [{"index": 0, "delta": {"content": text}}], **more})


def streaming(pieces: Callable[[Visit], AsyncIterator[bytes]]) -> Script:
    """Return a script that answers each request with a stream of these chunks."""

    async def script(visit: Visit) -> None:
        async for _ in visit.requests():
            await visit.send(HEAD)
            async for one in pieces(visit):
                await visit.send(one)
            await visit.send(END)

    return script


def writing(*words: str, wait_s: float = 0.0) -> Script:
    """Return a script whose model writes these words, the first one after a while, and says that it has stopped."""

    async def pieces(_: Visit) -> AsyncIterator[bytes]:
        yield event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        if wait_s:  # how long a model thinks is what is measured; uvloop's clock may be a millisecond ahead
            await asyncio.sleep(wait_s + 0.001)
        for word in words:
            yield says(word)
        yield event(STOP)
        yield piece(b"data: [DONE]\n\n")

    return streaming(pieces)


class Endless:
    """A script that writes until it is left; `left` is set then."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, visit: Visit) -> None:
        """Serve one request."""
        await visit.request()
        await visit.send(HEAD + says("and "))
        self.began.set()
        await visit.gone()
        self.left.set()


async def shadowed(
    bench: Bench,
    stable: Script,
    candidate: Script,
    *,
    adapter: ModelAdapter = OPENAI,
    comparator: str = "label",
    answer_bytes: int = 8 * MIB,
) -> Gateway:
    """Return a gateway at shadow 100 % in front of two language models, with so much room for answers."""
    variants = [await bench.upstream(stable), await bench.upstream(candidate)]
    return await bench.gateway(
        route_of(*variants, adapter="openai", comparator=comparator),
        states=[started(0, 10_000)],
        adapters={"openai": adapter},
        comparators={"label": Label(), "text": Text()},
        recorder=RecorderConfig(answer_bytes, answer_bytes),
    )


async def test_a_pair_of_streams_has_texts_tokens_ends_and_first_tokens(bench: Bench) -> None:
    """Both sides, each by its own clock; the event without a word before is no token."""
    gateway = await shadowed(bench, writing("Hel", "lo", wait_s=0.05), writing("Hi", wait_s=0.2))
    client = await bench.client()
    answer = await client.ask("POST", "/", b"{}")
    assert answer.body.endswith(b"data: [DONE]\n\n")
    (pair,) = await gateway.pairs(1)
    assert [side.outcome for side in (pair.stable, pair.candidate)] == [Outcome.OK, Outcome.OK]
    assert [side.label for side in (pair.stable, pair.candidate)] == ["Hello", "Hi"]
    assert pair.comparison.same is False
    first, other = pair.stable.generation, pair.candidate.generation
    assert first is not None
    assert other is not None
    assert (first[1:], other[1:]) == ((7, "stop"), (7, "stop"))
    assert first.first_token_ms is not None
    assert other.first_token_ms is not None
    assert 50 <= first.first_token_ms <= pair.stable.latency_ms
    assert 200 <= other.first_token_ms <= pair.candidate.latency_ms
    assert first.first_token_ms < 200


async def test_an_answer_that_is_no_stream_is_read_at_its_end_as_ever(bench: Bench) -> None:
    """Beside a stream of the same text: the same; its generation has no first token."""
    whole = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}], "usage": {"completion_tokens": 2}}

    async def answering(visit: Visit) -> None:
        async for _ in visit.requests():
            await visit.send(ok(json.dumps(whole).encode(), "Content-Type: application/json"))

    gateway = await shadowed(bench, answering, writing("Hello"))
    await (await bench.client()).ask("POST", "/", b"{}")
    (pair,) = await gateway.pairs(1)
    assert pair.comparison.same is True
    assert pair.stable.generation == Generation(None, 2, "stop")
    assert pair.candidate.generation is not None
    assert pair.candidate.generation.first_token_ms is not None


@pytest.mark.slow
async def test_a_long_stream_is_held_in_a_fraction_of_its_bytes(bench: Bench) -> None:
    """4 MiB of events with little text, on each side, pass through 1 MiB for both; the pair knows what they said."""
    events = 4_096

    async def pieces(_: Visit) -> AsyncIterator[bytes]:
        for number in range(events):
            yield says(f"{number % 10}", padding="x" * 1_000)
            if number % 16 == 15:
                await asyncio.sleep(0.005)  # a model's pace, of at most 3 MiB/s
        yield event(STOP)

    most = 0
    gateway = await shadowed(bench, streaming(pieces), streaming(pieces), answer_bytes=MIB)
    answers, tick = gateway.worker.recorder.answers, gateway.worker.recorder.tick

    def watched(table: LiveTable) -> bool:
        nonlocal most
        most = max(most, answers.held_bytes)
        return tick(table)

    gateway.worker.recorder.tick = watched  # type: ignore[method-assign]
    client = await bench.client()
    await client.send(request("POST", "/", b"{}"))
    answer = await client.answer("POST", within_s=20)
    assert len(answer.body) > 4 * MIB
    (pair,) = await gateway.pairs(1, within_s=20)
    assert pair.comparison.same is True, pair.comparison
    assert pair.stable.body_bytes == len(answer.body)
    assert 0 < most <= MIB
    assert not answers.drops


async def test_a_stream_that_finds_no_room_is_not_compared_and_says_so(bench: Bench) -> None:
    """The client has all of it; the pair has the reason, and nothing is held any more."""
    text = "x" * 20_000
    gateway = await shadowed(bench, writing(text), writing(text), answer_bytes=8 * KIB)
    answer = await (await bench.client()).ask("POST", "/", b"{}")
    assert len(answer.body) > 20_000
    (pair,) = await gateway.pairs(1)
    assert (pair.comparison.same, pair.comparison.reason) == (None, "size: too_long")
    assert pair.stable.outcome is Outcome.OK


async def test_long_texts_are_compared_beside_the_worker(bench: Bench) -> None:
    """What was heard of both streams goes to the comparing process, which tells the texts apart."""
    words = [f"word{number} " for number in range(4_000)]
    gateway = await shadowed(bench, writing(*words), writing(*words[:-1], "end"), comparator="text")
    await (await bench.client()).ask("POST", "/", b"{}")
    (pair,) = await gateway.pairs(1, within_s=15)
    assert gateway.worker.recorder.large.pid is not None
    assert pair.comparison.same is False, pair.comparison
    assert pair.stable.generation is not None
    assert (pair.stable.generation.tokens, pair.stable.generation.finish) == (7, "stop")
    assert pair.stable.label != pair.candidate.label


async def test_a_client_that_leaves_ends_both_streams(bench: Bench) -> None:
    """Nobody waits for what the models still write: live and copy are cancelled, and no failure of anybody."""
    stable, candidate = Endless(), Endless()
    gateway = await shadowed(bench, stable, candidate)
    client = await bench.client()
    await client.send(request("POST", "/", b"{}"))
    async with asyncio.timeout(3):
        await stable.began.wait()
        await candidate.began.wait()
        client.abort()
        await stable.left.wait()
        await candidate.left.wait()
    (pair,) = await gateway.pairs(1)
    assert (pair.stable.outcome, pair.candidate.outcome) == (Outcome.CANCELLED, Outcome.CANCELLED)
    assert gateway.outcomes() == {"cancelled": 1}
    assert pair.stable.label is None
    assert pair.stable.generation is not None
    assert pair.stable.generation.first_token_ms is not None


async def test_a_copy_that_begins_to_stream_after_the_client_has_left_ends_too(bench: Bench) -> None:
    """Until then nobody knows what it will be."""
    release, left = asyncio.Event(), asyncio.Event()

    async def late(visit: Visit) -> None:
        await visit.request()
        await release.wait()
        await visit.send(HEAD + says("and "))
        await visit.gone()
        left.set()

    gateway = await shadowed(bench, never, late)
    client = await bench.client()
    await client.send(request("POST", "/", b"{}"))
    await until(lambda: bench.upstreams[1].requests, "the copy is under way")
    client.abort()
    await until(lambda: gateway.outcomes() == {"cancelled": 1}, "the abort is seen")
    release.set()
    async with asyncio.timeout(3):
        await left.wait()
    (pair,) = await gateway.pairs(1)
    assert (pair.stable.outcome, pair.candidate.outcome) == (Outcome.CANCELLED, Outcome.CANCELLED)


@pytest.mark.parametrize(
    ("ending", "outcome", "reason"),
    [
        (END, Outcome.OK, "unreadable answer of candidate: answer: the stream ended before it was complete"),
        (event({"error": {"message": "secret"}}) + END, Outcome.OK, "unreadable answer of candidate"),
        # As LitServe 0.2.19 ends a stream whose model has failed: status 200, and no empty line behind the event.
        (piece(b'data: {"error": {"message": "Internal Server Error"}}') + END, Outcome.OK, "unreadable answer"),
        (b"", Outcome.RESET, "no answer of candidate: reset"),
        (b"zz\r\n", Outcome.MALFORMED, "no answer of candidate: malformed"),
    ],
    ids=["cut", "error", "litserve's error", "closed", "nonsense"],
)
async def test_a_stream_that_does_not_end_well_is_never_a_match(
    bench: Bench, ending: bytes, outcome: Outcome, reason: str
) -> None:
    """Its first token is known all the same."""

    async def failing(visit: Visit) -> None:
        await visit.request()
        await visit.send(HEAD + says("Hel") + ending)

    gateway = await shadowed(bench, writing("Hel"), failing)
    await (await bench.client()).ask("POST", "/", b"{}")
    (pair,) = await gateway.pairs(1)
    assert (pair.stable.outcome, pair.candidate.outcome) == (Outcome.OK, outcome)
    assert pair.comparison.same is None
    assert pair.comparison.reason.startswith(reason)
    assert pair.candidate.generation is not None
    assert pair.candidate.generation.first_token_ms is not None
    assert pair.candidate.generation.tokens is None


class Faulty(OpenAI):
    """Reads streams with a mistake in it."""

    def __init__(self, where: str) -> None:
        self._where = where

    def open_stream(self, _: RawAnswer) -> "FaultyStream":  # type: ignore[override] # a stranger's
        """Open one that fails, or fail."""
        if self._where == "open":
            raise ZeroDivisionError
        return FaultyStream(self._where)


class FaultyStream:
    """Fails where it is told to."""

    held_bytes = 0

    def __init__(self, where: str) -> None:
        self._where = where

    def feed(self, _: bytes) -> Sequence[StreamEvent]:
        """Read nothing."""
        if self._where == "feed":
            raise ZeroDivisionError
        return ()

    def end(self) -> Prediction:
        """Say nothing."""
        raise ZeroDivisionError


@pytest.mark.parametrize("where", ["open", "feed", "end"])
async def test_a_mistake_of_an_adapter_costs_its_reading_and_nothing_else(bench: Bench, where: str) -> None:
    """The client has its answer, and the next pair is made."""
    gateway = await shadowed(bench, writing("Hi"), writing("Hi"), adapter=Faulty(where))
    client = await bench.client()
    for _ in range(2):
        assert (await client.ask("POST", "/", b"{}")).status == 200
    for pair in await gateway.pairs(2):
        assert pair.stable.outcome is Outcome.OK
        if where == "open":  # it is read as a whole, at its end
            assert pair.comparison.same is True
        else:
            assert (pair.comparison.same, "ZeroDivisionError" in pair.comparison.reason) == (None, True)


@pytest.mark.slow
async def test_no_turn_of_the_loop_reads_streams_for_long(bench: Bench, figure: Callable[[str], None]) -> None:
    """A burst of 2 MiB of the shortest events, both sides: 2 ms of its time a turn, about, until all is read."""
    burst = piece(b"data: {}\n\n" * (2 * MIB // 10))

    async def pieces(_: Visit) -> AsyncIterator[bytes]:
        yield burst
        yield says("Hi")
        yield event(STOP)

    gateway = await shadowed(bench, streaming(pieces), streaming(pieces))
    taken_ms = gateway.recorder_turns_ms()
    client = await bench.client()
    await client.send(request("POST", "/", b"{}"))
    await client.answer("POST", within_s=20)
    (pair,) = await gateway.pairs(1, within_s=30)
    assert pair.comparison.same is True
    full_ms = sorted(one for one in taken_ms if one > 0.5)
    figure(f"{len(full_ms)} full turns: {statistics.median(full_ms):.2f} ms each, at most {full_ms[-1]:.2f} ms")
    assert len(full_ms) >= 50
    assert statistics.median(full_ms) < 2.5


class Surrogates(OpenAI):
    """Hears what UTF-8 cannot hold, as a stranger's adapter may."""

    def open_stream(self, head: RawAnswer) -> "SurrogateStream | None":  # type: ignore[override] # a stranger's
        """Open one if it is a stream."""
        return None if super().open_stream(head) is None else SurrogateStream()


class SurrogateStream:
    """Says the same long text, whatever it is fed."""

    held_bytes = 10_000

    def feed(self, _: bytes) -> Sequence[StreamEvent]:
        """Read nothing."""
        return ()

    def end(self) -> Prediction:
        """Say it."""
        return Prediction(("\ud800" * 10,))


async def test_a_text_that_utf_8_cannot_hold_is_compared_beside_the_worker_all_the_same(bench: Bench) -> None:
    """It goes there as escaped JSON, and does not end who sends it."""
    gateway = await shadowed(bench, writing("Hi"), writing("Hi"), adapter=Surrogates())
    client = await bench.client()
    for _ in range(2):
        assert (await client.ask("POST", "/", b"{}")).status == 200
    pairs = await gateway.pairs(2, within_s=15)
    assert gateway.worker.recorder.large.pid is not None
    assert [pair.stable.label for pair in pairs] == ["?" * 10] * 2
