"""The embedded store server is kept running."""

import asyncio

from router.core.errors import StoreUnavailableError
from router.supervisor.store_keeper import StoreKeeper


class FakeServer:
    """A StoreServer that dies when told to, and whose restarts fail `failures` times first."""

    def __init__(self, failures: int = 0) -> None:
        self.status: int | None = None
        self.failures = failures
        self.calls: list[str] = []

    def start(self) -> str:
        """Start."""
        self.calls.append("start")
        return "unix:///here"

    def poll(self) -> int | None:
        """Return the status."""
        return self.status

    def restart(self) -> str:
        """Start again, or fail."""
        self.calls.append("restart")
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("no room on the device")
        self.status = None
        return "unix:///here"

    def stop(self) -> None:
        """Stop."""
        self.calls.append("stop")


async def test_a_server_that_dies_is_started_again_until_that_works() -> None:
    """While it is away, that can be seen; a failing start is tried again and never ends the keeper."""
    server = FakeServer(failures=2)
    keeper = StoreKeeper(server)
    assert keeper.start() == "unix:///here"
    life = asyncio.create_task(keeper.run())
    server.status = -9
    seen: set[bool] = set()
    async with asyncio.timeout(10):
        while not (keeper.is_up and False in seen):
            seen.add(keeper.is_up)
            await asyncio.sleep(0.005)
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)
    keeper.stop()
    assert server.calls == ["start", "restart", "restart", "restart", "stop"]
    assert not keeper.is_up
