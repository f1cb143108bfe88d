"""Backends given by name: no request waits for a resolver, and one that is down takes nobody down."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from router.core.traffic import Backend, Variant
from router.gateway.names import MOST_LOOKUPS, PATIENCE_S, Addresses, Names
from tests.gateway.bench import Bench, Gateway, route_of, until
from tests.gateway.upstreams import Upstream
from tests.stopwatch import Stopwatch

FIRST, SECOND = "127.0.0.1", "127.0.0.2"


class Resolver:
    """A lookup that finds what the test says, fails, or hangs in its thread as a black-holed resolver does."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Addresses = addresses
        self.asked = 0
        self._answers = threading.Event()
        self._answers.set()

    def __call__(self, host: str) -> Addresses:
        """Return the addresses of `models.test`."""
        self.asked += 1
        assert host == "models.test"
        assert self._answers.wait(20.0), "the test has let go of it"
        if not self.addresses:
            raise OSError("name or service not known")
        return self.addresses

    def hang(self) -> None:
        """Answer nobody from now on."""
        self._answers.clear()

    def answer(self, *addresses: str) -> None:
        """Answer everybody, also those who wait."""
        self.addresses = addresses
        self._answers.set()


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    """Return a resolver that finds 127.0.0.1, and leave no thread waiting for it."""
    made = Resolver(FIRST)
    yield made
    made.answer()


async def named(bench: Bench, port: int, resolver: Callable[[str], Addresses], refresh_s: float = 0.05) -> Gateway:
    """Return a gateway before `models.test`."""
    return await bench.gateway(
        route_of(Variant("v1", (Backend("models.test", port),))), lookup=resolver, dns_refresh_s=refresh_s
    )


async def two(bench: Bench) -> tuple[Upstream, Upstream]:
    """Return two servers on one port of two addresses."""
    first = await bench.upstream()
    return first, await bench.upstream(port=first.port, host=SECOND)


async def test_up6_the_last_good_addresses_serve_while_the_resolver_hangs(bench: Bench, resolver: Resolver) -> None:
    """Not one error and no request that waits; with the resolver back, the new address is used."""
    first, second = await two(bench)
    gateway = await named(bench, first.port, resolver)
    client = await bench.client()
    resolver.hang()
    asked = resolver.asked
    await until(lambda: resolver.asked > asked, "a lookup hangs")
    watch = Stopwatch()
    for _ in range(200):
        assert (await client.ask("POST", "/", b"x")).status == 200
    assert watch.elapsed_s < 2.0
    assert resolver.asked <= asked + 2, "no lookup is begun while a young one is under way"
    assert second.requests == []
    resolver.answer(SECOND)
    endpoints = gateway.worker.table.lives["r"].variants["v1"].endpoints
    await until(lambda: endpoints.serving[0].addresses == (SECOND,), "it moves")
    seen = len(first.requests)
    for _ in range(10):
        assert (await client.ask("POST", "/", b"x")).status == 200
    assert (len(first.requests), len(second.requests)) == (seen, 10)
    assert second.requests[0].field("host") == f"models.test:{first.port}"


async def test_up6_a_resolver_that_says_no_changes_nothing(bench: Bench, resolver: Resolver) -> None:
    """The name is unknown all of a sudden: the last addresses stay, and the failures are counted."""
    upstream = await bench.upstream()
    gateway = await named(bench, upstream.port, resolver)
    client = await bench.client()
    resolver.answer()
    await until(lambda: gateway.worker.snapshot()["turnout_lookups_total"]["failed",], "a lookup fails")
    assert [(await client.ask("POST", "/", b"x")).status for _ in range(10)] == [200] * 10


@pytest.mark.parametrize("fault", ["unknown", "hanging"])
async def test_up6_a_start_without_a_name_answers_502_at_once_and_recovers(
    bench: Bench, resolver: Resolver, fault: str
) -> None:
    """Half a second at the start is all that the resolver gets; every request before it answers gets its 502."""
    upstream = await bench.upstream()
    resolver.answer()
    if fault == "hanging":
        resolver.hang()
    watch = Stopwatch()
    gateway = await named(bench, upstream.port, resolver)
    assert watch.elapsed_s < 1.0
    client = await bench.client()
    watch = Stopwatch()
    for _ in range(20):
        answer = await client.ask("POST", "/", b"x")
        assert (answer.status, b"no address" in answer.body) == (502, True)
    assert watch.elapsed_s < 1.0
    assert gateway.worker.snapshot()["turnout_backend_up"]["r", "v1", f"models.test:{upstream.port}"] == 0.0
    resolver.answer(FIRST)
    await until(lambda: gateway.worker.table.lives["r"].variants["v1"].endpoints.serving, "it is found")
    assert (await client.ask("POST", "/", b"x")).status == 200
    assert gateway.outcomes() == {"connect_failed": 20, "ok": 1}


async def test_up6_all_addresses_of_a_name_take_turns(bench: Bench) -> None:
    """Whatever order the resolver has them in; and connections to an address that is gone are closed."""
    first, second = await two(bench)
    resolver = Resolver(SECOND, FIRST)
    gateway = await named(bench, first.port, resolver)
    client = await bench.client()
    for _ in range(10):
        await client.ask("POST", "/", b"x")
    assert (len(first.requests), len(second.requests)) == (5, 5)
    assert (len(first.visits), len(second.visits)) == (1, 1)
    resolver.answer(FIRST)
    endpoints = gateway.worker.table.lives["r"].variants["v1"].endpoints
    await until(lambda: len(endpoints.everyone) == 1, "one address is left")
    for pool in gateway.worker.table.lives["r"].pools():
        pool.expire(asyncio.get_running_loop().time() + 4.1)
    await until(lambda: not second.open, "the connection to the other is closed")
    assert [(await client.ask("POST", "/", b"x")).status for _ in range(4)] == [200] * 4
    assert len(first.requests) == 9


async def test_a_name_with_both_families_is_reached_by_the_one_that_works(bench: Bench) -> None:
    """The server listens on IPv4 only: every request is answered, and ::1 is tried once, not each time."""
    upstream = await bench.upstream()
    gateway = await named(bench, upstream.port, Resolver("::1", FIRST), refresh_s=3_600.0)
    endpoint = gateway.worker.table.lives["r"].variants["v1"].endpoints.everyone[0]
    assert endpoint.addresses == ("::1", FIRST)
    clients = [await bench.client() for _ in range(3)]
    for client in clients:
        assert (await client.ask("POST", "/", b"x")).status == 200
    assert endpoint.addresses == (FIRST, "::1")
    assert endpoint.failures == 0
    assert gateway.outcomes() == {"ok": 3}


async def test_up6_a_server_that_moved_is_looked_up_before_its_time(bench: Bench) -> None:
    """`dns_refresh` is an hour; the connect that fails makes it a second."""
    moved = await bench.upstream(host=SECOND)
    resolver = Resolver(FIRST)
    gateway = await named(bench, moved.port, resolver, refresh_s=3_600.0)
    client = await bench.client()
    resolver.answer(SECOND)
    assert (await client.ask("POST", "/", b"x")).status == 502
    endpoints = gateway.worker.table.lives["r"].variants["v1"].endpoints
    await until(lambda: endpoints.everyone[0].addresses == (SECOND,), "it is looked up again")
    assert (await client.ask("POST", "/", b"x")).status == 200


async def test_lookups_that_hang_are_bounded_and_the_newest_answer_counts(resolver: Resolver) -> None:
    """Four threads at most for a name; an older lookup that comes late does not undo a newer one."""
    found: list[Addresses] = []
    loop = asyncio.get_running_loop()
    late = threading.Event()
    asked: list[int] = []

    def lookup(host: str) -> Addresses:
        asked.append(len(asked))
        if len(asked) == 2:
            assert late.wait(20.0)
            return (SECOND,)
        return resolver(host)

    names = Names(loop, 5.0, lookup)
    names.watch("models.test", found.append)
    await until(lambda: found == [(FIRST,)], "the first one")
    resolver.hang()
    for turn in range(10):
        names.turn(loop.time() + 5.0 + turn * PATIENCE_S)
    await until(lambda: len(asked) == 1 + MOST_LOOKUPS, "lookups hang")
    resolver.answer("127.0.0.3")
    await until(lambda: found[1:] == [("127.0.0.3",)], "the newest one")
    late.set()
    await until(lambda: not lookups_under_way(), "the late one has ended")
    await asyncio.sleep(0)
    assert found == [(FIRST,), ("127.0.0.3",)]


def lookups_under_way() -> list[str]:
    """Return the threads that look a name up."""
    return [one.name for one in threading.enumerate() if one.name.startswith("lookup ")]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs namespaces of its own for a resolver on port 53")
@pytest.mark.slow
@pytest.mark.parametrize("outage_s", [6, pytest.param(600, marks=[pytest.mark.soak, pytest.mark.timeout(720)])])
def test_up6_a_real_resolver_black_holed(outage_s: int, tmp_path: Path, figure: Callable[[str], None]) -> None:
    """The system's resolver against a DNS server that falls silent: 0 errors, then the new address <= TTL + 5 s.

    In namespaces for network and mounts, with a resolv.conf of its own. The pace of lookups, 1 s, stands for the TTL.
    """
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: files dns\n")
    script = (
        f"ip link set lo up && mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && "
        f"mount --bind {tmp_path}/nsswitch.conf /etc/nsswitch.conf && "
        f"exec {sys.executable} -m tests.gateway.dns_process {outage_s} {tmp_path}"
    )
    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", script],
        capture_output=True, text=True, timeout=outage_s + 60, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    figure(
        f"UP6 {outage_s} s without resolver: {seen['errors']} errors of {seen['requests']}, slowest "
        f"{seen['slowest_ms']:.0f} ms; new address after {seen['moved_s']:.1f} s (limit TTL 1 s + 5 s)"
    )
    assert seen["unanswered"] >= 1, "the resolver was asked and said nothing"
    assert seen["errors"] == 0
    assert seen["requests"] > outage_s * 20
    assert seen["moved_s"] <= 6.0 + seen["late_s"]
