"""The line in front of a variant: bounded in number and time, in order, and nobody is sent who is too old."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from router.core.traffic import Timeouts, Variant
from tests.gateway.bench import Bench, Gateway, route_of, started, until
from tests.gateway.clients import Answer, Client, request
from tests.gateway.upstreams import Upstream, Visit, ok
from tests.stopwatch import Stopwatch

PLENTY_S = 60.0
"""A time that no test here lets pass."""


class Gate:
    """An upstream that answers each request with its own body once it is let through, in the order of arrival."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(0)

    def __repr__(self) -> str:
        return f"<Gate {self._places}>"

    def let(self, number: int) -> None:
        """Let so many requests be answered."""
        for _ in range(number):
            self._places.release()

    async def script(self, visit: Visit) -> None:
        """Answer on one connection."""
        async for received in visit.requests():
            await self._places.acquire()
            await visit.send(ok(received.body))


async def gated(bench: Bench, limit: int, queue: int, **timeouts: float) -> tuple[Gateway, Upstream, Gate]:
    """Return a gateway whose variant has `limit` places and a line of `queue` before them."""
    gate = Gate()
    upstream = await bench.upstream(gate.script)
    variant = Variant("v1", (upstream.backend,), max_in_flight=limit, max_queue=queue)
    times = Timeouts(**({"queue_s": PLENTY_S, "total_s": PLENTY_S} | timeouts))
    return await bench.gateway(route_of(variant, timeouts=times)), upstream, gate


async def ask(bench: Bench, gateway: Gateway, number: int) -> list[tuple[Client, asyncio.Task[Answer]]]:
    """Send so many requests, each on its own connection and each after the one before has arrived."""
    asked = []
    line, pool = (getattr(gateway.worker.table.lives["r"].variants["v1"], name) for name in ("line", "live"))
    for turn in range(number):
        client = await bench.client()
        taken = len(line) + pool.in_flight
        asked.append((client, asyncio.create_task(client.ask("POST", "/", b"%d" % turn))))
        room = taken < pool.limit + line.limit
        await until(lambda: not room or len(line) + pool.in_flight > taken, "the request has arrived")  # noqa: B023
    return asked


def waiting(gateway: Gateway) -> int:
    """Return how many wait."""
    value = gateway.worker.snapshot()["turnout_queue_length"]["r", "v1"]
    assert isinstance(value, (int, float))
    return int(value)


async def test_requests_wait_for_a_place_and_are_served_in_the_order_of_arrival(bench: Bench) -> None:
    """One place and a line of three: the fourth that waits is refused, the others are served one after another."""
    gateway, upstream, gate = await gated(bench, 1, 3)
    asked = await ask(bench, gateway, 5)
    refused = await asked[4][1]
    assert (refused.status, refused.field("retry-after"), refused.field("connection")) == (503, "1", None)
    assert (waiting(gateway), len(upstream.requests)) == (3, 1)
    gate.let(4)
    assert [(await task).body for _, task in asked[:4]] == [b"0", b"1", b"2", b"3"]
    assert [one.body for one in upstream.requests] == [b"0", b"1", b"2", b"3"]
    assert len(upstream.visits) == 1  # each goes over the connection that the one before has given back
    assert gateway.outcomes() == {"ok": 4, "shed": 1}
    assert gateway.worker.snapshot()["turnout_queue_waits_total"]["r", "v1"] == 3


async def test_a_newcomer_does_not_overtake_who_waits(bench: Bench) -> None:
    """It arrives in the turn of the loop in which a place becomes free: it goes to the end of the line."""
    gateway, upstream, gate = await gated(bench, 1, 3)
    asked = await ask(bench, gateway, 2)
    late = await bench.client()
    release = gateway.worker.table.lives["r"].variants["v1"].live._release  # noqa: SLF001 - the moment itself

    def releasing() -> None:
        release()
        late.writer.write(request("POST", "/", b"late"))

    gateway.worker.table.lives["r"].variants["v1"].live._release = releasing  # type: ignore[method-assign]  # noqa: SLF001
    gate.let(1)
    assert (await asked[0][1]).body == b"0"
    gateway.worker.table.lives["r"].variants["v1"].live._release = release  # type: ignore[method-assign]  # noqa: SLF001
    gate.let(10)
    await asked[1][1]
    assert (await late.answer("POST")).body == b"late"
    assert [one.body for one in upstream.requests] == [b"0", b"1", b"late"]


async def test_who_waits_too_long_hears_503_and_is_never_sent(bench: Bench) -> None:
    """`timeouts.queue` 0.3 s: outcome `queue_timeout`, which is no failure of the variant."""
    gateway, upstream, gate = await gated(bench, 1, 3, queue_s=0.3)
    asked = await ask(bench, gateway, 1)
    watch = Stopwatch()
    client = await bench.client()
    answer = await client.ask("POST", "/", b"late")
    assert (answer.status, answer.field("retry-after"), answer.field("x-turnout-origin")) == (503, "1", "gateway")
    assert b"timeouts.queue" in answer.body
    assert watch.passed_s >= 0.3
    assert watch.elapsed_s < 0.3 + 0.1 + 0.2  # two ticks, and the machine
    gate.let(1)
    assert (await asked[0][1]).status == 200
    assert [one.body for one in upstream.requests] == [b"0"]
    assert gateway.outcomes() == {"ok": 1, "queue_timeout": 1}
    assert gateway.held() == {}


async def test_the_request_s_deadline_counts_the_time_in_the_line(bench: Bench) -> None:
    """A total of 0.3 s ends while the request waits: it was never sent, so nothing is held against the variant."""
    gateway, upstream, gate = await gated(bench, 1, 3, total_s=0.3)
    asked = await ask(bench, gateway, 2)
    assert [(await task).status for _, task in asked] == [504, 503]
    assert gateway.outcomes() == {"timeout": 1, "queue_timeout": 1}
    assert [one.body for one in upstream.requests] == [b"0"]
    gate.let(1)


async def test_ov2_who_is_overdue_when_its_turn_comes_is_not_sent(bench: Bench) -> None:
    """The wheel has not noticed the deadline yet, the place becomes free: it is given to the next one."""
    gateway, upstream, gate = await gated(bench, 1, 3)
    asked = await ask(bench, gateway, 3)
    line = gateway.worker.table.lives["r"].variants["v1"].line
    first = next(iter(line._since))  # noqa: SLF001 - what is looked at by its turn
    first._client.answer_deadline = 0.0  # type: ignore[attr-defined]  # noqa: SLF001 - passed long ago
    gate.let(2)
    assert [(await task).status for _, task in asked] == [200, 503, 200]
    assert [one.body for one in upstream.requests] == [b"0", b"2"]
    assert gateway.outcomes() == {"ok": 2, "queue_timeout": 1}


@pytest.mark.parametrize("leave", ["close", "abort"])
async def test_a_client_that_leaves_while_it_waits_is_taken_out(bench: Bench, leave: str) -> None:
    """Its place in the line is free at once, and it is never sent."""
    gateway, upstream, gate = await gated(bench, 1, 1)
    asked = await ask(bench, gateway, 2)
    assert waiting(gateway) == 1
    getattr(asked[1][0], leave)()
    await until(lambda: not waiting(gateway), "it is taken out")
    assert gateway.outcomes() == {"cancelled": 1}
    (more,) = await ask(bench, gateway, 1)
    gate.let(2)
    assert [(await asked[0][1]).status, (await more[1]).status] == [200, 200]
    assert len(upstream.requests) == 2
    await asyncio.gather(asked[1][1], return_exceptions=True)


async def test_a_place_becomes_free_also_when_its_client_leaves(bench: Bench) -> None:
    """Whatever ends a request, the next in line gets its place."""
    gateway, upstream, gate = await gated(bench, 1, 1)
    asked = await ask(bench, gateway, 2)
    asked[0][0].abort()
    await until(lambda: len(upstream.requests) == 2, "the next one is sent")
    gate.let(2)
    assert (await asked[1][1]).body == b"1"
    await asyncio.gather(asked[0][1], return_exceptions=True)
    assert gateway.outcomes() == {"ok": 1, "cancelled": 1}


async def test_a_rescue_does_not_wait(bench: Bench) -> None:
    """Stable's own requests wait already: the candidate's failure goes to the client, counted as `no_room`."""
    gate = Gate()
    stable = await bench.upstream(gate.script)

    async def failing(visit: Visit) -> None:
        async for _ in visit.requests():
            await visit.send(ok(status="500 Oops"))

    candidate = await bench.upstream(failing)
    variant = Variant("v1", (stable.backend,), max_in_flight=1, max_queue=5)
    route = route_of(variant, candidate, timeouts=Timeouts(queue_s=PLENTY_S))
    gateway = await bench.gateway(route, states=[started(0)])
    asked = await ask(bench, gateway, 2)
    await gateway.expose(weight_bp=10_000)
    assert (await (await bench.client()).ask("POST", "/", b"x")).status == 500
    assert gateway.rescues() == {"no_room": 1}
    gate.let(2)
    assert [(await task).status for _, task in asked] == [200, 200]


@pytest.mark.parametrize("size", [1, 16_384])
async def test_a_short_body_that_is_held_back_holds_no_place(bench: Bench, size: int) -> None:
    """A variant with one place serves others while a client sends its short body slowly, or not at all."""
    gateway, upstream, gate = await gated(bench, 1, 0)
    slow = await bench.client()
    wire = request("POST", "/", b"s" * size)
    await slow.send(wire[:-1])
    await until(lambda: gateway.worker.table.lives["r"].variants["v1"].counts.started, "its head has arrived")
    gate.let(2)
    assert (await (await bench.client()).ask("POST", "/", b"quick")).body == b"quick"
    await slow.send(wire[-1:])
    assert (await slow.answer("POST")).body == b"s" * size
    assert [len(one.body) for one in upstream.requests] == [5, size]


async def burst(gateway: Gateway, number: int, ask_one: Callable[[Client, int], Awaitable[Answer]]) -> list[Answer]:
    """Return the answers to so many requests that are sent at once, each on a connection of its own."""
    clients = [await Client.open(gateway.port) for _ in range(number)]
    try:
        return await asyncio.gather(*(ask_one(client, turn) for turn, client in enumerate(clients)))
    finally:
        for client in clients:
            client.abort()


@pytest.mark.slow
async def test_ov2_of_a_burst_of_2000_on_50_places_none_is_sent_past_its_deadline(bench: Bench) -> None:
    """Two thousand at once, answers of 50 ms, a deadline of 0.5 s: all are answered, and none is sent too late.

    The upstream sees at most 50 at a time; each request carries when it was sent, and is looked at where it arrives.
    """
    deadline_s, loop = 0.5, asyncio.get_running_loop()
    ages_s: list[float] = []
    most = now = 0

    async def slow(visit: Visit) -> None:
        nonlocal most, now
        async for received in visit.requests():
            ages_s.append(loop.time() - float(received.body))
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.05)
            now -= 1
            await visit.send(ok())

    upstream = await bench.upstream(slow)
    variant = Variant("v1", (upstream.backend,), max_in_flight=50, max_queue=1_000)
    times = Timeouts(total_s=deadline_s, queue_s=deadline_s)
    gateway = await bench.gateway(route_of(variant, timeouts=times))
    arrived: dict[bytes, float] = {}
    line = gateway.worker.table.lives["r"].variants["v1"].line
    real = line._pool.acquire  # noqa: SLF001 - the moment in which one is sent

    def acquire(exchange: object) -> bool:
        left_s = exchange._client.answer_deadline - gateway.worker.now()  # type: ignore[attr-defined]  # noqa: SLF001
        arrived[exchange.internal_id] = left_s  # type: ignore[attr-defined]
        return real(exchange)  # type: ignore[arg-type]

    line._pool.acquire = acquire  # type: ignore[method-assign,assignment]  # noqa: SLF001

    async def one(client: Client, _: int) -> Answer:
        return await client.ask("POST", "/", repr(loop.time()).encode(), within_s=30.0)

    answers = await burst(gateway, 2_000, one)
    statuses = [answer.status for answer in answers]
    assert set(statuses) <= {200, 503, 504}
    assert statuses.count(200) + statuses.count(504) == len(upstream.requests) == len(ages_s)
    assert most <= 50
    assert statuses.count(200) >= 50
    assert statuses.count(503) >= 500  # neither in flight nor in the line
    assert min(arrived.values()) > -0.001, "none was past its deadline when it was sent"
    assert all(answer.field("retry-after") == "1" for answer in answers if answer.status == 503)
    outcomes = gateway.outcomes()
    assert sum(outcomes.values()) == 2_000
    assert outcomes.get("queue_timeout", 0) + outcomes["shed"] == statuses.count(503)
