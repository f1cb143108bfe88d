"""Plays a case against a server and judges what was seen.

In every case, whatever its outcome: no `/smuggled` upstream and nothing that the strict reader or h11 object to; to
the client nothing that the strict reader objects to, each answer to its own request, no 1xx in HTTP/1.0; and the next
request, on this connection if it stays and on a new one, gets its own answer.
"""

import asyncio
import contextlib
import itertools
from dataclasses import dataclass

from tests.http.cases import AnswerCase, Cut, Failed, Outcome, Relayed, Request, RequestCase, head
from tests.http.recorder import Recorder
from tests.http.strict import CutError, Message, Stream, UnreadableError, read_answer

WAIT_S = 3.0
"""How long an answer is waited for. Chosen: a local server needs a thousandth of it."""

OPEN, CLOSED, SILENT = "open", "closed", "silent"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one case has shown: final answers, interim ones, how the connection ended, requests upstream."""

    answers: tuple[Message, ...]
    interim: tuple[Message, ...]
    end: str
    upstream: tuple[Message, ...]
    faults: tuple[str, ...]

    def __str__(self) -> str:
        statuses = [f"{one.status}{'' if one.complete else ' cut short'}" for one in (*self.interim, *self.answers)]
        runs = [(status, len(list(run))) for status, run in itertools.groupby(statuses)]
        answers = " ".join(status if number == 1 else f"{number} times {status}" for status, number in runs)
        arrived = ", ".join(f"{one.method[:20]} {one.target[:40]}" for one in self.upstream)
        words = [answers or "no answer", self.end, f"upstream: {arrived}" if arrived else "", *self.faults[:2]]
        return "; ".join(filter(None, words))


class Peer:
    """One connection to the server under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait_s: float) -> None:
        self.wait_s = wait_s
        self._reader = reader
        self._writer = writer
        self.stream = Stream(self._more)
        self.interim: list[Message] = []

    @classmethod
    async def open(cls, port: int, wait_s: float) -> "Peer":
        """Connect; `wait_s` is how long it waits for more bytes."""
        return cls(*await asyncio.open_connection("127.0.0.1", port), wait_s)

    async def send(self, *pieces: bytes) -> None:
        """Send bytes as they are; a server that has closed is seen when its answer is read."""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                self._writer.write(piece)
                await self._writer.drain()
                if len(pieces) > 1:
                    await asyncio.sleep(0.0005)  # not to be sure, only to make pieces likely

    def end(self) -> None:
        """Say that nothing more is sent."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write_eof()

    async def _more(self) -> bytes:
        try:
            async with asyncio.timeout(self.wait_s):
                return await self._reader.read(2**18)
        except ConnectionError:
            return b""

    async def answer(self, method: str) -> Message:
        """Return the next final answer. Raises CutError, UnreadableError, TimeoutError."""
        while True:
            message = await read_answer(self.stream, method)
            if message.status >= 200 or message.status == 101:
                return message
            self.interim.append(message)

    async def ask(self, target: str) -> Message:
        """Return the answer to a plain request."""
        await self.send(head(f"GET {target} HTTP/1.1", "Host: a.test"))
        return await self.answer("GET")

    def close(self) -> None:
        """Close the connection."""
        self._writer.transport.abort()


async def play_request(case: RequestCase, port: int, recorder: Recorder, wait_s: float = WAIT_S) -> Seen:
    """Send the bytes of a case, and return what client and upstream have seen."""
    recorder.begin()
    peer = await Peer.open(port, wait_s)
    answers: list[Message] = []
    end = OPEN
    faults: list[str] = []
    try:
        await peer.send(*case.wire)
        if case.hangs_up:
            peer.end()
        if case.after_continue:
            await _continue(peer, case, answers)
        while len(answers) < case.answers:
            answers.append(await peer.answer(case.method if not answers else "GET"))
        end = await _stays(peer, faults) if not case.hangs_up else await _ends(peer)
    except (CutError, UnreadableError, TimeoutError) as error:
        end = _end_of(error)
    finally:
        peer.close()
    faults += await _next(port, recorder)
    faults += _objections(answers, peer.interim, version10=b" HTTP/1.0\r\n" in case.wire[0])
    upstream = tuple(recorder.requests)
    bodies = [one.body for one in answers if one.status == 200]
    if case.method != "HEAD" and len(bodies) == len(upstream) and bodies != [_echo(one) for one in upstream]:
        faults.append("an answer to another request")
    return Seen(tuple(answers), tuple(peer.interim), end, upstream, (*recorder.faults, *faults))


async def _continue(peer: Peer, case: RequestCase, answers: list[Message]) -> None:
    """Wait for 100 and send the body, or take the final answer that came instead."""
    message = await read_answer(peer.stream, case.method)
    if message.status == 100:
        peer.interim.append(message)
        await peer.send(case.after_continue)
    else:
        answers.append(message)


def _echo(message: Message) -> bytes:
    return message.target.encode("latin-1")


async def _stays(peer: Peer, faults: list[str]) -> str:
    """Return whether the connection serves another request."""
    try:
        answer = await peer.ask("/probe")
    except CutError:
        return CLOSED
    if (answer.status, answer.body) == (200, b"/probe"):
        return OPEN
    if answer.status == 200:
        faults.append(f"the next request on the connection got {answer.body[:40]!r}")
    return f"then {answer.status}"


async def _ends(peer: Peer) -> str:
    """Return how a connection ends on which the client will say nothing more."""
    answer = await peer.answer("GET")
    return f"then {answer.status}"


def _end_of(error: Exception) -> str:
    if isinstance(error, CutError):
        return CLOSED
    return SILENT if isinstance(error, TimeoutError) else f"not HTTP: {error}"


async def _next(port: int, recorder: Recorder) -> list[str]:
    """Return what is wrong with the next requests of another client, once the upstream has nothing half."""
    faults = []
    peer = await Peer.open(port, WAIT_S)
    try:
        for _ in range(2):
            answer = await peer.ask("/fresh")
            if (answer.status, answer.body) != (200, b"/fresh"):
                faults.append(f"another client got {answer.status} {answer.body[:20]!r}")
                break
    except (CutError, UnreadableError, TimeoutError) as error:
        faults.append(f"another client got no answer ({_end_of(error)})")
    finally:
        peer.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WAIT_S):
            while recorder.unfinished:  # noqa: ASYNC110 - a poll
                await asyncio.sleep(0.002)
    if recorder.unfinished:
        faults.append("half a request waits upstream")
    return faults


def _objections(answers: list[Message], interim: list[Message], *, version10: bool) -> list[str]:
    faults = [f"to the client: {fault}" for one in (*interim, *answers) for fault in one.faults]
    if version10 and interim:
        faults.append("1xx to a client of HTTP/1.0")
    if version10 and any(one.all("transfer-encoding") for one in answers):
        faults.append("Transfer-Encoding to a client of HTTP/1.0")
    return faults


def judge_request(case: RequestCase, seen: Seen) -> str:
    """Return what is wrong, "" when nothing is."""
    if seen.faults:
        return str(seen)
    if any(one.target == "/smuggled" for one in seen.upstream):
        return f"smuggled; {seen}"
    if any(_is_outcome(one, seen) for one in case.allowed):
        return ""
    pairs = [pair for one in case.allowed for pair in zip(one.upstream, seen.upstream, strict=False)]
    return _told(seen, [_wrong_fields(got, expected.fields, expected.without) for expected, got in pairs])


def _told(seen: Seen, wrong: list[str]) -> str:
    """Return what was seen, with the first thing that is wrong with fields or body."""
    return "; ".join([str(seen), *[one for one in wrong if one][:1]])


def _is_outcome(outcome: Outcome, seen: Seen) -> bool:
    return (
        len(outcome.statuses) == len(seen.answers)
        and all(one.status in allowed for one, allowed in zip(seen.answers, outcome.statuses, strict=True))
        and all(one.complete for one in seen.answers)
        and len(outcome.upstream) == len(seen.upstream)
        and all(_is_request(expected, one) for expected, one in zip(outcome.upstream, seen.upstream, strict=True))
        and outcome.interim <= {one.status for one in seen.interim}
        and seen.end in ({CLOSED} if outcome.closes else {OPEN} if outcome.closes is False else {OPEN, CLOSED})
    )


def _is_request(expected: Request, got: Message) -> bool:
    return (
        expected.method == got.method
        and expected.target in (None, got.target)
        and expected.body == got.body
        and not _wrong_fields(got, expected.fields, expected.without)
    )


def _wrong_fields(got: Message, fields: tuple[tuple[str, tuple[str, ...]], ...], without: tuple[str, ...]) -> str:
    """Return the first field that should have been otherwise, "" when there is none."""
    expected = (*fields, *((name, ()) for name in without))
    wrong = [(name, got.all(name)) for name, values in expected if tuple(got.all(name)) != values]
    if not wrong:
        return ""
    name, values = wrong[0]
    return f"{name}: {', '.join(values)[:40]}" if values else f"no {name}"


async def play_answer(case: AnswerCase, port: int, recorder: Recorder, wait_s: float = WAIT_S) -> Seen:
    """Ask for the answer of a case, then for others, and return what the client has seen."""
    recorder.begin(case)
    peer = await Peer.open(port, wait_s)
    answers: list[Message] = []
    faults: list[str] = []
    try:
        await peer.send(head(f"{case.method} /case HTTP/{case.version}", "Host: a.test", *case.fields))
        answers.append(await peer.answer(case.method))
        recorder.release.set()
        async with asyncio.timeout(wait_s):
            await recorder.answered.wait()
        end = await _stays(peer, faults) if answers[0].complete else CLOSED
    except (CutError, UnreadableError, TimeoutError) as error:
        end = _end_of(error)
    finally:
        recorder.release.set()
        peer.close()
    faults += await _next(port, recorder)
    faults += _objections(answers, peer.interim, version10=case.version == "1.0")
    return Seen(tuple(answers), tuple(peer.interim), end, (), (*recorder.faults, *faults))


def judge_answer(case: AnswerCase, seen: Seen) -> str:
    """Return what is wrong, "" when nothing is."""
    if not seen.faults and seen.end in (OPEN, CLOSED) and any(_is_end(one, seen) for one in case.allowed):
        return ""
    relayed = [one for one in case.allowed if isinstance(one, Relayed)]
    wrong = [_wrong_fields(seen.answers[0], one.fields, one.without) for one in relayed] if seen.answers else []
    return _told(seen, [*wrong, f"body {seen.answers[0].body[:40]!r}" if seen.answers else ""])


def _is_end(allowed: Relayed | Failed | Cut, seen: Seen) -> bool:
    if not seen.answers:
        return isinstance(allowed, Cut)
    got = seen.answers[0]
    if isinstance(allowed, Cut):
        return not got.complete
    if isinstance(allowed, Failed):
        return got.complete and got.status in allowed.statuses
    return (
        got.complete
        and got.status in allowed.statuses
        and got.body == allowed.body
        and not _wrong_fields(got, allowed.fields, allowed.without)
    )
