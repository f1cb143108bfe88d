"""TLS towards clients: real clients get their answers, and whoever does not speak it costs the others nothing."""

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from router.core.config import Limits, ListenerTls
from tests.gateway.bench import Bench, Gateway, route_of, until
from tests.gateway.clients import Client, request
from tests.gateway.upstreams import answering, chunked, ok

HELLO_ONLY = b"\x16\x03\x01\x02\x00\x01"
"""How a ClientHello begins, the rest of which never comes."""


def files(authority: Path, name: str = "localhost", *, client_ca: bool = False) -> ListenerTls:
    """Return the certificate of that name as a listener's."""
    ca = str(authority / "ca.pem") if client_ca else None
    return ListenerTls(str(authority / f"{name}.pem"), str(authority / f"{name}.key"), ca)


def trusting(authority: Path, *, me: bool = False) -> ssl.SSLContext:
    """Return the settings of a client that trusts our authority and, if `me`, has a certificate of it."""
    context = ssl.create_default_context(cafile=str(authority / "ca.pem"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    if me:
        context.load_cert_chain(authority / "me.pem", authority / "me.key")
    return context


async def secured(bench: Bench, authority: Path, *, client_ca: bool = False, limits: Limits | None = None) -> Gateway:
    """Return a gateway behind TLS in front of an upstream that echoes."""
    upstream = await bench.upstream()
    return await bench.gateway(route_of(upstream), tls=files(authority, client_ca=client_ca), limits=limits)


async def test_a_client_that_speaks_tls_is_served_as_any_other(bench: Bench, authority: Path) -> None:
    """Keep-alive, large bodies both ways, HTTP/1.1 by ALPN; the variant is told of https."""
    await secured(bench, authority)
    client = await bench.client(tls=trusting(authority))
    for body in (b"one", b"z" * 3_000_000, b""):
        answer = await client.ask("POST", "/", body)
        assert (answer.status, answer.body) == (200, body)
    session = client.writer.get_extra_info("ssl_object")
    assert session.selected_alpn_protocol() == "http/1.1"
    assert bench.upstreams[0].requests[0].field("x-forwarded-proto") == "https"
    assert len(bench.upstreams[0].visits) == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_last_answer_arrives_whole_before_the_connection_ends(
    bench: Bench, authority: Path, version: ssl.TLSVersion
) -> None:
    """With Connection: close, and behind an answer of 3 MB, by both versions of TLS."""
    upstream = await bench.upstream(answering(chunked(*[b"y" * 30_000] * 100)))
    await bench.gateway(route_of(upstream), tls=files(authority))
    context = trusting(authority)
    context.minimum_version = context.maximum_version = version
    client = await bench.client(tls=context)
    await client.send(request("POST", "/", b"x", "Connection: close"))
    rest = await client.to_the_end()
    assert rest.count(b"y") == 3_000_000
    assert rest.endswith(b"0\r\n\r\n")


async def test_a_refused_upload_reads_its_answer_over_tls(bench: Bench, authority: Path) -> None:
    """413 while the client still sends: the answer is not lost with the connection."""
    await secured(bench, authority, limits=Limits(body_bytes=1_000))
    client = await bench.client(tls=trusting(authority))
    client.writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + b"z" * 400_000)
    answer = await client.answer("POST")
    assert (answer.status, answer.field("connection")) == (413, "close")


async def test_a_truncated_answer_stays_visibly_truncated_over_tls(bench: Bench, authority: Path) -> None:
    """The variant dies within its answer: the client sees no close_notify and no end of the body."""
    upstream = await bench.upstream(answering(ok(b"x" * 100)[:-50]))
    await bench.gateway(route_of(upstream), tls=files(authority))
    client = await bench.client(tls=trusting(authority))
    await client.send(request("POST", "/", b"x"))
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert b"content-length: 100" in head
    await until(lambda: bool(upstream.visits), "the variant was asked")
    upstream.visits[0].writer.transport.abort()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)):
        await client.reader.readexactly(100)


async def test_only_clients_with_a_certificate_of_the_authority_are_served(bench: Bench, authority: Path) -> None:
    """`client_ca`: without one not a byte reaches a variant."""
    await secured(bench, authority, client_ca=True)
    known = await bench.client(tls=trusting(authority, me=True))
    assert (await known.ask("POST", "/", b"x")).status == 200
    stranger = await bench.client(tls=trusting(authority))  # in TLS 1.3 a client hears of its refusal afterwards
    stranger.writer.write(request("POST", "/", b"x"))
    with pytest.raises((ConnectionError, ssl.SSLError, asyncio.IncompleteReadError)):
        await stranger.reader.readexactly(1)
    assert len(bench.upstreams[0].requests) == 1


async def test_old_versions_of_tls_are_refused(bench: Bench, authority: Path) -> None:
    """TLS 1.1 does not get through the handshake."""
    await secured(bench, authority)
    context = trusting(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await bench.client(tls=context)


@pytest.mark.parametrize(
    "noise", [request("GET", "/"), b"\x00" * 600, b"\x16\x03\x01\x00\x05hello" + b"\xff" * 300, b"\x80\x2e\x01\x00\x02"]
)
async def test_what_is_not_tls_ends_without_a_traceback(bench: Bench, authority: Path, noise: bytes) -> None:
    """Plain HTTP and garbage are closed; the loop's exception handler (the bench's complaints) hears nothing."""
    await secured(bench, authority, limits=Limits(header_deadline_s=0.5))
    client = await bench.client()
    client.writer.write(noise)
    with contextlib.suppress(ConnectionError):  # a reset is an end, too
        await client.to_the_end()
    good = await bench.client(tls=trusting(authority))
    assert (await good.ask("POST", "/", b"x")).status == 200
    assert bench.complaints == []


async def test_handshakes_that_never_end_are_ended_while_a_good_client_is_served(bench: Bench, authority: Path) -> None:
    """300 connections send half a ClientHello: all are closed at the header's deadline, none counts as a request."""
    await secured(bench, authority, limits=Limits(header_deadline_s=1.0))
    peers = [socket.create_connection(("127.0.0.1", bench.gateways[0].port)) for _ in range(300)]
    try:
        for peer in peers:
            peer.sendall(HELLO_ONLY)
            peer.setblocking(False)  # noqa: FBT003 - the socket's own signature
        good = await bench.client(tls=trusting(authority))
        for _ in range(20):
            assert (await good.ask("POST", "/", b"x")).status == 200
        await until(lambda: all(_ended(peer) for peer in peers), "every one of them has been closed", within_s=15.0)
        assert (await good.ask("POST", "/", b"x")).status == 200
    finally:
        for peer in peers:
            peer.close()
    assert bench.gateways[0].outcomes() == {"ok": 21}
    assert bench.complaints == []


@pytest.mark.parametrize("sent", [b"", HELLO_ONLY], ids=["silent", "dripping"])
async def test_ov3_a_handshake_ends_at_its_absolute_deadline(bench: Bench, authority: Path, sent: bytes) -> None:
    """`limits.header_deadline`, also while a byte comes now and then; counted with its reason."""
    gateway = await secured(bench, authority, limits=Limits(header_deadline_s=0.4))
    client = await bench.client()
    await client.send(sent)
    await until(lambda: gateway.connections == 1, "it counts as a connection")
    dripping = asyncio.create_task(_drip(client)) if sent else None
    assert await _the_end(client) == b""
    if dripping:
        dripping.cancel()
    assert gateway.dropped("connection", "handshake_deadline") == 1
    assert gateway.connections == 0


async def _drip(client: Client) -> None:
    while True:
        client.writer.write(b"\x00")
        await asyncio.sleep(0.05)


async def _the_end(client: Client) -> bytes:
    """Return what comes before the connection ends, in order or by a reset."""
    try:
        return await client.to_the_end(within_s=5.0)
    except ConnectionError:
        return b""


@pytest.mark.parametrize("sent", [request(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""], ids=["http", "h2c", "left"])
async def test_handshakes_that_fail_are_counted_by_reason(bench: Bench, authority: Path, sent: bytes) -> None:
    """What is no TLS as `handshake_failed`; a client that leaves, such as a probe by connect, as `handshake_left`."""
    gateway = await secured(bench, authority)
    client = await bench.client()
    if sent:
        await client.send(sent)
        assert await _the_end(client) == b""
    else:
        client.close()
    reason = "handshake_failed" if sent else "handshake_left"
    await until(lambda: gateway.dropped("connection", reason) == 1, "it is counted")


async def test_ov4_handshakes_count_among_the_connections(bench: Bench, authority: Path) -> None:
    """`limits.connections` 2: one too many is closed before any cryptography; who is inside is served."""
    gateway = await secured(bench, authority, limits=Limits(connections=2))
    half = await bench.client()
    client = await bench.client(tls=trusting(authority))
    await until(lambda: gateway.connections == 2, "both are there")
    with pytest.raises(OSError, match=r".*"):
        await bench.client(tls=trusting(authority))
    assert gateway.dropped("connection", "limit") == 1
    half.abort()
    assert (await client.ask("POST", "/", b"x")).status == 200


def _ended(peer: socket.socket) -> bool:
    try:
        while peer.recv(4096):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True
