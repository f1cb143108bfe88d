"""RD6: a store that answers every command with an error is a store that is away, and nothing more."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from tests.chaos.test_store_loss import lines_of_trouble
from tests.e2e.harness import Turnouts, config_for
from tests.e2e.load import Load, until
from tests.e2e.model_server import ModelServer
from tests.e2e.wire import fetch, request

REFUSALS = (
    b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    b"-READONLY You can't write against a read only replica.\r\n",
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-NOAUTH Authentication required.\r\n",
    b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n",
    b"-MOVED 3999 127.0.0.1:6381\r\n",
    b"-MOVED nowhere\r\n",
    b"-ASK 3999 127.0.0.1:6381\r\n",
    b"-CLUSTERDOWN Hash slot not served\r\n",
    b"-ERR\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
)
"""Error replies of every kind, a MOVED without an address, and something that is no reply at all."""


class Refusing:
    """A server that gives one refusal after another, whatever it is asked."""

    def __init__(self) -> None:
        self.url = ""
        self.given: Counter[bytes] = Counter()
        self._refusals = itertools.cycle(REFUSALS)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Refuse until the other side has gone."""
        try:
            while await reader.read(2**16):
                refusal = next(self._refusals)
                self.given[refusal] += 1
                writer.write(refusal)
        except OSError:
            pass
        finally:
            writer.transport.abort()


@pytest.fixture
async def refusing() -> AsyncIterator[Refusing]:
    """Such a server, asked for before `turnouts`."""
    server = Refusing()
    listener = await asyncio.start_server(server.talk, "127.0.0.1", 0)
    server.url = f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield server
    listener.close()


async def test_rd6_a_store_that_refuses_everything_costs_no_request(
    refusing: Refusing, turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """Every refusal is met by gateway and control: 0 client errors, stable serves, no process dies, few lines."""
    rollout = {"candidate": "v2", "policy": "canary", "steps": [{"weight": "30%"}]}
    serve = await turnouts.start(config_for(stable, candidate, rollout=rollout) | {"store": {"url": refusing.url}})
    async with Load(serve.port("gateway"), clients=8).running() as load:
        await load.until_answered(300)
        await until(lambda: min(refusing.given[one] for one in REFUSALS) >= 2, within_s=30.0)
        await load.until_answered(100)
    assert load.errors == []
    ready = await fetch(serve.port("ops"), request("GET", "/readyz"))
    assert ready.status == 200
    assert "store: gateway-0 cannot reach it" in ready.json()["degraded"][0]
    assert lines_of_trouble(serve) == {
        "gateway-0: store not reachable: routing goes on by the last states, pairs wait in memory": 1,
        "control: the store is away; nothing is decided until it is back": 1,
    }
    figure(f"{refusing.given.total()} refusals, {load.answered} requests, 0 errors, 2 lines")
