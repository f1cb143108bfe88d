"""The strict recording upstream: it notes every request as it reads it, and answers with the target, or as a case says.

Its script is run by `tests.gateway.upstreams.Upstream`.
"""

import asyncio

import h11

from tests.gateway.upstreams import Visit, ok
from tests.http.cases import POISON, AnswerCase
from tests.http.strict import CutError, Message, Stream, UnreadableError, read_request

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CONTROL = ("/probe", "/fresh")
"""Targets of the player's own questions between and after the cases."""


class Recorder:
    """What arrived since `begin`; `case` is what a request for /case is answered with, None for its own target."""

    def __init__(self) -> None:
        self.case: AnswerCase | None = None
        self.requests: list[Message] = []
        self.faults: list[str] = []
        self.answered = asyncio.Event()
        """The case's answer is out, and so is its end."""
        self.release = asyncio.Event()
        """What comes late may be sent."""
        self._streams: set[Stream] = set()

    def __repr__(self) -> str:
        return f"<Recorder {len(self.requests)} requests, {self.unfinished} unfinished>"

    @property
    def unfinished(self) -> int:
        """How many connections are within a request."""
        return sum(stream.begun for stream in self._streams)

    def begin(self, case: AnswerCase | None = None) -> None:
        """Forget everything and go on with the next case."""
        self.case = case
        self.requests = []
        self.faults = []
        self.answered.clear()
        self.release.clear()

    async def script(self, visit: Visit) -> None:
        """Serve one connection."""
        stream = Stream(visit.read)
        self._streams.add(stream)
        try:
            while True:
                message = await read_request(stream, lambda: visit.send(CONTINUE))
                stream.cut_here()
                if message.target not in CONTROL:
                    self.requests.append(message)
                    self.faults += [*message.faults, *disagreement(message)]
                case = self.case
                if case is None or not message.target.endswith("/case"):
                    body = message.target.encode("latin-1")
                    await visit.send(ok(body)[: -len(body) if message.method == "HEAD" else None])
                elif not await self._play(case, visit):
                    return
        except CutError:
            return
        except UnreadableError as error:
            self.faults.append(str(error))
        finally:
            self._streams.discard(stream)

    async def _play(self, case: AnswerCase, visit: Visit) -> bool:
        """Answer as the case says; returns whether the connection goes on."""
        try:
            for piece in case.wire:
                await visit.send(piece)
                if len(case.wire) > 1:
                    await asyncio.sleep(0)  # not to be sure, only to make pieces likely
            if case.then == "reset":
                # What was sent must be out, or the reset takes it along.
                visit.writer.transport.set_write_buffer_limits(high=0)
                await visit.writer.drain()
                visit.reset()
            elif case.then == "late":
                await self.release.wait()
                await visit.send(POISON)
            elif case.then == "close":
                visit.writer.close()
                await visit.writer.wait_closed()
        except RuntimeError:  # uvloop's word for a transport that the peer's reset has closed
            return False
        finally:
            self.answered.set()
        return case.then in ("keep", "late")


def disagreement(message: Message) -> list[str]:
    """Return what h11, which others wrote, reads otherwise."""
    if not message.target.isascii():
        return []  # it takes no such target; whether one may be passed on is said by the case
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
    parser.receive_data(message.raw)
    body = b""
    try:
        event = parser.next_event()
        if not isinstance(event, h11.Request):
            return [f"h11 sees no request but {event!r}"]
        read = (event.method.decode(), event.target.decode())
        while not isinstance(event := parser.next_event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                return [f"h11 sees no end but {event!r}"]
            body += bytes(event.data)
    except h11.RemoteProtocolError as error:
        return [f"h11: {error}"]
    return [] if (*read, body) == (message.method, message.target, message.body) else [f"h11 reads {read}, {body!r}"]
