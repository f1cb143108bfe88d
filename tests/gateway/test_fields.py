"""Header fields: what is passed on, what is set, and what ends at the gateway, in both directions."""

import random
import string

import pytest

from router.core.traffic import Variant
from tests.gateway.bench import ROLLOUT, Bench, route_of, started
from tests.gateway.clients import request
from tests.gateway.upstreams import Visit, answering, ok

ID = "0123456789abcdef"


async def test_end_to_end_fields_pass_with_their_order_and_their_bytes(bench: Bench) -> None:
    """Doubled names keep their order, bytes above 127 stay as they are, in both directions."""
    upstream = await bench.upstream(answering(ok(b"", "X-B: 1", "Set-Cookie: a=b", "X-B: 2", "Set-Cookie: c=\xe9")))
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    answer = await client.ask("POST", "/a?b=c%20d", b"x", "X-A: 1", "Accept: */*", "X-A: \xfc 2", "X-Empty:")
    got = upstream.requests[0]
    assert (got.method, got.target) == ("POST", "/a?b=c%20d")
    assert (got.all("x-a"), got.field("accept"), got.field("x-empty")) == (["1", "\xfc 2"], "*/*", "")
    assert (answer.all("x-b"), answer.all("set-cookie")) == (["1", "2"], ["a=b", "c=\xe9"])


async def test_hop_by_hop_and_nominated_fields_end_here(bench: Bench) -> None:
    """RFC 9110 section 7.6.1, in both directions; authorization of a live request is passed on."""
    hop = ("Connection: X-Mine, keep-alive", "X-Mine: 1", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive")
    upstream = await bench.upstream(answering(ok(b"", *hop, "Trailer: X-T", "Upgrade: h2c", "X-Kept: 1")))
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    fields = (*hop, "TE: trailers", "Trailer: X-T", "X-Kept: 1", "Authorization: Bearer b", "Cookie: a=b")
    answer = await client.ask("POST", "/", b"x", *fields)
    gone = {"connection", "x-mine", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "transfer-encoding"}
    got = upstream.requests[0]
    assert not gone & {name for name, _ in got.fields}
    assert not gone & {name for name, _ in answer.fields}
    assert (got.field("x-kept"), answer.field("x-kept")) == ("1", "1")
    assert (got.field("authorization"), got.field("cookie")) == ("Bearer b", "a=b")


async def test_a_connection_field_cannot_take_the_framing_away(bench: Bench) -> None:
    """Nominating Host or Content-Length is ignored: the request stays framed."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    answer = await client.ask("POST", "/", b"body", "Connection: content-length, host, transfer-encoding")
    assert (answer.status, answer.body) == (200, b"body")
    assert upstream.requests[0].field("content-length") == "4"


async def test_proxy_connection_nominates_no_field(bench: Bench) -> None:
    """It ends here as a field of the hop, and ends the connection if it says so, but only Connection nominates."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    answer = await client.ask("POST", "/", b"x", "Proxy-Connection: X-Mine", "X-Mine: 1")
    last = await client.ask("POST", "/", b"x", "Proxy-Connection: close, X-Mine", "X-Mine: 2")
    assert [one.field("x-mine") for one in upstream.requests] == ["1", "2"]
    assert [one.field("proxy-connection") for one in upstream.requests] == [None, None]
    assert [one.field("connection") for one in (answer, last)] == [None, "close"]


async def test_via_is_added_in_both_directions(bench: Bench) -> None:
    """Behind those that were there already."""
    upstream = await bench.upstream(answering(ok(b"", "Via: 1.1 inner")))
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    answer = await client.ask("GET", "/", b"", "Via: 1.0 outer")
    assert upstream.requests[0].all("via") == ["1.0 outer", "1.1 turnout"]
    assert answer.all("via") == ["1.1 inner", "1.1 turnout"]


@pytest.mark.parametrize("valid", [ID, "a", "x" * 128, "!~%{}"])
async def test_a_valid_request_id_is_passed_on_and_answered(bench: Bench, valid: str) -> None:
    """The variant and the client get the client's id; an id that the variant sets does not replace it."""
    upstream = await bench.upstream(answering(ok(b"", "X-Request-Id: other")))
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    answer = await client.ask("GET", "/", b"", f"X-Request-Id: {valid}")
    assert upstream.requests[0].all("x-request-id") == [valid]
    assert answer.all("x-request-id") == [valid]


@pytest.mark.parametrize("fields", [(), ("X-Request-Id:",), ("X-Request-Id: " + "x" * 129,), ("X-Request-Id: a b",)])
async def test_an_invalid_request_id_is_replaced(bench: Bench, fields: tuple[str, ...]) -> None:
    """Each request gets one of its own, the same for the variant and the client."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream), boot="b00t")
    client = await bench.client()
    answers = [await client.ask("POST", "/", b"x", *fields) for _ in range(2)]
    ids = [answer.field("x-request-id") for answer in answers]
    assert [one.field("x-request-id") for one in upstream.requests] == ids
    assert ids == ["b00t-1", "b00t-2"]


async def test_trace_context_is_passed_on(bench: Bench) -> None:
    """`traceparent` and `tracestate` arrive as they were sent."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await client.ask("POST", "/", b"x", f"traceparent: {parent}", "tracestate: a=b")
    got = upstream.requests[0]
    assert (got.field("traceparent"), got.field("tracestate")) == (parent, "a=b")


@pytest.mark.parametrize(("trusted", "believed"), [((), False), (("10.0.0.0/8",), False), (("127.0.0.0/8",), True)])
async def test_forwarded_fields_are_believed_only_from_trusted_proxies(
    bench: Bench, trusted: tuple[str, ...], *, believed: bool
) -> None:
    """From others they are replaced by what we see ourselves."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream), trusted_proxies=trusted)
    client = await bench.client()
    sent = ("X-Forwarded-For: 1.2.3.4", "X-Forwarded-For: 5.6.7.8", "X-Forwarded-Proto: https", "X-Forwarded-Host: h")
    await client.ask("POST", "/", b"x", *sent)
    got = upstream.requests[0]
    seen = (got.field("x-forwarded-for"), got.field("x-forwarded-proto"), got.field("x-forwarded-host"))
    assert seen == (("1.2.3.4, 5.6.7.8, 127.0.0.1", "https", "h") if believed else ("127.0.0.1", "http", "svc"))


@pytest.mark.parametrize("trusted", [(), ("127.0.0.1",)])
async def test_forwarded_fields_are_set_where_there_are_none(bench: Bench, trusted: tuple[str, ...]) -> None:
    """The peer's address, our own scheme, the client's Host."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream), trusted_proxies=trusted)
    client = await bench.client()
    await client.ask("POST", "/", b"x")
    got = upstream.requests[0]
    assert (got.field("x-forwarded-for"), got.field("x-forwarded-proto"), got.field("x-forwarded-host")) == (
        "127.0.0.1",
        "http",
        "svc",
    )


OURS = ("x-turnout-variant", "x-turnout-mirror", "x-turnout-rescued", "x-turnout-origin")


async def test_fields_of_turnout_cannot_be_forged(bench: Bench) -> None:
    """A client cannot pass for a mirror, nor a variant for the gateway; and neither chooses the side."""
    stable = await bench.upstream(answering(ok(b"stable", *[f"{name}: forged" for name in OURS])))
    candidate = await bench.upstream()
    await bench.gateway(route_of(stable, candidate), states=[started()])
    client = await bench.client()
    answer = await client.ask("POST", "/", b"x", *[f"{name}: candidate" for name in OURS])
    assert not {name for name, _ in stable.requests[0].fields} & set(OURS)
    assert [(name, answer.all(name)) for name in OURS] == [
        ("x-turnout-variant", ["stable"]),
        ("x-turnout-mirror", []),
        ("x-turnout-rescued", []),
        ("x-turnout-origin", []),
    ]
    assert candidate.requests == []


async def test_the_answer_names_the_variant_unless_that_is_switched_off(bench: Bench) -> None:
    """`response_headers: false` leaves only the request id."""
    upstream = await bench.upstream()
    shown = await bench.gateway(route_of(upstream))
    hidden = await bench.gateway(route_of(upstream), response_headers=False)
    variants = [
        (await (await bench.client(gateway)).ask("POST", "/", b"x")).field("x-turnout-variant")
        for gateway in (shown, hidden)
    ]
    assert variants == ["stable", None]


@pytest.mark.parametrize(("host", "expected"), [(None, "127.0.0.1:{port}"), ("preserve", "svc"), ("m.test", "m.test")])
async def test_the_host_field_is_the_backends_own_unless_told_otherwise(
    bench: Bench, host: str | None, expected: str
) -> None:
    """`host` unset, `preserve`, or a name; for live requests and for copies."""
    stable, candidate = await bench.upstream(), await bench.upstream()
    route = route_of(Variant("v1", (stable.backend,), host=host), Variant("v2", (candidate.backend,), host=host))
    gateway = await bench.gateway(route, states=[started(mirror_bp=10_000)])
    client = await bench.client()
    await client.ask("POST", "/", b"x")
    await gateway.pairs(1)
    for upstream in (stable, candidate):
        assert upstream.requests[0].field("host") == expected.format(port=upstream.port)


async def test_an_absolute_target_sets_the_host(bench: Bench) -> None:
    """RFC 9112 section 3.2.2: the target wins over the Host field; the variant gets a path."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(Variant("v1", (upstream.backend,), host="preserve")))
    client = await bench.client()
    for target in ("http://inner.test:81/a?b=c", "HTTP://inner.test:81", "http://inner.test:81?b=c"):
        await client.send(request("POST", target, b"x"))
        assert (await client.answer("POST")).status == 200
    assert [one.target for one in upstream.requests] == ["/a?b=c", "/", "/?b=c"]
    assert {one.field("host") for one in upstream.requests} == {"inner.test:81"}
    assert {one.field("x-forwarded-host") for one in upstream.requests} == {"inner.test:81"}


async def test_a_copy_carries_the_mark_and_no_credentials(bench: Bench) -> None:
    """Everything else is as in the live request: ids, trace context, forwarded fields, own fields."""
    stable, candidate = await bench.upstream(), await bench.upstream()
    gateway = await bench.gateway(route_of(stable, candidate), states=[started(mirror_bp=10_000)])
    client = await bench.client()
    secret = ("Authorization: Bearer b", "Cookie: a=b", "Proxy-Authorization: Basic c")
    await client.ask("POST", "/p?q=1", b"body", *secret, "X-A: 1", "X-A: 2", "traceparent: 00-a-b-01", "Via: 1.1 me")
    await gateway.pairs(1)
    live, copy = stable.requests[0], candidate.requests[0]
    assert (copy.method, copy.target, copy.body) == ("POST", "/p?q=1", b"body")
    assert copy.field("x-turnout-mirror") == ROLLOUT
    assert live.field("x-turnout-mirror") is None
    assert [name for name in ("authorization", "cookie", "proxy-authorization") if copy.all(name)] == []
    assert live.field("authorization") == "Bearer b"
    own = {"host", "x-turnout-mirror", "authorization", "cookie", "proxy-authorization"}
    assert sorted(one for one in copy.fields if one[0] not in own) == sorted(
        one for one in live.fields if one[0] not in own
    )


@pytest.mark.parametrize("seed", range(4))
async def test_random_field_sets_arrive_as_they_were_sent(bench: Bench, seed: int) -> None:
    """Fifty sets each: doubled names, bytes above 127, empty values; order and bytes stay, in both directions."""
    rolls = random.Random(seed)
    answers: list[list[tuple[str, str]]] = []

    def some_fields() -> list[tuple[str, str]]:
        names = ["x-a", "X-B", "accept", "x-" + "".join(rolls.choices(string.ascii_letters + "!#$%&'*+.^_`|~", k=5))]
        values = "".join(map(chr, [*range(0x21, 0x7F), *range(0x80, 0x100)])) + "  \t"
        return [(rolls.choice(names), "".join(rolls.choices(values, k=rolls.randrange(40))).strip()) for _ in range(9)]

    async def script(visit: Visit) -> None:
        async for _ in visit.requests():
            answers.append(some_fields())
            await visit.send(ok(b"x", *[f"{name}: {value}" for name, value in answers[-1]]))

    upstream = await bench.upstream(script)
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    for turn in range(50):
        sent = some_fields()
        answer = await client.ask("POST", "/", b"x", *[f"{name}: {value}" for name, value in sent])
        for fields, got in ((sent, upstream.requests[turn].fields), (answers[turn], answer.fields)):
            expected = [(name.lower(), value) for name, value in fields]
            names = {name for name, _ in expected}
            assert [one for one in got if one[0] in names] == expected


@pytest.mark.parametrize(("trusted", "status"), [((), 421), (("127.0.0.0/8",), 200)], ids=["stranger", "proxy"])
async def test_an_https_url_without_tls_is_served_to_a_trusted_proxy_alone(
    bench: Bench, trusted: tuple[str, ...], status: int
) -> None:
    """RFC 9110 section 7.4: a request for https came over a secured connection, or through somebody who vouches."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream), trusted_proxies=trusted)
    client = await bench.client()
    answer = await client.ask("POST", "https://a.test/case", b"x")
    assert answer.status == status
    assert [one.target for one in upstream.requests] == (["/case"] if status == 200 else [])
