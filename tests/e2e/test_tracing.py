"""Traces end to end: `turnout serve`, real upstreams, and a receiver that decodes what comes over OTLP."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.harness import Turnout, Turnouts
from tests.e2e.load import eventually, until
from tests.e2e.model_server import BODY, FailingServer, ModelServer, Seen
from tests.e2e.otlp_receiver import OtlpReceiver, SeenSpan
from tests.e2e.wire import Answer, fetch, request

pytestmark = pytest.mark.slow

SHARES = {"plain": None, "canary": ("100%", "0%"), "mirror": ("0%", "100%"), "rescued": ("100%", "0%")}
"""Weight and mirror of each Route's rollout; the candidate of `rescued` fails."""

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT = "00f067aa0ba902b7"
SECRET = "4711-secret"


@dataclass(slots=True)
class Stage:
    """Four Routes that share their upstreams, and where their spans go."""

    receiver: OtlpReceiver = field(default_factory=OtlpReceiver)
    v1: ModelServer = field(default_factory=lambda: ModelServer(1))
    v2: ModelServer = field(default_factory=lambda: ModelServer(2))
    bad: ModelServer = field(default_factory=lambda: FailingServer(3))

    def config(self, **tracing: str) -> dict[str, Any]:
        """Return a configuration for them."""
        routes = {}
        for name, shares in SHARES.items():
            candidate = self.bad if name == "rescued" else self.v2
            route: dict[str, Any] = {
                "match": {"path_prefix": f"/{name}"},
                "adapter": "open_inference",
                "variants": {"v1": {"url": self.v1.url}, "v2": {"url": candidate.url}},
                "stable": "v1",
            }
            if shares:
                step = {"weight": shares[0], "mirror": shares[1], "bake": "1h"}
                gate = {"metric": "disagreement" if name == "mirror" else "error_rate", "max": "50%"}
                route["rollout"] = {"candidate": "v2", "policy": "canary", "steps": [step], "gates": [gate]}
            routes[name] = route
        listeners = {name: {"port": 0} for name in ("gateway", "admin", "ops")}
        return {**listeners, "routes": routes, "tracing": {"endpoint": self.receiver.url, **tracing}}


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Return a stage whose upstreams and receiver run."""
    one = Stage()
    async with AsyncExitStack() as running:
        for server in (one.v1, one.v2, one.bad):
            await running.enter_async_context(server.running())
        running.enter_context(one.receiver.running())
        yield one


async def routed(turnout: Turnout) -> None:
    """Return once every Route is routed as its rollout says."""

    async def so() -> bool:
        page = (await fetch(turnout.port("ops"), request("GET", "/metrics"))).body.decode()
        wanted = (
            'weight_ratio{route="canary"} 1.0',
            'weight_ratio{route="rescued"} 1.0',
            'mirror_ratio{route="mirror"} 1.0',
        )
        return all(f"turnout_{one}" in page for one in wanted)

    await eventually(so)


async def ask(turnout: Turnout, route: str, *, flags: str = "01", **headers: str) -> Answer:
    """Return the answer to one request of a client whose span is CLIENT, with a secret wherever one may be."""
    fields = {
        "traceparent": f"00-{TRACE}-{CLIENT}-{flags}", "tracestate": "vendor=1",
        "authorization": f"Bearer {SECRET}", **headers,
    }  # fmt: skip
    target = f"/{route}/v2/models/digits/infer?key={SECRET}"
    return await fetch(turnout.port("gateway"), request("POST", target, BODY, fields))


def call_in(seen: Seen) -> str:
    """Return the id of the span that an upstream was told to be below."""
    version, trace, span, flags = seen.headers["traceparent"].split("-")
    assert (version, trace, flags, seen.headers["tracestate"]) == ("00", TRACE, "01", "vendor=1")
    return span


async def test_each_request_is_one_span_with_one_below_for_each_call(turnouts: Turnouts, stage: Stage) -> None:
    """Plain, canary, mirror and rescued: right parents at the receiver, and the upstreams were told just these."""
    before_ns = time.time_ns()
    turnout = await turnouts.start(stage.config(sample="0%"))
    await routed(turnout)
    expected = {"plain": 1, "canary": 1, "mirror": 2, "rescued": 2}
    found: dict[str, tuple[SeenSpan, list[SeenSpan]]] = {}
    told: dict[str, set[str]] = {}
    for route, calls in expected.items():
        for server in (stage.v1, stage.v2, stage.bad):
            server.seen.clear()
        stage.receiver.spans.clear()
        assert (await ask(turnout, route)).status == 200
        await until(lambda calls=calls: len(stage.receiver.spans) == calls + 1)  # type: ignore[misc]
        (top,) = [span for span in stage.receiver.spans if span.kind == "server"]
        found[route] = (top, [span for span in stage.receiver.spans if span.kind == "client"])
        told[route] = {call_in(seen) for server in (stage.v1, stage.v2, stage.bad) for seen in server.seen}
    for route, (top, below) in found.items():
        assert (top.trace_id, top.parent_id, top.state) == (TRACE, CLIENT, "vendor=1")
        assert (top.name, top.status) == (f"POST /{route}", "unset")
        assert {call.parent_id for call in below} == {top.span_id}
        assert {call.span_id for call in below} == told[route]
        assert {call.trace_id for call in below} == {TRACE}
        assert top["http.request.method"] == "POST"
        assert top["http.response.status_code"] == 200
        assert top["url.path"] == f"/{route}/v2/models/digits/infer"
        assert top["turnout.route"] == route
        assert top.resource["service.name"] == "turnout"
        live = [call for call in below if "turnout.mirror" not in call.attributes]
        assert before_ns < top.begun_ns <= min(call.begun_ns for call in live)
        assert max(call.ended_ns for call in live) <= top.ended_ns < time.time_ns()
    assert "turnout.rollout" not in found["plain"][0].attributes
    for route in ("canary", "mirror", "rescued"):
        for span in (found[route][0], *found[route][1]):
            assert str(span["turnout.rollout"]).endswith(".1")
            assert span["turnout.exposure"] == 1

    def of(route: str) -> list[tuple[object, ...]]:
        wanted = ("turnout.variant", "turnout.mirror", "turnout.rescue", "http.response.status_code", "error.type")
        return [tuple(call.attributes.get(one) for one in wanted) for call in found[route][1]]

    assert of("plain") == [("v1", None, None, 200, None)]
    assert of("canary") == [("v2", None, None, 200, None)]
    assert sorted(of("mirror"), key=str) == [("v1", None, None, 200, None), ("v2", True, None, 200, None)]
    assert of("rescued") == [("v2", None, None, 500, "500"), ("v1", None, True, 200, None)]
    assert [call.status for call in found["rescued"][1]] == ["error", "unset"]
    assert (found["rescued"][0]["turnout.variant"], found["rescued"][0]["turnout.rescued_from"]) == ("v1", "http_error")
    assert found["plain"][1][0]["server.port"] == stage.v1.port
    assert SECRET.encode() not in b"".join(stage.receiver.bodies)


async def test_the_clients_decision_holds_and_others_are_drawn(turnouts: Turnouts, stage: Stage) -> None:
    """Sampled=0 leaves no span and passes as it came; without a decision the ratio decides, and upstreams hear it."""
    turnout = await turnouts.start(stage.config(sample="100%"))
    await routed(turnout)
    for route in SHARES:
        assert (await ask(turnout, route, flags="00")).status == 200
    seen = [*stage.v1.seen, *stage.v2.seen, *stage.bad.seen]
    assert {one.headers["traceparent"] for one in seen} == {f"00-{TRACE}-{CLIENT}-00"}
    stage.v1.seen.clear()
    assert (await ask(turnout, "plain", traceparent="00-zero")).status == 200
    await until(lambda: len(stage.receiver.spans) == 2)
    top, call = sorted(stage.receiver.spans, key=lambda span: span.kind, reverse=True)
    assert (top.parent_id, call.parent_id, top.state) == ("", top.span_id, "")
    assert top.trace_id != TRACE
    assert stage.v1.seen[0].headers["traceparent"] == f"00-{call.trace_id}-{call.span_id}-01"
    assert "tracestate" not in stage.v1.seen[0].headers  # of a traceparent that says nothing


async def test_a_receiver_that_is_away_costs_spans_and_nothing_else(turnouts: Turnouts, stage: Stage) -> None:
    """No request notices, each lost span is counted, and spans arrive again once the receiver is back."""
    turnout = await turnouts.start(stage.config(sample="100%", timeout="100ms"))
    await routed(turnout)
    stage.receiver.status = 503
    for _ in range(20):
        assert (await ask(turnout, "plain")).status == 200
    lost = 'turnout_dropped_total{reason="export",what="span"} 40.0'

    async def counted() -> bool:
        return lost in (await fetch(turnout.port("ops"), request("GET", "/metrics"))).body.decode()

    await eventually(counted)
    assert stage.receiver.spans == []
    stage.receiver.status = 200
    assert (await ask(turnout, "plain")).status == 200
    await until(lambda: len(stage.receiver.spans) == 2)

    def told() -> list[str]:
        return [line["event"] for line in turnout.logged("warning", "info") if line.get("component") == "tracing"]

    await until(lambda: len(told()) >= 2)
    assert told() == ["spans are not taken: they are dropped and counted until they are", "spans are taken"]


async def test_what_is_recorded_at_the_end_arrives(turnouts: Turnouts, stage: Stage) -> None:
    """Workers hand over before they end, and the parent exports before it does."""
    turnout = await turnouts.start(stage.config(sample="100%"))
    await routed(turnout)
    for _ in range(50):
        assert (await ask(turnout, "plain")).status == 200
    assert await turnout.stop() == 0
    assert len(stage.receiver.spans) == 100
