"""SE7: what clients say about themselves ends at the gateway, and no path leads a request past its Route."""

import socket

import pytest

from router.core.traffic import Match
from tests.gateway.bench import Bench, route_of
from tests.gateway.clients import request
from tests.gateway.upstreams import answering, ok

CLAIMS = (
    "Forwarded: for=1.2.3.4;proto=https", "X-Real-IP: 1.2.3.4", "X-Forwarded-Port: 1", "X-Forwarded-Prefix: /x",
    "X-Forwarded-Client-Cert: By=me", "True-Client-IP: 1.2.3.4", "X-Original-URL: /admin", "X-Rewrite-URL: /admin",
)  # fmt: skip


@pytest.mark.parametrize("trusted", [(), ("10.0.0.0/8", "::1"), ("10.0.0.0/8", "127.0.0.1")])
async def test_se7_claims_are_passed_on_only_from_a_trusted_proxy(bench: Bench, trusted: tuple[str, ...]) -> None:
    """All fields by which proxies speak of a client, as they were sent or not at all."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream), trusted_proxies=trusted)
    await (await bench.client()).ask("POST", "/", b"x", *CLAIMS)
    sent = {(name.lower(), value) for name, _, value in (line.partition(": ") for line in CLAIMS)}
    assert sent & set(upstream.requests[0].fields) == (sent if "127.0.0.1" in trusted else set())


ALIASES = (
    "X_Forwarded_For", "X-Forwarded_For", "x_forwarded-proto", "X_Turnout_Variant", "X_Turnout_Mirror", "X_Real_IP",
    "Content_Length", "Transfer_Encoding", "X_Request_Id", "X_Forwarded_Client_Cert",
)  # fmt: skip


@pytest.mark.parametrize("trusted", [(), ("127.0.0.1",)])
async def test_se7_an_underscore_makes_no_field_of_ours(bench: Bench, trusted: tuple[str, ...]) -> None:
    """Aliases in the manner of CGI end here from anybody; other names with underscores pass."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream), trusted_proxies=trusted, override_networks=trusted)
    await (await bench.client()).ask("POST", "/", b"x", *[f"{name}: 7" for name in ALIASES], "My_Own: 1")
    names = {name for name, _ in upstream.requests[0].fields}
    assert not names & {name.lower() for name in ALIASES}
    assert upstream.requests[0].field("my_own") == "1"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (("X-Forwarded-Proto: HTTPS", "X-Forwarded-Host: a.test:8"), ("https", "a.test:8")),
        (("X-Forwarded-Proto: gopher", "X-Forwarded-Host: a b"), ("http", "svc")),
        (("X-Forwarded-Proto: https, http", "X-Forwarded-Host: a/../b"), ("http", "svc")),
        (("X-Forwarded-Proto:", "X-Forwarded-Host:"), ("http", "svc")),
    ],
)
async def test_se7_garbage_of_a_trusted_proxy_is_not_believed(
    bench: Bench, sent: tuple[str, ...], expected: tuple[str, str]
) -> None:
    """Scheme and host must be one; the chain is passed on as it is, ending with the peer that we see ourselves."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream), trusted_proxies=("127.0.0.1",))
    await (await bench.client()).ask("POST", "/", b"x", *sent, 'X-Forwarded-For: "><b>, unknown')
    got = upstream.requests[0]
    assert (got.field("x-forwarded-proto"), got.field("x-forwarded-host")) == expected
    assert got.field("x-forwarded-for") == '"><b>, unknown, 127.0.0.1'


async def test_se7_peers_are_known_by_either_family(bench: Bench) -> None:
    """On a socket for both an IPv4 peer is in IPv4 networks, and is named as such; an IPv6 one in IPv6 networks."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    import asyncio

    upstream = await bench.upstream()
    gateway = await bench.gateway(route_of(upstream), trusted_proxies=("127.0.0.0/8",))
    server = await asyncio.get_running_loop().create_server(
        gateway.worker._protocol(),  # noqa: SLF001 - the same worker, on a socket for both
        sock=socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True),
    )
    port = server.sockets[0].getsockname()[1]
    for host in ("127.0.0.1", "::1"):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(request("GET", "/", b"", "X-Forwarded-For: 1.2.3.4", "Connection: close"))
        await reader.read()
        writer.close()
    server.close()
    assert [one.field("x-forwarded-for") for one in upstream.requests] == ["1.2.3.4, 127.0.0.1", "::1"]


PREFIX = "/v2/models/digits"
CLIMBING = (
    "/../admin", "/..", "/.", "/./x", "/../../admin", "/%2e%2e/admin", "/.%2E/admin", "/%2e", "/..%2fadmin",
    "/x%2f..%2f..%2fadmin", "/..%5cadmin", "/..\\admin", "/x\\..\\admin", "/..;/admin", "/..;x=y/admin", "/..%3b/admin",
    "/../../admin?x=y",
)  # fmt: skip


@pytest.mark.parametrize("tail", CLIMBING)
async def test_se7_a_path_that_climbs_out_of_its_route_is_refused(bench: Bench, tail: str) -> None:
    """Dot segments, as such or percent-encoded, behind any mark that some server takes for a slash: 400."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream, match=Match(PREFIX)))
    for target in (PREFIX + tail, f"http://a{PREFIX}{tail}"):
        client = await bench.client()
        assert (await client.ask("GET", target)).status == 400
    assert upstream.requests == []


@pytest.mark.parametrize(
    "tail",
    ["", "/infer", "/versions/1.0/infer", "/.well-known", "/..x", "/...", "/x..", "/a%2Fb", "//infer", "/a?b=/../c",
     "/%252e%252e/x", "/a;b"],
)  # fmt: skip
async def test_se7_other_paths_arrive_as_they_were_sent(bench: Bench, tail: str) -> None:
    """Byte for byte: nothing is decoded, joined or merged, since the variant must see what the Route was matched on."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream, match=Match(PREFIX)))
    assert (await (await bench.client()).ask("GET", PREFIX + tail)).status == 200
    assert upstream.requests[0].target == PREFIX + tail


@pytest.mark.parametrize(
    "target",
    ["//v2/models/digits", "/v2%2Fmodels/digits", "/v2/models/digit%73", "/v2/models/digitsx", "/V2/models/digits"],
)
async def test_se7_a_route_covers_only_what_was_sent_so(bench: Bench, target: str) -> None:
    """Matched byte for byte and by whole segments: another spelling of the prefix is another path, here 404."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream, match=Match(PREFIX)))
    assert (await (await bench.client()).ask("GET", target)).status == 404
    assert upstream.requests == []


WEBSOCKET = ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip


async def test_a_websocket_handshake_is_refused_with_a_reason(bench: Bench) -> None:
    """501 and the end of the connection; what a client might send behind it as frames is not read as a request."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    await client.send(request("GET", "/", b"", *WEBSOCKET) + b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")
    answer = await client.answer()
    assert (answer.status, answer.field("connection"), answer.field("upgrade")) == (501, "close", None)
    assert "WebSocket" in answer.body.decode()
    assert upstream.requests == []


@pytest.mark.parametrize("fields", [("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
                                    ("Upgrade: websocket",)])  # fmt: skip
async def test_other_upgrades_are_passed_over(bench: Bench, fields: tuple[str, ...]) -> None:
    """RFC 9110 section 7.8: the request is answered as HTTP/1.1; none of these fields reaches the variant."""
    upstream = await bench.upstream(answering(ok(b"here")))
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    assert [(await client.ask("GET", "/", b"", *fields)).body for _ in range(2)] == [b"here"] * 2
    names = {name for name, _ in upstream.requests[0].fields}
    assert not names & {"upgrade", "connection", "http2-settings"}


async def test_the_preface_of_http2_gets_a_clean_end(bench: Bench) -> None:
    """`PRI * HTTP/2.0` and frames behind it: one error in HTTP/1.1, then the end."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    answer = await client.answer()
    assert (answer.status in (400, 505), answer.field("connection")) == (True, "close")
    assert await client.to_the_end() == b""
    assert upstream.requests == []


@pytest.mark.parametrize("expect", ["100-continue", "100-Continue"])
async def test_a_client_that_waits_for_100_is_told_to_go_on(bench: Bench, expect: str) -> None:
    """Once, before the body; the expectation ends here."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    await client.send(request("POST", "/", b"body", f"Expect: {expect}")[:-4])
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"body")
    assert (await client.answer("POST")).body == b"body"
    assert upstream.requests[0].all("expect") == []
