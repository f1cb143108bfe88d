"""TLS to variants: certificates are checked, and a variant that cannot prove itself gets no request."""

import ssl
from pathlib import Path

import pytest

from router.core.traffic import Backend, TlsSpec, Variant
from tests.gateway.bench import Bench, route_of, started
from tests.gateway.upstreams import Script, Upstream, Visit, echo


async def secure(
    bench: Bench, authority: Path, name: str = "localhost", script: Script = echo, *, asks: bool = False
) -> Upstream:
    """Return an upstream that shows the certificate `name`; `asks`: for one of the client's, too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / f"{name}.pem", authority / f"{name}.key")
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority / "ca.pem")
    upstream = await Upstream(script).start(tls=context)
    bench.upstreams.append(upstream)
    return upstream


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_variant_behind_tls_is_reached_and_checked(bench: Bench, authority: Path, host: str) -> None:
    """By name or address; the connection is kept; a large body goes through both ways."""
    upstream = await secure(bench, authority)
    variant = Variant("v1", (Backend(host, upstream.port, tls=True),), tls=TlsSpec(ca=str(authority / "ca.pem")))
    gateway = await bench.gateway(route_of(variant))
    client = await bench.client()
    for body in (b"one", b"z" * 2_000_000, b""):
        assert (await client.ask("POST", "/", body)).body == body
    assert upstream.requests[0].field("host") == f"{host}:{upstream.port}"
    assert len(upstream.visits) == 1
    assert gateway.outcomes() == {"ok": 3}


BAD = {
    "unknown authority": ("localhost", TlsSpec(ca="stranger.pem")),
    "the system's authorities": ("localhost", TlsSpec()),
    "another name": ("other", TlsSpec(ca="ca.pem")),
}


@pytest.mark.parametrize(("name", "spec"), BAD.values(), ids=BAD)
async def test_a_variant_that_cannot_prove_itself_gets_no_request(
    bench: Bench, authority: Path, name: str, spec: TlsSpec
) -> None:
    """502, counted as connect_failed; not a byte of the request leaves."""
    upstream = await secure(bench, authority, name)
    checked = TlsSpec(ca=str(authority / spec.ca) if spec.ca else None)
    gateway = await bench.gateway(
        route_of(Variant("v1", (Backend("127.0.0.1", upstream.port, tls=True),), tls=checked))
    )
    client = await bench.client()
    assert (await client.ask("POST", "/", b"secret")).status == 502
    assert upstream.requests == []
    assert gateway.outcomes() == {"connect_failed": 1}


async def test_without_verification_anybody_is_believed(bench: Bench, authority: Path) -> None:
    """`tls.verify: false`, for tests only."""
    upstream = await secure(bench, authority, "other")
    variant = Variant("v1", (Backend("127.0.0.1", upstream.port, tls=True),), tls=TlsSpec(verify=False))
    await bench.gateway(route_of(variant))
    assert (await (await bench.client()).ask("POST", "/", b"x")).body == b"x"


@pytest.mark.parametrize("shows", [True, False])
async def test_our_own_certificate_is_shown_where_it_is_asked_for(
    bench: Bench, authority: Path, *, shows: bool
) -> None:
    """Without one the variant refuses us, and the client hears 502."""
    upstream = await secure(bench, authority, asks=True)
    own = (str(authority / "me.pem"), str(authority / "me.key")) if shows else (None, None)
    spec = TlsSpec(ca=str(authority / "ca.pem"), cert=own[0], key=own[1])
    await bench.gateway(route_of(Variant("v1", (Backend("localhost", upstream.port, tls=True),), tls=spec)))
    assert (await (await bench.client()).ask("POST", "/", b"x")).status == (200 if shows else 502)


async def test_a_variant_may_mix_plain_and_tls_backends(bench: Bench, authority: Path) -> None:
    """Each backend is spoken to as its own URL says."""
    plain, tls = await bench.upstream(), await secure(bench, authority)
    backends = (plain.backend, Backend("localhost", tls.port, tls=True))
    gateway = await bench.gateway(route_of(Variant("v1", backends, tls=TlsSpec(ca=str(authority / "ca.pem")))))
    client = await bench.client()
    assert [(await client.ask("POST", "/", b"x")).status for _ in range(4)] == [200] * 4
    assert (len(plain.requests), len(tls.requests)) == (2, 2)
    assert gateway.outcomes() == {"ok": 4}


async def test_plain_bytes_where_tls_is_expected_give_502(bench: Bench, authority: Path) -> None:
    """And the other way round, without hanging."""

    async def confused(visit: Visit) -> None:
        await visit.read()
        await visit.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    plain, tls = await bench.upstream(confused), await secure(bench, authority)
    spec = TlsSpec(ca=str(authority / "ca.pem"))
    route = route_of(
        Variant("v1", (Backend("localhost", plain.port, tls=True),), tls=spec),
        Variant("v2", (Backend("localhost", tls.port),)),
    )
    gateway = await bench.gateway(route, states=[started(0)])
    client = await bench.client()
    assert (await client.ask("POST", "/", b"x", within_s=2.0)).status == 502
    await gateway.expose(weight_bp=10_000)
    assert (await client.ask("POST", "/", b"x", within_s=2.0)).status == 502


async def test_copies_go_over_tls_too(bench: Bench, authority: Path) -> None:
    """A shadow behind TLS answers its copies; one that cannot prove itself costs only its pairs."""
    stable, candidate = await bench.upstream(), await secure(bench, authority)
    spec = TlsSpec(ca=str(authority / "ca.pem"))
    good = Variant("v2", (Backend("localhost", candidate.port, tls=True),), tls=spec)
    bad = Variant("v2", (Backend("localhost", candidate.port, tls=True),))
    outcomes = []
    for variant in (good, bad):
        gateway = await bench.gateway(route_of(stable, variant), states=[started(0, 10_000)])
        assert (await (await bench.client(gateway)).ask("POST", "/", b"x")).body == b"x"
        outcomes.append((await gateway.pairs(1))[0].candidate.outcome)
    assert outcomes == ["ok", "connect_failed"]
