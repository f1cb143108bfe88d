"""TLS to variants: certificates are checked, and a variant that cannot prove itself gets no request."""

import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

from router.core.traffic import Backend, ProbeSpec, TlsSpec, Variant
from router.gateway import backends
from tests.gateway.bench import Bench, route_of, started, until
from tests.gateway.test_ejection import metric
from tests.gateway.upstreams import Script, Upstream, Visit, echo, ok

Lines: TypeAlias = Callable[[], list[dict[str, object]]]


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


# -- probes ---------------------------------------------------------------------------------------------------------


async def health(visit: Visit) -> None:
    """Say yes to the health page and echo everything else."""
    async for received in visit.requests():
        await visit.send(ok(b"" if received.target == "/ready" else received.body))


async def confused(visit: Visit) -> None:
    """Be a plain server that was spoken to by TLS."""
    await visit.read()
    await visit.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.fixture
def strict_port(authority: Path) -> Iterator[int]:
    """The port of a server that wants our certificate; OpenSSL's own, since asyncio sends no alerts."""
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-www", "-Verify", "1", "-verify_return_error",
               "-CAfile", "ca.pem", "-cert", "localhost.pem", "-key", "localhost.key"]  # fmt: skip
    with subprocess.Popen(command, cwd=authority, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        yield next(int(line.rpartition(b":")[2]) for line in server.stdout if line.startswith(b"ACCEPT"))
        server.kill()


ILL = {
    "by another authority": ("forged", "unable to get local issuer certificate"),
    "expired": ("old", "certificate has expired"),
    "for another name": ("other", "IP address mismatch, certificate is not valid for '127.0.0.1'."),
}


@pytest.fixture(autouse=True)
def soon_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes are told at once, and not within a second."""
    monkeypatch.setattr(backends, "LINE_S", 0.0)


async def until_logged(lines: Lines, event: str) -> dict[str, object]:
    """Return the one line of the log that says this, once it does."""
    await until(lambda: any(line["event"] == event for line in lines()), f"the log says: {event}")
    (line,) = [line for line in lines() if line["event"] == event]
    return line


async def is_left_out(bench: Bench, authority: Path, lines: Lines, port: int, why: str) -> None:
    """Check that the backend at `port` is left out for this reason, and that another one gets all requests."""
    good = await secure(bench, authority, script=health)
    bad, well = (Backend("127.0.0.1", one, tls=True) for one in (port, good.port))
    spec, probe = TlsSpec(ca=str(authority / "ca.pem")), ProbeSpec(interval_s=0.05)
    gateway = await bench.gateway(route_of(Variant("v1", (bad, well), tls=spec, health="/ready", probe=probe)))
    await until(lambda: metric(gateway, "turnout_backend_up", bad) == 0.0, "it is left out")
    assert metric(gateway, "turnout_backend_up", well) == 1.0
    client = await bench.client()
    assert [(await client.ask("POST", "/", b"x")).status for _ in range(6)] == [200] * 6
    line = await until_logged(lines, "backends left out")
    assert line["out"] == f"{bad.authority} (ill: {why}, 127.0.0.1)"


@pytest.mark.parametrize(("name", "why"), ILL.values(), ids=ILL)
async def test_a_probe_refuses_a_certificate_and_the_log_says_why(
    bench: Bench, authority: Path, lines: Lines, name: str, why: str
) -> None:
    """By another authority, expired, for another name: left out without a failed request, and none reaches it."""
    bad = await secure(bench, authority, name, health)
    await is_left_out(bench, authority, lines, bad.port, f"its certificate was refused: {why}")
    assert bad.requests == []


async def test_a_probe_without_the_certificate_that_is_asked_for_says_so(
    bench: Bench, authority: Path, lines: Lines, strict_port: int
) -> None:
    """The server's alert is the reason, not only that it closed."""
    await is_left_out(bench, authority, lines, strict_port, "TLS failed: TLSV13_ALERT_CERTIFICATE_REQUIRED")


async def test_a_probe_of_a_plain_server_by_tls_says_so(bench: Bench, authority: Path, lines: Lines) -> None:
    """OpenSSL's words for it are those that everybody searches for."""
    plain = await bench.upstream(confused)
    await is_left_out(bench, authority, lines, plain.port, "TLS failed: WRONG_VERSION_NUMBER")


GOOD = {
    "by our authority": ("localhost", False, {"ca": "ca.pem"}),
    "that wants ours and gets it": ("localhost", True, {"ca": "ca.pem", "cert": "me.pem", "key": "me.key"}),
    "of anybody, unverified": ("forged", False, {"verify": False}),
}


@pytest.mark.parametrize(("name", "asks", "files"), GOOD.values(), ids=GOOD)
async def test_a_probe_goes_by_the_variants_own_tls(
    bench: Bench, authority: Path, name: str, files: Mapping[str, str | bool], *, asks: bool
) -> None:
    """`ca`, `cert` with `key`, and `verify` count for the health page as for requests: the backend is taken back."""
    sick = True

    async def page(visit: Visit) -> None:
        async for _ in visit.requests():
            await visit.send(ok(b"", status="503 Later" if sick else "200 OK"))

    asked = await secure(bench, authority, name, page, asks=asks)
    spec = TlsSpec(**{key: str(authority / one) if isinstance(one, str) else one for key, one in files.items()})  # type: ignore[arg-type]
    backend = Backend("127.0.0.1", asked.port, tls=True)
    other = await secure(bench, authority, name, health, asks=asks)
    variant = Variant("v1", (backend, Backend("127.0.0.1", other.port, tls=True)), tls=spec, health="/ready",
                      probe=ProbeSpec(interval_s=0.05))  # fmt: skip
    gateway = await bench.gateway(route_of(variant))
    await until(lambda: metric(gateway, "turnout_backend_up", backend) == 0.0, "it is left out")
    sick = False
    await until(lambda: metric(gateway, "turnout_backend_up", backend) == 1.0, "it is taken back")


async def test_probes_that_say_no_everywhere_are_told_though_nothing_is_left_out(
    bench: Bench, authority: Path, lines: Lines
) -> None:
    """One backend, expired: it must go on, and the log says what its probes say."""
    upstream = await secure(bench, authority, "old", health)
    backend = Backend("127.0.0.1", upstream.port, tls=True)
    spec = TlsSpec(ca=str(authority / "ca.pem"))
    variant = Variant("v1", (backend,), tls=spec, health="/ready", probe=ProbeSpec(interval_s=0.05))
    gateway = await bench.gateway(route_of(variant))
    line = await until_logged(lines, "ill backends take traffic: too few are well")
    expected = f"{backend.authority} (ill: its certificate was refused: certificate has expired, 127.0.0.1)"
    assert (line["ill"], line["out"], line["of"]) == (expected, "", 1)
    assert metric(gateway, "turnout_backend_up", backend) == 1.0
