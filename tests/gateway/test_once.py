"""DP5: what was sent once is not sent again, whatever the variant does with it and however its connection ends."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import pytest

from router.core.traffic import Timeouts
from tests.gateway.bench import Bench, route_of
from tests.gateway.clients import chunked_request, request
from tests.gateway.upstreams import Script, Visit, never, ok

LARGE = 300_000


class Counting:
    """A script that notes each x-own it reads, in whole requests and in broken ones, and then runs another script."""

    def __init__(self, then: Script) -> None:
        self.seen: Counter[bytes] = Counter()
        self._then = then

    async def __call__(self, visit: Visit) -> None:
        """Serve one connection."""
        read = visit.reader.read

        async def noted(n: int = -1) -> bytes:
            data = await read(n)
            self.seen.update(line[7:] for line in data.split(b"\r\n") if line.startswith(b"X-Own: "))
            return data

        visit.reader.read = noted  # type: ignore[method-assign]
        await self._then(visit)


async def fin(visit: Visit) -> None:
    """Read all of a request and close."""
    await visit.request()


async def rst(visit: Visit) -> None:
    """Read all of a request and reset."""
    await visit.request()
    visit.reset()


async def rst_early(visit: Visit) -> None:
    """Read the beginning of a request and reset."""
    await visit.read()
    visit.reset()


def after_one(then: Script) -> Script:
    """Return a script that answers one request of each connection, and does `then` with the next."""

    async def script(visit: Visit) -> None:
        received = await visit.request()
        if received is not None:
            await visit.send(ok(b"first"))
            await then(visit)

    return script


ENDS = {"fin": (fin, 502), "rst": (rst, 502), "early rst": (rst_early, 502), "hang": (never, 504)}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("reused", [False, True], ids=["new", "reused"])
@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("framing", ["small", "large", "chunked"])
async def test_dp5_a_request_is_sent_once(bench: Bench, end: str, method: str, framing: str, *, reused: bool) -> None:
    """502, or 504 at the deadline; on a connection of its own, or on one that has served before and waits no more."""
    then, status = ENDS[end]
    script = Counting(after_one(then) if reused else then)
    gateway = await bench.gateway(route_of(await bench.upstream(script), timeouts=Timeouts(total_s=0.2)))
    client = await bench.client()
    if reused:
        assert (await client.ask("POST", "/", b"x", "X-Own: first")).body == b"first"
    if framing == "chunked":
        wire = chunked_request(b"a", b"b", fields=("X-Own: own",)).replace(b"POST", method.encode(), 1)
    else:
        wire = request(method, "/", b"x" * (LARGE if framing == "large" else 10), "X-Own: own")
    sending = asyncio.ensure_future(client.send(wire))
    answer = await client.answer(method)
    await asyncio.gather(sending, return_exceptions=True)
    assert (answer.status, answer.field("x-turnout-origin")) == (status, "gateway")
    assert script.seen == ({b"first": 1, b"own": 1} if reused else {b"own": 1})
    assert gateway.held() == {}


@pytest.mark.parametrize("seed", range(3))
async def test_dp5_a_request_that_crosses_the_end_of_its_connection_is_not_sent_again(
    bench: Bench, seed: int, figure: Callable[[str], None]
) -> None:
    """The variant closes a connection just as the next POST is on its way: 200 or 502, and seen once at most."""
    rolls = random.Random(seed)

    async def moody(visit: Visit) -> None:
        if await visit.request() is not None:
            await visit.send(ok(b"yes"))
            for _ in range(rolls.randrange(6)):
                await asyncio.sleep(0)  # a turn of the loop, in which the next request may come
            if rolls.random() < 0.5:
                visit.reset()

    script = Counting(moody)
    gateway = await bench.gateway(route_of(await bench.upstream(script)))
    statuses: Counter[int] = Counter()

    async def user(number: int) -> None:
        client = await bench.client()
        for turn in range(60):
            answer = await client.ask("POST", "/", b"x", f"X-Own: {number}/{turn}")
            statuses[answer.status] += 1
            for _ in range(rolls.randrange(6)):
                await asyncio.sleep(0)

    await asyncio.gather(*[user(number) for number in range(5)])
    figure(f"of 300 POSTs {statuses[502]} met the end of their connection; the variant saw {len(script.seen)} once")
    assert statuses.keys() == {200, 502}
    assert set(script.seen.values()) == {1}
    assert statuses[200] <= len(script.seen) <= 300
    assert sum(gateway.outcomes().values()) == 300
