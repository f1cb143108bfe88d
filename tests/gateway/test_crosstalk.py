"""DP4: no client ever gets another one's answer, and no place in a pool stays taken, whoever leaves when."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import pytest

from router.core.traffic import Backend, Variant
from tests.e2e.model_server import ModelServer, Seen
from tests.e2e.wire import Line, request
from tests.gateway.bench import Bench, route_of, started, until

CLIENTS = 500
CANCELLED = 0.2
SLOW_S = 0.004
"""How long an answer, and a client that leaves, take at most."""


class Echo(ModelServer):
    """Answers each request with the id that it carries, after a random time."""

    def __init__(self, rolls: random.Random) -> None:
        super().__init__(0)
        self._rolls = rolls

    def answer_to(self, seen: Seen) -> bytes:
        """Return the id, and take another time for the next answer."""
        self.seen.clear()
        self.delay_s = self._rolls.random() * SLOW_S
        own = seen.headers["x-own"].encode()
        return b"HTTP/1.1 200 OK\r\nx-own: %b\r\ncontent-length: %d\r\n\r\n%b" % (own, len(own), own)


@pytest.mark.slow
@pytest.mark.timeout(590)
@pytest.mark.parametrize("requests", [20_000, pytest.param(200_000, marks=pytest.mark.soak)])
async def test_dp4_no_client_gets_anothers_answer(bench: Bench, requests: int, figure: Callable[[str], None]) -> None:
    """500 clients, half their requests on the candidate and a tenth copied, a fifth cut off at a random time."""
    rolls = random.Random(4)
    async with Echo(rolls).running() as stable, Echo(rolls).running() as candidate:
        variants = [
            Variant(name, (Backend("127.0.0.1", one.port),)) for name, one in (("v1", stable), ("v2", candidate))
        ]
        gateway = await bench.gateway(route_of(*variants), states=[started(5_000, 1_000)])
        ends: Counter[str] = Counter()

        async def user(number: int) -> None:
            line = await Line.open(gateway.port)
            for turn in range(requests // CLIENTS):
                own = f"{number}/{turn}"
                asked = line.ask(request("POST", "/", rolls.randbytes(rolls.randrange(2_000)), {"x-own": own}))
                if rolls.random() < CANCELLED:
                    await asyncio.wait([asked], timeout=rolls.random() * SLOW_S)
                    asked.cancel()
                    line.close()
                    line = await Line.open(gateway.port)
                    ends["cut off"] += 1
                    continue
                answer = await asked
                foreign = (answer.status, answer.headers.get("x-own"), answer.body) != (200, own, own.encode())
                ends["foreign" if foreign else "own"] += 1
            line.close()

        await asyncio.gather(*[user(number) for number in range(CLIENTS)])
        taken_s = await until(lambda: gateway.held() == {}, "all places are free", within_s=10.0)
        figure(f"{requests:,} requests: {dict(ends)}; nothing held after {taken_s:.2f} s")
        assert ends.keys() == {"own", "cut off"}
        assert {*gateway.outcomes("v1"), *gateway.outcomes("v2")} == {"ok", "cancelled"}
