"""The open loop shows the wait that a closed loop hides, and says how late it was itself."""

import asyncio
import time

import pytest

from loadtests.compare.open_loop import Latencies, OpenLoop, Order, measure, percentile
from loadtests.fixed_answer import ANSWER
from tests.e2e.wire import Line, request
from tests.loadtests.serving import Ending, serving

RATE_S, SECONDS = 200.0, 2.0
STALL_S = 0.5


class Stalling(Ending):
    """Stands still once, from its 100th request on."""

    def on_message_complete(self) -> None:
        """Answer, at the 100th after a while in which nobody is answered."""
        Stalling.requests += 1
        if Stalling.requests == 100:
            time.sleep(STALL_S)  # the whole server stands still: that is what is tested
        super().on_message_complete()


class Silent(Ending):
    """Answers the first ten requests only."""

    def on_message_complete(self) -> None:
        """Answer, or not."""
        Silent.requests += 1
        if Silent.requests <= 10:
            self._transport.write(ANSWER)


def asked(port: int) -> Latencies:
    """Ask at the fixed rate, in this thread."""
    return measure(Order(port, RATE_S, SECONDS, connections=8))


async def closed_loop(port: int) -> list[float]:
    """Return how long each of as many requests took on one connection, each asked after the one before."""
    line = await Line.open(port)
    answers = [await line.ask(request("POST", "/", b"{}")) for _ in range(round(RATE_S * SECONDS))]
    line.close()
    return sorted(answer.ended_s - answer.started_s for answer in answers)


@pytest.mark.slow
def test_a_stall_is_seen_by_all_requests_that_were_meant_to_start_in_it() -> None:
    """0.5 s of 2 s without an answer: a quarter of the requests waited. A closed loop has a single late one."""
    with serving(Stalling) as port:
        opened = asked(port)
    with serving(Stalling) as port:
        closed_s = asyncio.run(closed_loop(port))
    assert (opened.requests, opened.errors) == (400, 0)
    assert 0.9 * STALL_S * 1000 <= opened.p99_ms <= 1.5 * STALL_S * 1000
    assert percentile(closed_s, 0.99) < 0.2 * STALL_S
    assert closed_s[-1] >= STALL_S


@pytest.mark.slow
def test_requests_without_an_answer_are_errors_with_the_time_they_waited() -> None:
    """A server that falls silent after ten answers: the others are counted, not forgotten."""
    with serving(Silent) as port:
        opened = asked(port)
    assert (opened.requests, opened.errors) == (400, 390)
    assert opened.p50_ms >= 1_000


def test_a_percentile_of_nothing_is_zero() -> None:
    """A client that was never late has no lateness."""
    assert percentile([], 0.99) == 0.0


async def test_bodies_take_turns_and_each_request_is_told() -> None:
    """With the second at which it was meant to start, on one axis from 0."""
    bodies: list[str] = []
    told: list[tuple[float, float, bool]] = []

    class Remembering(Ending):
        def on_body(self, data: bytes) -> None:
            bodies.append(data.decode())

    with serving(Remembering) as port:
        order = Order(port, 40.0, 0.1, connections=1, path="/elsewhere", bodies=["one", "two"])
        await OpenLoop(order, lambda *one: told.append(one)).run()
    assert bodies == ["one", "two", "one", "two"]
    assert [meant_s for meant_s, _, _ in told] == pytest.approx([0.0, 0.025, 0.05, 0.075])
    assert all(latency_s > 0 and not failed for _, latency_s, failed in told)
