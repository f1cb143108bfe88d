"""The admin API without tokens, on every store there is."""

from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from router.core.ports import Store
from router.store.embedded import EmbeddedValkey
from tests.admin.desk import Desk, config, desk_for, memory_store
from tests.patience import patient_store


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server for this test process."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server.url


@pytest.fixture(params=["memory", "valkey"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """An empty store; the test runs once for each kind."""
    made: Store = memory_store()
    if request.param == "valkey":
        url = request.getfixturevalue("valkey")
        with redis.Redis.from_url(url) as admin:
            admin.flushall()
        made = patient_store(url)
    yield made
    await made.close()


@pytest.fixture
async def desk(store: Store) -> AsyncIterator[Desk]:
    """The admin API on loopback without tokens; its control loop does not run."""
    async with desk_for(store, config()) as made:
        yield made
