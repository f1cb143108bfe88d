"""Failed requests in the log: one line a second for each variant, with the id of one of them."""

import json
import time

import pytest

from router.core.config import LogConfig
from router.core.traffic import Backend, Timeouts, Variant
from router.telemetry import logs
from tests.gateway.bench import Bench, route_of, started, until
from tests.gateway.test_upstream_faults import closed_port
from tests.gateway.upstreams import answering, echo, never, ok
from tests.telemetry.test_logs import restored

__all__ = ["restored"]

pytestmark = pytest.mark.usefixtures("restored")


def lines(capsys: pytest.CaptureFixture[str], found: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return all lines about failed requests until now, `found` being the earlier ones."""
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    found += [line for line in said if line["event"] == "requests failed"]
    return found


async def test_a_hundred_failures_are_a_line_a_second_that_names_one_of_them(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON: route, variant, how it ended, how many they were, and the latest one's x-request-id. All are counted."""
    logs.configure(LogConfig(format="json"), process="gateway-0")
    await bench.gateway(route_of(Variant("v1", (Backend("127.0.0.1", closed_port()),))))
    client = await bench.client()
    began = time.monotonic()
    for number in range(100):
        assert (await client.ask("POST", "/", b"x", f"x-request-id: id-{number}")).status == 502
    found: list[dict[str, object]] = []
    await until(lambda: sum(int(str(one["requests"])) for one in lines(capsys, found)) == 100, "all are told")
    assert 1 <= len(found) <= 2 + time.monotonic() - began
    (last,) = found[-1:]
    assert (last["level"], last["process"], last["component"]) == ("warning", "gateway-0", "gateway")
    assert (last["route"], last["variant"], last["outcome"], last["request_id"]) == (
        "r",
        "v1",
        "connect_failed",
        "id-99",
    )


async def test_a_rescued_failure_is_told_of_the_candidate_and_others_have_their_words(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """A 500 that no client saw, and a deadline. Clients that leave and requests that succeed leave no line."""
    logs.configure(LogConfig(format="json"), process="gateway-0")
    candidate = await bench.upstream(answering(ok(b"oops", status="500 Oops")))
    first = await bench.gateway(route_of(await bench.upstream(echo), candidate), states=[started(10_000)])
    slow = await bench.gateway(route_of(await bench.upstream(never), timeouts=Timeouts(total_s=0.2)))
    client = await bench.client(first)
    assert (await client.ask("POST", "/", b"x", "x-request-id: one")).status == 200
    leaving = await bench.client(slow)
    await leaving.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx")
    await until(lambda: bench.upstreams[-1].requests, "it is there")
    leaving.abort()
    client = await bench.client(slow)
    assert (await client.ask("POST", "/", b"x", "x-request-id: two")).status == 504
    found: list[dict[str, object]] = []
    await until(lambda: len(lines(capsys, found)) == 2, "both are told")
    assert [(one["variant"], one["outcome"], one["request_id"], one["requests"]) for one in found] == [
        ("v2", "http_error", "one", 1), ("v1", "timeout", "two", 1),
    ]  # fmt: skip
