"""Every store there is to run against: in memory, and a real Valkey."""

from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from router.core.config import TurnoutConfig
from router.core.ports import Store
from router.store.embedded import EmbeddedValkey
from router.testing import MemoryServer, MemoryStore
from tests.control.plant import Plant, route_named
from tests.patience import patient_store


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server for this test process."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server.url


@pytest.fixture(params=["memory", "valkey"])
def kind_of_store(request: pytest.FixtureRequest) -> str:
    """Run the test once for each store."""
    return str(request.param)


@pytest.fixture
async def plant(kind_of_store: str, request: pytest.FixtureRequest) -> AsyncIterator[Plant]:
    """Two Routes, of which `opaque` must not be sent twice, on an empty store."""
    made: list[Store] = []
    server = MemoryServer()
    url = request.getfixturevalue("valkey") if kind_of_store == "valkey" else ""
    if url:
        with redis.Redis.from_url(url) as admin:
            admin.flushall()

    def new_store() -> Store:
        made.append(patient_store(url) if url else MemoryStore(server))
        return made[-1]

    routes = {"digits": route_named("digits"), "opaque": route_named("opaque", mirror_safe=False)}
    yield Plant(new_store, TurnoutConfig(routes=routes))
    for store in made:
        await store.close()
