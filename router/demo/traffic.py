"""The demo's users: held-out digits with known labels, sent to the gateway at a steady rate.

The load is open: requests leave on a fixed schedule, and latency counts from the moment a request should
have left. A gateway that stalls is seen to stall, instead of quietly getting fewer requests. Only a machine that
cannot carry the rate at all is spared: what is due while MOST_IN_FLIGHT are under way is skipped, and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import orjson

from router.demo.connections import Call, Connections, Response
from router.demo.tally import PhaseCount, Snapshot, snapshot_of

FIRST_PHASE: Final = "start"
TIMEOUT_S: Final = 10.0  # chosen: far beyond a healthy answer, short enough for a demo to notice
EXPIRE_EVERY_S: Final = 0.25
MAX_LATE_S: Final = 2.0  # chosen: whoever is later than this was suspended, not busy
TIMER_S: Final = 0.002  # event loops wait in whole milliseconds: waking up this late is ours, not the gateway's
MOST_IN_FLIGHT: Final = 200  # chosen: a second of the demo's traffic, far from the 10 s at which a call fails
MAX_LABELS: Final = 20_000  # about 100 s of the demo's traffic, 3 MiB
MAX_VARIANTS: Final = 16  # the name comes from a header; a broken gateway shall not fill the memory
MAX_PHASES: Final = 1000
HEAD: Final = (
    b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"x-user-id: user-%d\r\nx-request-id: %b\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One input: the body of an inference request, and the answer that would be right."""

    body: bytes
    label: int


@dataclass(frozen=True, slots=True)
class Label:
    """The real answer to a request that got one, for feedback."""

    request_id: str
    label: int


@dataclass(frozen=True, slots=True)
class _Request:
    """What is remembered about a request on its way."""

    request_id: str
    label: int
    due_s: float
    phase: PhaseCount


def samples(images: Iterable[Sequence[float]], labels: Iterable[int]) -> tuple[Sample, ...]:
    """Return Open Inference Protocol requests of one image each (64 pixels), in the given order."""
    return tuple(Sample(_inference_body(image), label) for image, label in zip(images, labels, strict=True))


class Traffic:
    """A steady stream of predictions from a fixed population of users; what is sent follows from the seed.

    `url` is the address of the inference call (plain http), `users` the size of the population: users are
    drawn at random and sent as `x-user-id: user-0` ... . The inputs go out in shuffled rounds, each of them
    once a round. Request ids are `demo-<seed>-<n>`: two runs against one store need two seeds.
    """

    def __init__(
        self,
        url: str,
        inputs: Sequence[Sample],
        rate_per_s: float,
        users: int,
        seed: int,
    ) -> None:
        if not inputs or rate_per_s <= 0 or users < 1:
            given = f"{len(inputs)} inputs, {rate_per_s} requests/s, {users} users"
            raise ValueError(f"Traffic got {given}; it needs at least one input and user and a positive rate.")
        self._host, self._port, self._path = _address_of(url)
        self._host_header = f"{self._host}:{self._port}".encode()
        self._rate_per_s = rate_per_s
        self._users = users
        self._random = random.Random(seed)  # noqa: S311 - it must repeat, not surprise
        self._rounds = _shuffled_rounds(inputs, self._random)
        self._run = f"demo-{seed}"
        self._phase = PhaseCount(FIRST_PHASE)
        self._phases = {FIRST_PHASE: self._phase}
        self._variants: set[str] = set()
        self._labels: deque[Label] = deque(maxlen=MAX_LABELS)
        self._sent = 0
        self._skipped = 0
        self._in_flight = 0
        self._started_s = 0.0
        self._ended_s: float | None = None
        self._connections: Connections | None = None
        self._sending: asyncio.Task[None] | None = None
        self._drained = asyncio.Event()

    def __repr__(self) -> str:
        counts = f"{self._sent} sent, {self._in_flight} in flight"
        return f"<Traffic {self._rate_per_s:g}/s, {counts}, phase {self._phase.name!r}>"

    @property
    def in_flight(self) -> int:
        """Requests that have left and have no answer yet."""
        return self._in_flight

    @property
    def offered_s(self) -> float:
        """Seconds of the schedule that were carried out: less than by the clock where requests were skipped."""
        return self._sent / self._rate_per_s

    def start(self) -> None:
        """Begin to send, from within a running loop; the first request leaves at once. Call it once."""
        if self._sending is not None:
            raise RuntimeError("This traffic was started before; make a new Traffic for another run.")
        # Not the loop's clock: uvloop's stands still within a turn and counts whole milliseconds.
        self._started_s = time.monotonic()
        self._connections = Connections(self._host, self._port)
        self._sending = asyncio.get_running_loop().create_task(self._send_on_schedule(self._connections))

    async def stop(self, drain_s: float = 5.0) -> None:
        """Send no more, wait up to `drain_s` for the open answers, then fail the rest as `closed`.

        A second call does nothing. Raises what ended the sending, if something did. When cancelled, the
        connections are closed at once.
        """
        if self._sending is None or self._connections is None or self._ended_s is not None:
            return
        self._sending.cancel()
        try:
            await asyncio.wait([self._sending])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(drain_s):
                    await self._all_answered()
        finally:
            self._connections.close()
            self._ended_s = time.monotonic()
        if not self._sending.cancelled():
            self._sending.result()

    def mark(self, phase: str) -> None:
        """Count requests that leave from now on under this phase; a name used before goes on counting."""
        if phase not in self._phases and len(self._phases) >= MAX_PHASES:
            raise ValueError(f"There are {MAX_PHASES} phases already; {phase!r} would be one more.")
        self._phase = self._phases.setdefault(phase, PhaseCount(phase))

    def snapshot(self) -> Snapshot:
        """Return all counters as they stand, as values that do not change any more."""
        return snapshot_of(
            self._phases.values(),
            seconds=self._seconds(),
            sent=self._sent,
            in_flight=self._in_flight,
            skipped=self._skipped,
        )

    def take_labels(self, limit: int = 1000) -> tuple[Label, ...]:
        """Return, and forget, the labels of up to `limit` answered requests, oldest first.

        The last MAX_LABELS are kept; whoever takes them later has lost the older ones.
        """
        return tuple(self._labels.popleft() for _ in range(min(limit, len(self._labels))))

    def _seconds(self) -> float:
        if self._sending is None:
            return 0.0
        ended_s = time.monotonic() if self._ended_s is None else self._ended_s
        return ended_s - self._started_s

    async def _send_on_schedule(self, connections: Connections) -> None:
        arrival = 0  # the next request to send; it is due arrival / rate after the start
        expire_s = self._started_s + EXPIRE_EVERY_S
        while True:
            now_s = time.monotonic()
            due = int((now_s - self._started_s) * self._rate_per_s) + 1
            if due - arrival > MAX_LATE_S * self._rate_per_s + 1 or self._in_flight >= MOST_IN_FLIGHT:
                self._skipped += due - arrival
                arrival = due
            for number in range(arrival, due):
                due_s = self._started_s + number / self._rate_per_s
                self._send(connections, now_s if now_s - due_s <= TIMER_S else due_s)
            arrival = due
            if now_s >= expire_s:
                connections.expire(now_s - TIMEOUT_S)
                expire_s = now_s + EXPIRE_EVERY_S
            await asyncio.sleep(self._started_s + arrival / self._rate_per_s - time.monotonic())

    def _send(self, connections: Connections, due_s: float) -> None:
        """Send the next request, which was due at `due_s`."""
        sample = next(self._rounds)
        user = self._random.randrange(self._users)
        request_id = f"{self._run}-{self._sent}"
        head = self._path, self._host_header, len(sample.body), user, request_id.encode()
        payload = HEAD % head + sample.body
        request = _Request(request_id, sample.label, due_s, self._phase)
        self._sent += 1
        self._in_flight += 1
        connections.submit(Call(payload, due_s, partial(self._answered, request), partial(self._failed, request)))

    def _answered(self, request: _Request, response: Response) -> None:
        if response.status != 200:
            self._failed(request, f"status_{response.status}")
            return
        label = _label_of(response.body)
        if label is None:
            self._failed(request, "unreadable")
            return
        latency_ms = (time.monotonic() - request.due_s) * 1000.0
        request.phase.add_answer(
            self._variant_of(response),
            latency_ms,
            right=label == request.label,
            rescued="x-turnout-rescued" in response.headers,
        )
        self._labels.append(Label(request.request_id, request.label))
        self._ended()

    def _failed(self, request: _Request, reason: str) -> None:
        request.phase.add_error(reason)
        self._ended()

    def _ended(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._drained.set()

    async def _all_answered(self) -> None:
        while self._in_flight:
            self._drained.clear()
            await self._drained.wait()

    def _variant_of(self, response: Response) -> str:
        name = response.headers.get("x-turnout-variant", "unknown")
        if name not in self._variants and len(self._variants) >= MAX_VARIANTS:
            return "other"
        self._variants.add(name)
        return name


def _shuffled_rounds(inputs: Sequence[Sample], dice: random.Random) -> Iterator[Sample]:
    """Yield the inputs for ever: all of them in random order, then all again in another."""
    while True:
        yield from dice.sample(inputs, len(inputs))


def _inference_body(image: Sequence[float]) -> bytes:
    tensor = {"name": "image", "datatype": "FP64", "shape": [1, len(image)], "data": list(image)}
    return orjson.dumps({"inputs": [tensor]})


def _label_of(body: bytes) -> int | None:
    """Return the label of an Open Inference answer whose first output is the label; None if it has none."""
    try:
        label = orjson.loads(body)["outputs"][0]["data"][0]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return None
    return label if isinstance(label, int) else None


def _address_of(url: str) -> tuple[str, int, bytes]:
    """Return host, port and path; raises ValueError for anything but plain http."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(
            f"The address is {url!r}; expected plain http, such as http://127.0.0.1:8080/v2/models/digits/infer."
        )
    return parts.hostname, parts.port or 80, (parts.path or "/").encode()
