"""A worker that did not run for a while: what waits in its sockets is routed by the present states, not by its last."""

import asyncio
import time
from collections.abc import Mapping, Sequence

from router.gateway.waking import SLEPT_S, WAKE_S, Waking
from router.store.codec import encode_state
from router.testing import ManualClock, MemoryStore
from tests.gateway.bench import Bench, Gateway, route_of, started, until
from tests.gateway.clients import Client, request
from tests.gateway.test_following import at
from tests.gateway.upstreams import Upstream, answering, ok

STOPPED_S = SLEPT_S + 0.1
ASK = request("POST", "/", b"x")


class Mute(MemoryStore):
    """A store that stops answering when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()

    async def revisions(self, routes: Sequence[str]) -> Mapping[str, int]:
        """Answer, as soon as it may."""
        await self.answers.wait()
        return await super().revisions(routes)


async def at_full_weight(bench: Bench, store: MemoryStore | None = None) -> tuple[Gateway, Upstream, list[Client]]:
    """Return a gateway that sends everything to the candidate, the candidate, and clients it has answered."""
    stable = await bench.upstream(answering(ok(b"stable")))
    candidate = await bench.upstream(answering(ok(b"candidate")))
    gateway = await bench.gateway(route_of(stable, candidate), states=[started(10_000)], store=store)
    clients = [await bench.client(gateway) for _ in range(4)]
    for client in clients:
        assert (await client.ask("POST", "/", b"x")).body == b"candidate"
    return gateway, candidate, clients


async def sleep_through_an_abort(gateway: Gateway, clients: Sequence[Client]) -> float:
    """Let the whole loop stand still while the weight goes to 0 and each client asks; return when it runs again."""
    gateway.server.states["r"] = encode_state(at(started(0), 2, weight_bp=0))  # without a notice: nobody could read it
    for client in clients:
        client.writer.write(ASK + ASK)  # pipelined: the second must not overtake the first
    time.sleep(STOPPED_S)  # noqa: ASYNC251 - this is the fault
    return time.monotonic()


async def test_cl9_requests_that_came_while_the_worker_slept_are_routed_by_the_present_state(bench: Bench) -> None:
    """Weight 100 % before, 0 after: none of them reaches the candidate, each is answered once and in order."""
    gateway, candidate, clients = await at_full_weight(bench)
    before = len(candidate.requests)
    await sleep_through_an_abort(gateway, clients)
    answers = [await client.answer("POST") for client in clients for _ in range(2)]
    assert [answer.body for answer in answers] == [b"stable"] * 8
    assert len(candidate.requests) == before
    assert (await clients[0].ask("POST", "/", b"x")).body == b"stable"


async def test_cl9_without_the_store_requests_wait_for_a_tenth_of_a_second_and_no_longer(bench: Bench) -> None:
    """The last states are then the best there are."""
    store = Mute()
    gateway, _, clients = await at_full_weight(bench, store)
    store.answers.clear()
    awake_s = await sleep_through_an_abort(gateway, clients)
    assert (await clients[0].answer("POST")).body == b"candidate"
    assert WAKE_S - 0.01 <= time.monotonic() - awake_s < WAKE_S + 2.0
    store.answers.set()
    await until(lambda: gateway.revision() == 2, "the poll finds the abort")


async def test_clients_that_leave_while_they_are_held_back_leave_nothing(bench: Bench) -> None:
    """The bench checks at its end that the worker holds nothing any more."""
    store = Mute()
    gateway, candidate, clients = await at_full_weight(bench, store)
    store.answers.clear()
    before = len(candidate.requests)
    await sleep_through_an_abort(gateway, clients)
    for client in clients[1:]:
        client.abort()
    assert (await clients[0].answer("POST")).body == b"candidate"
    await until(lambda: gateway.connections == 1, "the others have left")
    assert len(candidate.requests) <= before + 2 * len(clients)


def test_a_clock_that_ticks_keeps_the_worker_awake() -> None:
    """Late ticks are no sleep as long as they come within a second; nothing is read anew."""
    clock = ManualClock()
    woken: list[object] = []
    waking = Waking(clock, MemoryStore().ping, woken.append)
    for late_s in (0.05, 0.5, SLEPT_S, 0.05) * 5:
        now = clock.advance(late_s)
        assert now <= waking.awake_until
        waking.tick(now)
    assert woken == []
