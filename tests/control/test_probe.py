"""The probe looks at every backend of a candidate as the gateway would. Real sockets."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from router.control import probe as module
from router.control.probe import probe
from router.core.traffic import Backend, TlsSpec, Variant
from tests.gateway.conftest import authority

__all__ = ["authority"]

Answer = Callable[[bytes], bytes | None]


@asynccontextmanager
async def server(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Backend, list[bytes]]]:
    """Serve `answer(head)` to each connection; None keeps silent until the other side gives up."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head)
        found = answer(head)
        if found is None:
            await reader.read()
        else:
            writer.write(found)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as listening:
        yield Backend("127.0.0.1", listening.sockets[0].getsockname()[1], tls=tls is not None), heads


def status(code: int, extra: str = "") -> Answer:
    """Answer everything with this status."""
    head = f"HTTP/1.1 {code} X\r\ncontent-length: 0\r\nconnection: close\r\n{extra}\r\n"
    return lambda _: head.encode()


def variant(*backends: Backend, health: str | None = "/v2/health/ready", host: str | None = None) -> Variant:
    """Return a candidate with these backends."""
    return Variant("v2", backends, health=health, host=host)


def refused_port() -> Backend:
    """Return an address at which nobody listens."""
    return Backend("127.0.0.1", 1)


async def test_a_healthy_candidate_is_well() -> None:
    """It is asked for its health page by its own name, without anything of ours in between."""
    async with server(status(204)) as (backend, heads):
        assert await probe(variant(backend)) is None
    assert heads[0].startswith(b"GET /v2/health/ready HTTP/1.1\r\n")
    assert f"host: {backend.authority}\r\n".encode() in heads[0].lower()


async def test_its_own_host_name_is_sent() -> None:
    """A model server behind a name-based proxy is asked by that name; `preserve` has no client's name to keep."""
    async with server(status(200)) as (backend, heads):
        assert await probe(variant(backend, host="models.example")) is None
        assert await probe(variant(backend, host="preserve")) is None
    assert b"host: models.example\r\n" in heads[0].lower()
    assert f"host: {backend.authority}\r\n".encode() in heads[1].lower()


@pytest.mark.parametrize(("code", "extra"), [(503, ""), (404, ""), (302, "location: /elsewhere\r\n")])
async def test_any_other_status_is_the_reason(code: int, extra: str) -> None:
    """Redirects are not followed: the gateway would not follow them either."""
    async with server(status(code, extra)) as (backend, heads):
        reason = await probe(variant(backend))
    assert reason == f"GET http://{backend.authority}/v2/health/ready answered {code}, expected 2xx"
    assert len(heads) == 1


async def test_one_sick_backend_of_several_is_named() -> None:
    """All of them would get traffic."""
    async with server(status(200)) as (well, _), server(status(500)) as (sick, _):
        reason = await probe(variant(well, sick))
    assert reason is not None
    assert sick.authority in reason


async def test_a_silent_candidate_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the probe's time and no more."""
    monkeypatch.setattr(module, "PROBE_S", 0.1)
    async with server(lambda _: None) as (backend, _):
        reason = await asyncio.wait_for(probe(variant(backend)), 5)
    assert reason is not None
    assert "0.1 s" in reason or "Timeout" in reason


async def test_an_unreachable_candidate_is_named() -> None:
    """With and without a health page."""
    for health in ("/health", None):
        reason = await probe(variant(refused_port(), health=health))
        assert reason is not None
        assert "127.0.0.1:1" in reason


async def test_without_health_page_an_open_port_is_enough() -> None:
    """Nothing is sent that a model server could take for a request."""
    async with server(status(200)) as (backend, heads):
        assert await probe(variant(backend, health=None)) is None
    assert heads == []


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked is the candidate and nobody else."""
    monkeypatch.setenv("HTTP_PROXY", f"http://{refused_port().authority}")
    async with server(status(200)) as (backend, _):
        assert await probe(variant(backend)) is None


CERTIFICATES = {"localhost": None, "old": "certificate has expired", "forged": "unable to get local issuer certificate"}


@pytest.mark.parametrize(("name", "why"), CERTIFICATES.items())
@pytest.mark.parametrize("health", ["/ready", None])
async def test_a_candidate_behind_tls_has_to_prove_itself_before_it_gets_traffic(
    authority: Path, health: str | None, name: str, why: str | None
) -> None:
    """With a health page and without: a certificate that the gateway would refuse is the reason not to start."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / f"{name}.pem", authority / f"{name}.key")
    async with server(status(200), context) as (backend, heads):
        reason = await probe(replace(variant(backend, health=health), tls=TlsSpec(ca=str(authority / "ca.pem"))))
    assert len(heads) == (health is not None and why is None)
    assert (reason is None) is (why is None)
    assert reason is None or (why is not None and why in reason and backend.authority in reason)
