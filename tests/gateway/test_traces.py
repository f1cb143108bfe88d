"""What a worker says of a request in its trace: to the upstreams at once, to its parent when each piece has ended."""

from dataclasses import dataclass, field

import pytest

from router.core.config import TracingConfig
from router.core.traffic import Backend, Variant
from router.gateway.channel import Spans
from router.gateway.traces import BATCH
from router.telemetry.tracing import SPAN_BYTES, Span
from tests.gateway.bench import Bench, Gateway, route_of, started, until
from tests.gateway.clients import request
from tests.gateway.test_upstream_faults import closed_port
from tests.gateway.upstreams import Script, Upstream, answering, echo, never, ok, resetting

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT = "00f067aa0ba902b7"
SAMPLED = f"traceparent: 00-{TRACE}-{CLIENT}-01"
OOPS = ok(b"oops", status="500 Oops")


@dataclass(slots=True)
class TakingParent:
    """Takes spans while it is `clear`."""

    clear: bool = True
    sent: list[Spans] = field(default_factory=list)

    def send(self, message: Spans) -> None:
        """Take some."""
        self.sent.append(message)

    @property
    def spans(self) -> list[Span]:
        """All that were taken."""
        return [span for message in self.sent for span in message.spans]


async def traced(
    bench: Bench, *scripts: Script | Variant, shares: tuple[int, int] | None = None, **config: int
) -> tuple[Gateway, TakingParent]:
    """Return a gateway that samples nothing by itself, and what its parent has got."""
    sides = [one if isinstance(one, Variant) else await bench.upstream(one) for one in scripts]
    parent = TakingParent()
    tracing = TracingConfig("http://nobody", **{"sample_bp": 0, **config})  # type: ignore[arg-type]
    states = [started(*shares)] if shares else []
    return await bench.gateway(route_of(*sides), states=states, tracing=tracing, parent=parent), parent


async def ask(bench: Bench, *fields: str, method: str = "POST", target: str = "/p?q=1") -> int:
    """Return the status of one request on a connection of its own."""
    client = await bench.client()
    return (await client.ask(method, target, b"x", *fields)).status


async def taken(parent: TakingParent, number: int) -> list[Span]:
    """Return the spans, the request's own first, once there are so many."""
    await until(lambda: len(parent.spans) >= number, f"{number} spans")
    assert len(parent.spans) == number
    return sorted(parent.spans, key=lambda span: not span.server)


def told(upstream: Upstream) -> list[str]:
    """Return what each request there was told of its trace."""
    return [str(one.field("traceparent")) for one in upstream.requests]


async def test_a_connect_that_fails_is_a_call_too(bench: Bench) -> None:
    """Of the live request, which stable rescues, and of a copy: both have a span without a status."""
    nobody = Variant("v2", (Backend("127.0.0.1", closed_port()),))
    for shares, mark in (((10_000, 0), "turnout.rescue"), ((0, 10_000), "turnout.mirror")):
        _, parent = await traced(bench, echo, nobody, shares=shares)
        client = await bench.client(bench.gateways[-1])
        assert (await client.ask("POST", "/", b"x", SAMPLED)).status == 200
        top, *calls = await taken(parent, 3)
        (lost,) = [call for call in calls if call.attributes["turnout.outcome"] == "connect_failed"]
        (good,) = [call for call in calls if call is not lost]
        assert "http.response.status_code" not in lost.attributes
        assert (lost.attributes["error.type"], lost.failed) == ("connect_failed", True)
        assert {lost.parent_id, good.parent_id} == {top.span_id}
        assert mark in (good if mark == "turnout.rescue" else lost).attributes
        assert top.begun_ns <= lost.begun_ns <= lost.ended_ns
        assert (top.attributes["http.response.status_code"], top.failed) == (200, False)


@pytest.mark.parametrize(
    ("script", "outcome", "own_status", "upstream_status"),
    [
        (answering(OOPS), "http_error", 500, 500),
        (answering(ok(b"", status="404 Not Found")), "client_error", 404, 404),
        (resetting(b""), "reset", 502, None),
        (answering(b"nonsense\r\n\r\n"), "malformed", 502, None),
    ],
)
async def test_a_failure_is_told_where_it_happened(
    bench: Bench, script: Script, outcome: str, own_status: int, upstream_status: int | None
) -> None:
    """The request has the status that its client got, the call the one that the upstream gave; errors have a type."""
    _, parent = await traced(bench, script)
    assert await ask(bench, SAMPLED) == own_status
    top, call = await taken(parent, 2)
    assert top.attributes["http.response.status_code"] == own_status
    assert call.attributes.get("http.response.status_code") == upstream_status
    assert (top.attributes["turnout.outcome"], call.attributes["turnout.outcome"]) == (outcome, outcome)
    assert call.attributes["error.type"] == (str(upstream_status) if upstream_status else outcome)
    assert (top.failed, call.failed) == (own_status >= 500, True)


async def test_a_request_that_matches_no_route_is_one_span(bench: Bench) -> None:
    """404 of our own: no variant, no call, no route in its name."""
    gateway, parent = await traced(bench, echo)
    del gateway.worker.table.standings["r"]
    assert await ask(bench, SAMPLED) == 404
    (top,) = await taken(parent, 1)
    assert (top.name, top.attributes["http.response.status_code"]) == ("POST", 404)
    assert "turnout.variant" not in top.attributes


async def test_a_client_that_leaves_gives_a_cancelled_span(bench: Bench) -> None:
    """Its request has no status and is no error; the call to the variant is cancelled too."""
    _, parent = await traced(bench, never)
    client = await bench.client()
    await client.send(request("POST", "/", b"x", SAMPLED))
    await until(lambda: bench.upstreams[0].requests, "the request is there")
    client.abort()
    top, call = await taken(parent, 2)
    assert (top.attributes["error.type"], call.attributes["error.type"]) == ("cancelled", "cancelled")
    assert not top.failed
    assert "http.response.status_code" not in {*top.attributes, *call.attributes}


async def test_names_and_addresses_have_bounds(bench: Bench) -> None:
    """A method without a name of its own is _OTHER, the query is in no span, the Host field is read with its port."""
    _, parent = await traced(bench, echo)
    assert await ask(bench, SAMPLED, method="PROPFIND") == 200
    top, call = await taken(parent, 2)
    assert (top.name, call.name) == ("HTTP /", "HTTP")
    assert (top.attributes["http.request.method"], top.attributes["http.request.method_original"]) == (
        "_OTHER", "PROPFIND",
    )  # fmt: skip
    assert top.attributes["url.path"] == "/p"
    assert call.attributes["url.full"] == f"http://127.0.0.1:{bench.upstreams[0].backend.port}/p"
    assert top.attributes["http.route"] == "/"


async def test_the_same_head_is_told_another_place_each_time(bench: Bench) -> None:
    """Heads are known and shared: none of them keeps what was said of one request, with copies and without."""
    gateway, parent = await traced(bench, echo, echo, shares=(0, 10_000), sample_bp=10_000)
    client = await bench.client()
    for _ in range(3):
        assert (await client.ask("POST", "/", b"x")).status == 200
    spans = await taken(parent, 9)
    told_all = [one for upstream in bench.upstreams for one in told(upstream)]
    assert sorted(told_all) == sorted(
        f"00-{span.trace_id:032x}-{span.span_id:016x}-01" for span in spans if not span.server
    )
    assert len({span.trace_id for span in spans}) == 3
    assert all(b"traceparent" not in head.lines for head in gateway.worker.known._heads.values())  # noqa: SLF001 - all


@pytest.mark.parametrize(
    "given", [(), ("traceparent: 00-x", "tracestate: a=b"), (SAMPLED, SAMPLED), ("tracestate: a=b",)]
)
async def test_without_a_usable_context_a_new_trace_begins(bench: Bench, given: tuple[str, ...]) -> None:
    """Its decision is told to live request and copy alike, here that nothing is recorded; their ids differ."""
    _, parent = await traced(bench, echo, echo, shares=(0, 10_000))
    assert await ask(bench, *given) == 200
    await until(lambda: all(one.requests for one in bench.upstreams), "both were asked")
    (live,), (copy,) = map(told, bench.upstreams)
    assert (live[:36], live[-3:]) == (copy[:36], "-00")
    assert live[36:52] != copy[36:52]
    assert live[3:35] != TRACE
    assert [one.requests[0].field("tracestate") for one in bench.upstreams] == [None, None]
    assert parent.spans == []


async def test_a_parent_that_does_not_read_costs_spans_and_no_request(bench: Bench) -> None:
    """The queue is bounded in bytes, what is too much is counted, and what waited goes in batches once it reads."""
    _, parent = await traced(bench, echo, sample_bp=10_000, queue_bytes=400 * SPAN_BYTES)
    parent.clear = False
    client = await bench.client()
    for _ in range(220):
        assert (await client.ask("POST", "/", b"x")).status == 200
    lost = bench.gateways[0].dropped("span", "queue")
    assert parent.sent == []
    assert 41 <= lost <= 60  # 440 spans, and their texts take up to 5 % of the room
    parent.clear = True
    await until(lambda: len(parent.spans) == 440 - lost, "all that waited")
    assert max(len(message.spans) for message in parent.sent) == BATCH


async def test_what_waits_at_the_end_is_handed_over(bench: Bench) -> None:
    """Also to a parent that is busy: it reads before the worker ends."""
    _, parent = await traced(bench, echo, sample_bp=10_000)
    parent.clear = False
    assert await ask(bench) == 200
    await bench.end()
    bench.gateways.clear()
    assert len(parent.spans) == 2
