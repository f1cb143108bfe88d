"""The demo's traffic: sent on schedule by known users, every request counted once, latency from the intended start."""

from __future__ import annotations

import asyncio
import json
import math
import random
import socket
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from router.demo import traffic as traffic_module
from router.demo.connections import Call, Connections, Response
from router.demo.tally import PhaseCount, Snapshot, snapshot_of
from router.demo.traffic import Sample, Traffic, samples

PATH = "/v2/models/digits/infer"
IMAGES = [[float(label)] * 64 for label in range(10)]
INPUTS = samples(IMAGES, range(10))


@dataclass(frozen=True, slots=True)
class Received:
    """One request as the stub gateway saw it."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def digit(self) -> int:
        """The label that INPUTS gives this image: its pixels' value."""
        return int(json.loads(self.body)["inputs"][0]["data"][0])


Reply = Callable[[Received], bytes]


def answer(label: object, variant: str = "stable", *extra: str) -> bytes:
    """Return the bytes of a 200 with this label."""
    body = json.dumps({"outputs": [{"name": "label", "datatype": "INT64", "shape": [1], "data": [label]}]})
    lines = [f"x-turnout-variant: {variant}", f"content-length: {len(body)}", *extra]
    return ("HTTP/1.1 200 OK\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n" + body).encode()


def right(request: Received) -> bytes:
    """Answer every digit correctly, as stable."""
    return answer(request.digit)


@dataclass(slots=True)
class StubGateway:
    """A real HTTP server on a real socket. `reply` makes each answer; empty bytes close the connection instead."""

    reply: Reply = right
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    open_now: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    @property
    def url(self) -> str:
        """The address of the inference call."""
        return f"http://127.0.0.1:{self.port}{PATH}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[StubGateway]:
        """Serve within the block; answers wait while `open_now` is not set."""
        self.open_now.set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.open_now.set()
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._serve_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = dict(one.split(": ", 1) for one in fields)
        body = await reader.readexactly(int(headers["content-length"]))
        request = Received(line, headers, body)
        self.received.append(request)
        await self.open_now.wait()
        reply = self.reply(request)
        writer.write(reply)
        return bool(reply)


async def until(condition: Callable[[], bool], deadline_s: float = 10.0) -> None:
    """Return once the condition holds; fail after the deadline."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - counters wake nobody
            await asyncio.sleep(0.002)


async def run_until_sent(gateway: StubGateway, count: int, *, rate_per_s: float = 1000.0, seed: int = 1) -> Snapshot:
    """Return the counters of a run that ended after about `count` requests."""
    traffic = Traffic(gateway.url, INPUTS, rate_per_s, users=50, seed=seed)
    traffic.start()
    await until(lambda: traffic.snapshot().sent >= count)
    await traffic.stop()
    return traffic.snapshot()


async def test_requests_leave_on_the_schedule() -> None:
    """After t seconds at rate r, about r t requests have left: never ahead, and hardly behind."""
    async with StubGateway().running() as gateway:
        snapshot = await run_until_sent(gateway, 200, rate_per_s=400.0)

    assert snapshot.seconds * 400.0 * 0.9 < snapshot.sent <= snapshot.seconds * 400.0 + 1
    assert snapshot.sent == snapshot.answers == len(gateway.received)
    assert (snapshot.client_errors, snapshot.in_flight, snapshot.skipped) == (0, 0, 0)


async def test_each_request_says_who_asks_and_what() -> None:
    """Path, content type, a user of the population and a request id that no other request has."""
    async with StubGateway().running() as gateway:
        await run_until_sent(gateway, 100)

    ids = [request.headers["x-request-id"] for request in gateway.received]
    users = {request.headers["x-user-id"] for request in gateway.received}
    assert {request.line for request in gateway.received} == {f"POST {PATH} HTTP/1.1"}
    assert {request.headers["content-type"] for request in gateway.received} == {"application/json"}
    assert {request.headers["host"] for request in gateway.received} == {f"127.0.0.1:{gateway.port}"}
    assert len(set(ids)) == len(ids)
    assert users <= {f"user-{number}" for number in range(50)}
    assert len(users) > 30  # 100 draws from 50 users miss 13 % of them on average


async def test_the_seed_alone_decides_what_is_sent() -> None:
    """Two runs with one seed send the same digits by the same users in the same order; another seed does not."""
    runs: list[list[tuple[str, int]]] = []
    for seed in (1, 1, 2):
        async with StubGateway().running() as gateway:
            await run_until_sent(gateway, 60, seed=seed)
        sent = sorted(gateway.received, key=lambda one: int(one.headers["x-request-id"].rpartition("-")[2]))
        runs.append([(one.headers["x-user-id"], one.digit) for one in sent[:60]])

    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


async def test_inputs_go_out_in_rounds() -> None:
    """In any full round each input is sent exactly once, so no digit is rarer in the traffic than in the data."""
    async with StubGateway().running() as gateway:
        await run_until_sent(gateway, 50)

    sent = sorted(gateway.received, key=lambda one: int(one.headers["x-request-id"].rpartition("-")[2]))
    assert [sorted(one.digit for one in sent[start : start + 10]) for start in range(0, 50, 10)] == [
        list(range(10))
    ] * 5


async def test_connections_are_kept_and_used_again() -> None:
    """A steady rate needs a few connections, not one for each request."""
    async with StubGateway().running() as gateway:
        snapshot = await run_until_sent(gateway, 300)

    assert snapshot.answers >= 300
    assert gateway.connections <= 64  # the pool's limit; each reused: fewer than a quarter of the requests


async def test_an_idle_connection_the_server_closes_is_no_client_error() -> None:
    """Answers with `connection: close` cost a new connection each, and nothing else."""
    gateway = StubGateway(lambda request: answer(request.digit, "stable", "connection: close"))
    async with gateway.running():
        snapshot = await run_until_sent(gateway, 60, rate_per_s=300.0)

    assert snapshot.client_errors == 0
    assert snapshot.answers == gateway.connections == len(gateway.received)


async def test_answers_are_counted_by_variant_and_by_the_real_label() -> None:
    """A candidate that takes every 8 for a 3 is seen to be right on nine digits of ten."""

    def reply(request: Received) -> bytes:
        if request.headers["x-user-id"] == "user-1":
            return answer(3 if request.digit == 8 else request.digit, "candidate")
        return answer(request.digit, "stable")

    async with StubGateway(reply).running() as gateway:
        snapshot = await run_until_sent(gateway, 400)

    mine = [one.digit for one in gateway.received if one.headers["x-user-id"] == "user-1"]
    stable, candidate = snapshot.variants["stable"], snapshot.variants["candidate"]
    assert (candidate.answers, candidate.right) == (len(mine), len(mine) - mine.count(8))
    assert stable.right == stable.answers == snapshot.answers - len(mine)


async def test_a_mark_begins_a_new_phase() -> None:
    """Requests count in the phase in which they left, even if the answer comes in the next."""
    gateway = StubGateway()
    async with gateway.running():
        traffic = Traffic(gateway.url, INPUTS, 500.0, users=50, seed=1)
        traffic.mark("shadow")
        traffic.start()
        await until(lambda: traffic.snapshot().answers >= 20)
        gateway.open_now.clear()
        await until(lambda: traffic.snapshot().in_flight >= 5)
        before = traffic.snapshot()
        traffic.mark("canary 10%")
        gateway.open_now.set()
        await until(lambda: traffic.snapshot().phases[2].answers >= 20)
        await traffic.stop()

    start, shadow, canary = traffic.snapshot().phases
    assert (start.name, shadow.name, canary.name) == ("start", "shadow", "canary 10%")
    assert start.answers == 0
    assert shadow.answers == before.sent
    assert canary.answers == traffic.snapshot().sent - before.sent


FAILURES: dict[str, tuple[Reply, str]] = {
    "a status": (lambda _: b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", "status_503"),
    "a status with keep-alive off": (
        lambda _: b"HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        "status_502",
    ),
    "no answer": (lambda _: b"", "closed"),
    "no HTTP": (lambda _: b"SSH-2.0-OpenSSH\r\n\r\n", "malformed"),
    "two answers": (lambda request: answer(request.digit) * 2, "malformed"),
    "no JSON": (lambda _: b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "unreadable"),
    "no label": (lambda _: b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "unreadable"),
    "a label of text": (lambda _: answer("8"), "unreadable"),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_anything_but_a_readable_200_is_a_client_error(case: str) -> None:
    """Each failed request is counted exactly once, with its reason, and never as an answer."""
    reply, reason = FAILURES[case]
    async with StubGateway(reply).running() as gateway:
        snapshot = await run_until_sent(gateway, 30)

    assert dict(snapshot.errors) == {reason: snapshot.sent}
    assert (snapshot.answers, snapshot.client_errors, snapshot.in_flight) == (0, snapshot.sent, 0)


async def test_a_failed_request_is_never_sent_again() -> None:
    """The gateway sees each request id once, also when it closes the connection without an answer."""
    async with StubGateway(lambda request: b"" if request.digit % 2 else right(request)).running() as gateway:
        snapshot = await run_until_sent(gateway, 60)

    ids = Counter(request.headers["x-request-id"] for request in gateway.received)
    assert ids.total() == len(ids) == snapshot.sent
    assert snapshot.errors["closed"] == sum(request.digit % 2 for request in gateway.received)


async def test_a_gateway_that_is_not_there_is_a_client_error_for_each_request() -> None:
    """A refused connection fails the request that needed it, at once."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    traffic = Traffic(f"http://127.0.0.1:{port}{PATH}", INPUTS, 500.0, users=5, seed=1)
    traffic.start()
    await until(lambda: traffic.snapshot().client_errors >= 30)
    await traffic.stop()

    snapshot = traffic.snapshot()
    assert dict(snapshot.errors) == {"connect": snapshot.sent}


async def test_interim_and_chunked_responses_are_read() -> None:
    """A 100 before the answer is passed over, and a body in chunks is put together."""

    def reply(request: Received) -> bytes:
        _, _, body = right(request).partition(b"\r\n\r\n")
        head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        chunks = (body[:7], body[7:])
        return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"

    async with StubGateway(reply).running() as gateway:
        snapshot = await run_until_sent(gateway, 60)

    assert snapshot.client_errors == 0
    assert snapshot.variants["unknown"].right == snapshot.sent
    assert gateway.connections < snapshot.sent


async def test_latency_counts_from_the_intended_start() -> None:
    """Requests that were due while the gateway stood still carry their whole wait, also those not yet sent."""
    gateway = StubGateway()
    async with gateway.running():
        traffic = Traffic(gateway.url, INPUTS, 500.0, users=50, seed=1)
        gateway.open_now.clear()
        began_s = time.monotonic()
        traffic.start()
        # More than the 64 connections, so that some requests cannot even leave.
        await until(lambda: traffic.snapshot().in_flight >= 150)
        stalled_ms = (time.monotonic() - began_s) * 1000.0
        traffic.mark("after the stall")
        gateway.open_now.set()
        await traffic.stop()

    latency = traffic.snapshot().phases[0].variants["stable"].latency
    assert len(gateway.received) >= 150
    # Evenly due during the stall: the first waited all of it, the middle one half of it.
    assert stalled_ms <= latency.max_ms < stalled_ms + 500.0
    assert stalled_ms * 0.45 < latency.p50_ms < stalled_ms * 0.5 + 500.0


async def test_a_late_sender_counts_its_own_lateness() -> None:
    """Requests that this process itself sent 100 ms late carry the delay: the gateway is not flattered."""
    async with StubGateway().running() as gateway:
        traffic = Traffic(gateway.url, INPUTS, 500.0, users=50, seed=1)
        traffic.start()
        await until(lambda: traffic.snapshot().answers >= 10)
        traffic.mark("late")
        time.sleep(0.1)  # noqa: ASYNC251 - the lateness itself
        await until(lambda: traffic.snapshot().phases[1].answers >= 50)
        await traffic.stop()

    latency = traffic.snapshot().phases[1].variants["stable"].latency
    assert latency.max_ms >= 95.0
    assert traffic.snapshot().skipped == 0


async def test_what_a_suspended_process_missed_is_skipped_not_sent_in_one_burst(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Arrivals that passed while this process stood still are counted as skipped; the schedule goes on after them."""
    monkeypatch.setattr(traffic_module, "MAX_LATE_S", 0.05)
    async with StubGateway().running() as gateway:
        traffic = Traffic(gateway.url, INPUTS, 1000.0, users=50, seed=1)
        traffic.start()
        await until(lambda: traffic.snapshot().answers >= 10)
        time.sleep(0.2)  # noqa: ASYNC251 - the standstill itself: nothing of this process runs
        behind = traffic.snapshot().sent
        await until(lambda: traffic.snapshot().skipped > 0)
        resumed = traffic.snapshot()
        await traffic.stop()

    assert resumed.skipped >= 195
    assert resumed.sent - behind < 50
    assert resumed.client_errors == 0


async def test_what_is_due_while_too_many_are_under_way_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that stands still gets no endless queue; the schedule's own clock stands still meanwhile."""
    monkeypatch.setattr(traffic_module, "MOST_IN_FLIGHT", 20)
    gateway = StubGateway()
    async with gateway.running():
        gateway.open_now.clear()
        traffic = Traffic(gateway.url, INPUTS, 1000.0, users=50, seed=1)
        traffic.start()
        await until(lambda: traffic.snapshot().skipped >= 50)
        stalled = traffic.snapshot()
        assert traffic.offered_s == stalled.sent / 1000.0
        gateway.open_now.set()
        await until(lambda: traffic.snapshot().answers > stalled.sent)
        await traffic.stop()

    assert traffic.snapshot().answers >= 20
    assert stalled.in_flight == stalled.sent
    assert traffic.snapshot().client_errors == 0


async def test_labels_of_answered_requests_are_kept_for_feedback() -> None:
    """Each answered request gives its id and real label once, oldest first; a failed one gives none."""
    async with StubGateway(lambda request: b"" if request.digit == 4 else answer(0)).running() as gateway:
        traffic = Traffic(gateway.url, INPUTS, 500.0, users=50, seed=1)
        traffic.start()
        await until(lambda: traffic.snapshot().sent >= 40)
        await traffic.stop()

    taken = [*traffic.take_labels(7), *traffic.take_labels()]
    sent = {request.headers["x-request-id"]: request.digit for request in gateway.received}
    assert {one.request_id: one.label for one in taken} == {i: digit for i, digit in sent.items() if digit != 4}
    assert len(taken) == traffic.snapshot().answers
    assert traffic.take_labels() == ()


async def test_kept_labels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody takes them, the oldest labels go."""
    monkeypatch.setattr(traffic_module, "MAX_LABELS", 10)
    async with StubGateway().running() as gateway:
        traffic = Traffic(gateway.url, INPUTS, 500.0, users=50, seed=1)
        traffic.start()
        await until(lambda: traffic.snapshot().answers >= 30)
        await traffic.stop()

    last = max(int(one.headers["x-request-id"].rpartition("-")[2]) for one in gateway.received)
    kept = traffic.take_labels()
    assert len(kept) == 10
    assert f"demo-1-{last}" in {one.request_id for one in kept}


async def test_stop_waits_for_open_answers_and_then_gives_up() -> None:
    """What is answered within the drain time counts as answered, the rest as closed; nothing stays open."""
    gateway = StubGateway()
    async with gateway.running():
        traffic = Traffic(gateway.url, INPUTS, 500.0, users=50, seed=1)
        traffic.start()
        await until(lambda: traffic.snapshot().answers >= 10)
        gateway.open_now.clear()
        await until(lambda: traffic.snapshot().in_flight >= 10)
        await traffic.stop(drain_s=0.05)
        after = traffic.snapshot()
        await traffic.stop()

    assert after.errors["closed"] >= 10
    assert after.sent == after.answers + after.client_errors
    assert traffic.snapshot() == after  # nothing goes on after stop, and time has stopped too


async def test_an_error_in_sending_is_raised_by_stop() -> None:
    """A sender that broke does not end in silence."""
    async with StubGateway().running() as gateway:
        bad = Sample(body=None, label=0)  # type: ignore[arg-type]
        traffic = Traffic(gateway.url, [bad], 500.0, users=5, seed=1)
        traffic.start()
        await asyncio.sleep(0)  # one turn of the loop, in which the sender breaks
        with pytest.raises(TypeError):
            await traffic.stop()


async def test_a_traffic_starts_once() -> None:
    """A second start is a mistake, not a second stream."""
    async with StubGateway().running() as gateway:
        traffic = Traffic(gateway.url, INPUTS, 100.0, users=5, seed=1)
        traffic.start()
        with pytest.raises(RuntimeError, match="started before"):
            traffic.start()
        await traffic.stop()


@pytest.mark.parametrize("url", ["https://127.0.0.1/infer", "127.0.0.1:8080/infer", "http:///infer", ""])
def test_an_address_that_is_not_plain_http_is_refused(url: str) -> None:
    """The error shows what was given and what is expected."""
    with pytest.raises(ValueError, match="expected plain http"):
        Traffic(url, INPUTS, 100.0, users=5, seed=1)


@pytest.mark.parametrize(
    ("rate_per_s", "users", "inputs"), [(0.0, 5, INPUTS), (-1.0, 5, INPUTS), (1.0, 0, INPUTS), (1.0, 5, ())]
)
def test_a_traffic_of_nothing_is_refused(rate_per_s: float, users: int, inputs: tuple[Sample, ...]) -> None:
    """No rate, no users or no inputs is an error before anything starts."""
    with pytest.raises(ValueError, match="at least one input and user and a positive rate"):
        Traffic("http://127.0.0.1:1/infer", inputs, rate_per_s, users, seed=1)


async def test_calls_beyond_the_limits_wait_and_then_overflow() -> None:
    """One connection carries one call, one call waits, the third fails at once; the first two are answered in order."""
    ended: list[str] = []

    def call(name: str) -> Call:
        payload = b"POST / HTTP/1.1\r\nhost: stub\r\ncontent-length: 0\r\nx-name: %b\r\n\r\n" % name.encode()
        return Call(
            payload,
            0.0,
            on_response=lambda response: ended.append(f"{name} {response.status}"),
            on_failure=lambda reason: ended.append(f"{name} {reason}"),
        )

    gateway = StubGateway(lambda _: b"HTTP/1.1 204 No Content\r\n\r\n")
    async with gateway.running():
        gateway.open_now.clear()
        connections = Connections("127.0.0.1", gateway.port, limit=1, waiting_limit=1)
        connections.submit(call("first"))
        await until(lambda: len(gateway.received) == 1)
        connections.submit(call("second"))
        connections.submit(call("third"))
        refused = list(ended)
        gateway.open_now.set()
        await until(lambda: len(ended) == 3)
        connections.close()
        connections.submit(call("late"))

    assert refused == ["third overflow"]
    assert ended == ["third overflow", "first 204", "second 204", "late closed"]
    assert [request.headers["x-name"] for request in gateway.received] == ["first", "second"]
    assert gateway.connections == 1


async def test_calls_that_were_due_too_long_ago_time_out() -> None:
    """An expired call fails, whether it was sent or still waits; a younger one goes on, on a connection of its own."""
    ended: list[tuple[float, str]] = []

    def call(due_s: float) -> Call:
        def answered(response: Response) -> None:
            ended.append((due_s, str(response.status)))

        def failed(reason: str) -> None:
            ended.append((due_s, reason))

        return Call(b"POST / HTTP/1.1\r\nhost: stub\r\ncontent-length: 0\r\n\r\n", due_s, answered, failed)

    gateway = StubGateway(lambda _: b"HTTP/1.1 204 No Content\r\n\r\n")
    async with gateway.running():
        gateway.open_now.clear()
        connections = Connections("127.0.0.1", gateway.port, limit=1)
        connections.submit(call(1.0))
        await until(lambda: len(gateway.received) == 1)
        connections.submit(call(2.0))
        connections.submit(call(3.0))
        connections.expire(2.5)
        timed_out = sorted(ended)
        gateway.open_now.set()
        await until(lambda: len(ended) == 3)
        connections.close()

    assert timed_out == [(1.0, "timeout"), (2.0, "timeout")]
    assert ended[2] == (3.0, "204")
    assert connections.in_flight == 0


def test_quantiles_are_within_the_cells_width() -> None:
    """Over five decades of latency the quantiles are within 2.5 % of those of the raw numbers."""
    dice = random.Random(3)
    latencies_ms = [10.0 ** dice.uniform(-1.5, 3.5) for _ in range(20_000)]
    phase = PhaseCount("test")
    for latency_ms in latencies_ms:
        phase.add_answer("stable", latency_ms, right=True, rescued=False)

    latency = phase.frozen().variants["stable"].latency

    cuts = statistics.quantiles(latencies_ms, n=100)
    for expected_ms, found_ms in ((cuts[49], latency.p50_ms), (cuts[89], latency.p90_ms), (cuts[98], latency.p99_ms)):
        assert abs(math.log(found_ms / expected_ms)) < 0.027
    assert latency.max_ms == max(latencies_ms)


def test_a_quantile_is_never_above_the_largest_latency() -> None:
    """With one answer all quantiles are that answer's, to the cell; without any they are 0."""
    phase = PhaseCount("test")
    assert phase.frozen().variants == {}
    phase.add_answer("stable", 1.0, right=True, rescued=False)

    one = phase.frozen().variants["stable"].latency

    assert 0.97 < one.p50_ms == one.p99_ms <= one.max_ms == 1.0


def test_a_snapshot_adds_the_phases_up_and_does_not_change() -> None:
    """The sums over phases and variants agree, and later counting leaves an earlier snapshot alone."""
    first, second = PhaseCount("shadow"), PhaseCount("canary")
    first.add_answer("stable", 1.0, right=True, rescued=False)
    second.add_answer("stable", 3.0, right=False, rescued=False)
    second.add_answer("candidate", 2.0, right=True, rescued=True)
    second.add_error("closed")

    snapshot = snapshot_of([first, second], seconds=1.0, sent=5, in_flight=1, skipped=0)
    second.add_error("closed")
    second.add_answer("candidate", 9.0, right=True, rescued=False)

    assert (snapshot.sent, snapshot.answers, snapshot.client_errors, snapshot.in_flight) == (5, 3, 1, 1)
    assert (snapshot.variants["stable"].answers, snapshot.variants["stable"].right) == (2, 1)
    assert snapshot.variants["stable"].latency.max_ms == 3.0
    assert snapshot.variants["candidate"].answers == snapshot.phases[1].variants["candidate"].answers == 1
    assert dict(snapshot.errors) == {"closed": 1}
    assert snapshot.rescued == snapshot.phases[1].rescued == 1
