"""Variants with their own `path` or `model`: only the target changes, and only for the variant that asks for it."""

from model_adapters.opaque import Opaque
from router.core.config import Limits
from router.core.errors import UnreadableError
from router.core.inference import RawRequest
from router.core.traffic import Variant
from tests.gateway.bench import ADAPTERS, Bench, route_of, started
from tests.gateway.clients import request

INFER = "/v2/models/digits/infer?x=1"
BODY = b'{"inputs": [ ]}'


async def test_a_variant_with_a_path_gets_its_requests_there(bench: Bench) -> None:
    """The query and the body stay; a chunked body is framed by its length, since it is complete."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(Variant("v1", (upstream.backend,), path="/own")))
    client = await bench.client()
    assert (await client.ask("POST", "/a?b=c", b"body")).body == b"body"
    await client.send(
        b"POST /d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n"
    )
    assert (await client.answer("POST")).body == b"hi!"
    assert (await client.ask("GET", "/health")).status == 200
    seen = [(one.target, one.body, one.field("content-length")) for one in upstream.requests]
    assert seen == [("/own?b=c", b"body", "4"), ("/own", b"hi!", "3"), ("/own", b"", None)]


async def test_a_variant_with_a_model_gets_its_own_name_in_the_path(bench: Bench) -> None:
    """The live request goes to the served variant's model, the copy to the other's, each with the same body."""
    stable, candidate = await bench.upstream(), await bench.upstream()
    route = route_of(
        Variant("v1", (stable.backend,)),
        Variant("v2", (candidate.backend,), model="digits-v2"),
        adapter="open_inference",
    )
    shadow = await bench.gateway(route, states=[started(0, 10_000)])
    await (await bench.client(shadow)).ask("POST", INFER, BODY)
    await shadow.pairs(1)
    switched = await bench.gateway(route, states=[started(10_000, 10_000)])
    await (await bench.client(switched)).ask("POST", INFER, BODY)
    await switched.pairs(1)
    own = "/v2/models/digits-v2/infer?x=1"
    assert [(one.target, one.body) for one in stable.requests] == [(INFER, BODY)] * 2
    assert [(one.target, one.body) for one in candidate.requests] == [(own, BODY)] * 2


async def test_two_variants_with_paths_do_not_mix_them_up(bench: Bench) -> None:
    """Whoever serves, each variant gets its own path."""
    stable, candidate = await bench.upstream(), await bench.upstream()
    route = route_of(Variant("v1", (stable.backend,), path="/one"), Variant("v2", (candidate.backend,), path="/two"))
    gateway = await bench.gateway(route, states=[started(0, 10_000)])
    client = await bench.client()
    await client.ask("POST", "/x", b"1")
    await gateway.expose(weight_bp=10_000)
    await client.ask("POST", "/x", b"2")
    await gateway.pairs(2)
    assert [(one.target, one.body) for one in stable.requests] == [("/one", b"1"), ("/one", b"2")]
    assert [(one.target, one.body) for one in candidate.requests] == [("/two", b"1"), ("/two", b"2")]


async def test_a_request_that_cannot_be_readdressed_is_refused(bench: Bench) -> None:
    """400 with the reason, nothing is sent, and the connection stays."""
    upstream = await bench.upstream()
    route = route_of(Variant("v1", (upstream.backend,), model="m"), adapter="open_inference")
    gateway = await bench.gateway(route)
    client = await bench.client()
    answer = await client.ask("POST", "/no/model/here", b"{}")
    assert answer.status == 400
    assert b"names no model" in answer.body
    assert (await client.ask("POST", INFER, BODY)).status == 200
    assert len(upstream.requests) == 1
    assert gateway.outcomes() == {"client_error": 1, "ok": 1}


async def test_a_copy_that_cannot_be_readdressed_is_counted_and_the_live_answer_stays(bench: Bench) -> None:
    """Also when the adapter fails in a way that is not in its contract."""

    class Broken(Opaque):
        def retarget(self, raw: RawRequest, variant: Variant) -> RawRequest:  # noqa: ARG002 - its contract
            raise UnreadableError("no") if raw.body == b"1" else ZeroDivisionError

    stable, candidate = await bench.upstream(), await bench.upstream()
    route = route_of(Variant("v1", (stable.backend,)), Variant("v2", (candidate.backend,), path="/p"))
    gateway = await bench.gateway(route, states=[started(0, 10_000)], adapters={**ADAPTERS, "opaque": Broken()})
    client = await bench.client()
    assert [(await client.ask("POST", "/", body)).body for body in (b"1", b"2")] == [b"1", b"2"]
    pairs = await gateway.pairs(2)
    assert [(pair.stable.outcome, pair.candidate.outcome) for pair in pairs] == [("ok", "client_error")] * 2
    assert gateway.dropped("copy", "not_readdressable") == 2
    assert candidate.requests == []


async def test_a_body_that_cannot_be_kept_cannot_be_readdressed(bench: Bench) -> None:
    """Over `kept_body` the request is refused with 413, by its length or as its chunks come."""
    upstream = await bench.upstream()
    gateway = await bench.gateway(
        route_of(Variant("v1", (upstream.backend,), path="/p")), limits=Limits(kept_body_bytes=1_000)
    )
    client = await bench.client()
    assert (await client.ask("POST", "/", b"x" * 1_000)).status == 200
    assert (await client.ask("POST", "/", b"x" * 1_001)).status == 413
    other = await bench.client()
    await other.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"12c\r\n%b\r\n" % (b"x" * 300) * 4
    )
    assert (await other.answer("POST")).status == 413
    assert gateway.outcomes() == {"ok": 1, "oversize": 2}
    assert gateway.held() == {}
    assert len(upstream.requests) == 1


async def test_pipelined_readdressed_requests_stay_in_order(bench: Bench) -> None:
    """Each is complete before it is sent; the order of the answers is the order of the requests."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(Variant("v1", (upstream.backend,), path="/p")))
    client = await bench.client()
    await client.send(b"".join(request("POST", f"/{number}", b"%d" % number) for number in range(5)))
    assert [(await client.answer("POST")).body for _ in range(5)] == [b"%d" % number for number in range(5)]
