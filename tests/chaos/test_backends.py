"""Several workers and several backends: each worker leaves bad ones out by itself, and its successor goes on so."""

import os
import re
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.chaos.test_reloads import reloaded, rewrite
from tests.e2e.harness import Turnout, Turnouts, config_for
from tests.e2e.load import Load, until, worker_of
from tests.e2e.model_server import ModelServer, Seen
from tests.e2e.wire import Answer, fetch, request

WORKERS = 3
CLIENTS = 36
CONSECUTIVE = 5
EJECTED_S = 1.0


class Moody(ModelServer):
    """Answers its label or, while it is `bad`, 500."""

    bad = False

    def answer_to(self, seen: Seen) -> bytes | None:  # noqa: ARG002 - all alike
        """Return its 500 while it is bad."""
        return b"HTTP/1.1 500 Bad\r\ncontent-length: 0\r\n\r\n" if self.bad else None


@pytest.fixture
async def backends() -> AsyncIterator[list[Moody]]:
    """The three backends of v1."""
    async with AsyncExitStack() as stack:
        servers = [Moody(label) for label in (1, 2, 3)]
        for server in servers:
            await stack.enter_async_context(server.running())
        yield servers


@dataclass(frozen=True, slots=True)
class Told:
    """What one answer said: when it came, by which worker, with which status."""

    at_s: float
    worker: str
    status: int


class Crowd:
    """Clients of all workers, what they were told, and which backends each worker asked."""

    def __init__(self, serve: Turnout, backends: list[Moody]) -> None:
        self.serve = serve
        self.backends = backends
        self.told: list[Told] = []
        self.load = Load(serve.port("gateway"), clients=CLIENTS, on_answer=self._note)

    def _note(self, answer: Answer) -> None:
        self.told.append(Told(answer.ended_s, worker_of(answer), answer.status))

    def forget(self) -> None:
        """Begin anew."""
        self.told.clear()
        for backend in self.backends:
            backend.seen.clear()

    def asked(self, backend: Moody) -> Counter[str]:
        """Return how many requests each worker has sent there."""
        return Counter(seen.request_id.partition("-")[0] for seen in backend.seen)

    async def until_each_worker_answered(self, number: int, but: AbstractSet[str] = frozenset()) -> set[str]:
        """Return the workers, leaving some aside, once each has given so many answers."""

        def answers() -> Counter[str]:
            return Counter(told.worker for told in self.told if told.worker not in but)

        await until(lambda: len(answers()) == WORKERS and min(answers().values()) >= number, 30.0)
        return set(answers())

    async def ejections(self) -> dict[int, int]:
        """Return how often each backend was ejected, over all workers, by its port."""
        text = (await fetch(self.serve.port("ops"), request("GET", "/metrics"))).body.decode()
        found = re.findall(r'^turnout_ejections_total\{.*?backend="127\.0\.0\.1:(\d+)".*?\} (\S+)$', text, re.MULTILINE)
        return {int(port): int(float(value)) for port, value in found}


def config_of(backends: list[Moody], base: str) -> dict[str, Any]:
    """Return a configuration with three workers and one variant of these backends."""
    config = config_for(backends[0], backends[0])
    config["gateway"] |= {"workers": WORKERS}
    ejection = {"consecutive": CONSECUTIVE, "base": base}
    config["routes"]["digits"]["variants"] = {"v1": {"urls": [one.url for one in backends], "ejection": ejection}}
    return config


@pytest.mark.slow
async def test_up4_each_of_three_workers_ejects_a_bad_backend_within_a_second_and_tries_it_again(
    turnouts: Turnouts, backends: list[Moody], figure: Callable[[str], None]
) -> None:
    """Five errors in a row of each worker, and those in flight meanwhile; when it is well again, all three go back."""
    crowd = Crowd(await turnouts.start(config_of(backends, "1s")), backends)
    async with crowd.load.running():
        workers = await crowd.until_each_worker_answered(50)
        crowd.forget()
        began_s = time.monotonic()
        backends[0].bad = True
        await crowd.load.keep_on(0.8)  # less than `base`: nobody tries it yet
        errors = defaultdict(list)
        for told in crowd.told:
            if told.status != 200:
                errors[told.worker].append(told.at_s - began_s)
        clients = Counter(crowd.load.workers.values())
        backends[0].bad = False

        def back() -> bool:
            return set(crowd.asked(backends[0])) == workers

        crowd.forget()
        await until(back, 10.0)
        crowd.forget()
        await crowd.until_each_worker_answered(30)
        shares = {worker: crowd.asked(backends[0])[worker] for worker in workers}
    figure(
        "UP4, three workers: out after "
        + ", ".join(f"{1000 * max(errors[worker]):.0f} ms and {len(errors[worker])} errors" for worker in workers)
    )
    assert set(errors) == workers
    assert all(CONSECUTIVE <= len(errors[one]) <= CONSECUTIVE + clients[one] for one in workers)
    assert all(max(errors[one]) <= EJECTED_S for one in workers)
    assert set(crowd.load.statuses) == {200, 500}
    assert min(shares.values()) >= 5  # a third of 30, were it not for what is in flight
    assert crowd.load.failures == []


@pytest.mark.slow
async def test_up4_when_all_backends_are_bad_each_of_three_workers_still_asks_two_of_them(
    turnouts: Turnouts, backends: list[Moody], figure: Callable[[str], None]
) -> None:
    """At most one is ejected; clients hear the backends' own 500, nothing of ours, and 200 as soon as they are well."""
    crowd = Crowd(await turnouts.start(config_of(backends, "30s")), backends)
    async with crowd.load.running():
        workers = await crowd.until_each_worker_answered(50)
        for backend in backends:
            backend.bad = True
        crowd.forget()
        await crowd.until_each_worker_answered(100)
        ejections = await crowd.ejections()
        crowd.forget()
        await crowd.until_each_worker_answered(100)
        asked = {worker: [crowd.asked(backend)[worker] for backend in backends] for worker in workers}
        for backend in backends:
            backend.bad = False
        await crowd.load.until_answered(2 * CLIENTS)  # those in flight may have been answered by 500
        crowd.forget()
        await crowd.until_each_worker_answered(50)
        after = Counter(told.status for told in crowd.told)
    figure(f"UP4, all bad: requests of each worker by backend {sorted(asked.values())}; ejections {ejections}")
    assert [sum(number > 0 for number in numbers) for numbers in asked.values()] == [2] * WORKERS
    assert sum(ejections.values()) == WORKERS
    assert set(after) == {200}
    assert set(crowd.load.statuses) == {200, 500}
    assert crowd.load.failures == []


@pytest.mark.slow
async def test_what_a_worker_had_left_out_its_successor_leaves_out_as_well(
    turnouts: Turnouts, backends: list[Moody], figure: Callable[[str], None]
) -> None:
    """After a reload, and after a kill: not one more request reaches the bad backend, and so no client hears 500."""
    config = config_of(backends, "10m")
    crowd = Crowd(serve := await turnouts.start(config), backends)
    async with crowd.load.running():
        workers = await crowd.until_each_worker_answered(50)
        backends[0].bad = True
        await crowd.until_each_worker_answered(150)
        assert await crowd.ejections() == {backends[0].port: WORKERS, backends[1].port: 0, backends[2].port: 0}
        crowd.forget()
        config["routes"]["digits"]["timeouts"] = {"total": "20s"}
        rewrite(serve, config)
        successors = await crowd.until_each_worker_answered(100, but=workers)
        await until(lambda: reloaded(serve) == 1)
        after_reload = len(backends[0].seen), Counter(told.status for told in crowd.told)
        victim = serve.workers()[0]
        crowd.forget()
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len({told.worker for told in crowd.told} - successors) == 1, 20.0)
        await crowd.load.until_answered(20 * CLIENTS)
        after_kill = len(backends[0].seen), Counter(told.status for told in crowd.told)
    figure(f"requests to the ejected backend after a reload {after_reload[0]}, after a kill {after_kill[0]}")
    assert (after_reload[0], set(after_reload[1])) == (0, {200})
    assert (after_kill[0], set(after_kill[1])) == (0, {200})
