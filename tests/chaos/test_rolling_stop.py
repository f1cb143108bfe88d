"""Gateways are stopped one after another, and workers recycled, while clients go on: nobody sees an error."""

import asyncio
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from loadtests.haproxy import configuration
from tests.chaos.fleet import Fleet, Member
from tests.chaos.test_reloads import reloaded, rewrite
from tests.e2e.harness import Admin, Turnouts, config_for, listening
from tests.e2e.load import Load, eventually, until
from tests.e2e.model_server import BODY, INFER, ModelServer
from tests.e2e.wire import BrokenError, Line, fetch, request

HAPROXY = shutil.which("haproxy")
DELAY_S = 1.0
ASK = request("POST", INFER, BODY)


@asynccontextmanager
async def haproxy(members: Sequence[Member], directory: Path) -> AsyncIterator[int]:
    """Run HAProxy before the gateways, with checks of their readiness and without a single retry; return its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ports = {f"g{number}": (one.turnout.port("gateway"), one.turnout.port("ops")) for number, one in enumerate(members)}
    file = directory / "haproxy.cfg"
    file.write_text(configuration(port, ports, check_ms=100))
    process = await asyncio.create_subprocess_exec(str(HAPROXY), "-f", str(file), "-db", stderr=subprocess.DEVNULL)
    try:
        await until(lambda: listening(port))
        yield port
    finally:
        process.kill()
        await process.wait()


async def three(fleet: Fleet, stable: ModelServer, candidate: ModelServer) -> list[Member]:
    """Return three gateways that serve on for a while after SIGTERM."""
    config = config_for(stable, candidate)
    config["gateway"] |= {"drain_delay": f"{DELAY_S:g}s"}
    return list(await asyncio.gather(*(fleet.start("gateway", config) for _ in range(3))))


@pytest.mark.slow
@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed (Debian: apt install haproxy)")
async def test_cf3_gateways_stopped_one_after_another_behind_haproxy_lose_nothing(
    fleet: Fleet, stable: ModelServer, candidate: ModelServer, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """Two of three are ended by SIGTERM under load; HAProxy, which retries nothing, sees each leave in time."""
    members = await three(fleet, stable, candidate)
    async with haproxy(members, tmp_path) as port, Load(port, clients=16, pause_s=0.005).running() as load:
        await load.until_answered(200)
        for member in members[:2]:
            assert await member.turnout.stop() == 0
            await load.until_answered(100)
    assert load.errors == []
    figure(f"2 of 3 gateways stopped behind HAProxy: {load.answered} answers, 0 errors")


@pytest.mark.slow
async def test_cf3_clients_that_know_all_addresses_lose_nothing(
    fleet: Fleet, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """As by plain DNS: who is refused asks the next address; nobody who was let in goes without an answer."""
    members = await three(fleet, stable, candidate)
    ports = [member.turnout.port("gateway") for member in members]
    seen: Counter[str] = Counter()
    stopping = asyncio.Event()

    async def client(number: int) -> None:
        line: Line | None = None
        at = number
        while not stopping.is_set():
            if line is None or not line.is_open:
                try:
                    line = await Line.open(ports[at % 3])
                except OSError:
                    seen["refused"] += 1
                    at += 1
                    continue
            try:
                answer = await line.ask(ASK)
            except BrokenError as error:
                seen[f"error: {error}"] += 1
                continue
            seen[str(answer.status)] += 1
            if answer.closes:
                line.close()
            await asyncio.sleep(0.005)
        if line is not None:
            line.close()

    clients = [asyncio.create_task(client(number)) for number in range(16)]
    await until(lambda: seen["200"] > 100)
    for member in members[:2]:
        assert await member.turnout.stop() == 0
    answered = seen["200"]
    await until(lambda: seen["200"] > answered + 100)
    stopping.set()
    await asyncio.gather(*clients)
    assert set(seen) <= {"200", "refused"}, seen
    figure(f"2 of 3 gateways stopped, clients with a list of addresses: {dict(seen)}")


async def test_cf3_readiness_goes_off_before_clients_are_refused(
    fleet: Fleet, stable: ModelServer, candidate: ModelServer
) -> None:
    """For `gateway.drain_delay` after SIGTERM new clients are still answered, while /readyz says 503."""
    config = config_for(stable, candidate)
    config["gateway"] |= {"drain_delay": "1h"}
    member = await fleet.start("gateway", config)
    member.turnout.process.terminate()

    async def unready() -> bool:
        return (await fetch(member.turnout.port("ops"), request("GET", "/readyz"))).status == 503

    await eventually(unready)
    assert (await fetch(member.turnout.port("gateway"), ASK)).status == 200
    assert await member.turnout.stop() == 0, "a second signal does not wait for the hour"


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_cf4_no_new_connection_is_reset_while_workers_are_recycled(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """Each request on a connection of its own, while two workers are replaced: all are answered."""
    config = config_for(stable, candidate)
    config["gateway"] |= {"workers": 2}
    serve = await turnouts.start(config)
    await Admin(serve.port("admin")).get("")
    port, count, stopping = serve.port("gateway"), Counter[int](), asyncio.Event()

    async def newcomers() -> None:
        while not stopping.is_set():
            count[(await fetch(port, ASK)).status] += 1
            await asyncio.sleep(0.005)  # leaves some of the processor to those who replace the workers

    arriving = [asyncio.create_task(newcomers()) for _ in range(16)]
    try:
        config["routes"]["digits"]["timeouts"] = {"total": "20s"}
        rewrite(serve, config)
        await until(lambda: reloaded(serve) == 1, within_s=40.0)
        await until(lambda: count[200] > 500, within_s=40.0)
    finally:
        stopping.set()
        await asyncio.gather(*arriving)  # raises what a client has seen: a reset is an error
    assert set(count) == {200}
    figure(f"{count[200]} new connections while 2 workers were replaced: 0 resets")
