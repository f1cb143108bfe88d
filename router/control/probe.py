"""Is a Variant there? One look at each of its backends before a rollout may start."""

import asyncio
import ssl
from typing import Protocol

import httpx

from router.core.traffic import Backend, TlsSpec, Variant

PROBE_S = 2.0
"""Chosen: a model server that needs longer for its health page is not ready for traffic."""


class Prober(Protocol):
    """Looks at a Variant now."""

    async def __call__(self, variant: Variant) -> str | None:
        """Return None when the variant can take traffic, else the reason why not in one sentence."""


async def probe(variant: Variant) -> str | None:
    """Return None when every backend of `variant` is well, else what the first that is not said.

    Well means: a GET of `health` answers 2xx within 2 s, or, where no `health` is set, the port accepts a connection
    within 2 s, by TLS where the backend has it.
    """
    found = await asyncio.gather(*(_probe_backend(variant, backend) for backend in variant.backends))
    return next((reason for reason in found if reason is not None), None)


async def _probe_backend(variant: Variant, backend: Backend) -> str | None:
    try:
        async with asyncio.timeout(PROBE_S):
            if variant.health is None:
                return await _connect(variant, backend)
            return await _get_health(variant, backend)
    except TimeoutError:
        return f"{backend.authority} did not answer within {PROBE_S:g} s"


async def _connect(variant: Variant, backend: Backend) -> str | None:
    try:
        context = _tls(variant.tls) if backend.tls else None
        _, writer = await asyncio.open_connection(backend.host, backend.port, ssl=context)
    except OSError as error:
        return f"{backend.authority} cannot be reached: {error}"
    writer.transport.abort()
    return None


async def _get_health(variant: Variant, backend: Backend) -> str | None:
    """Ask as the gateway would: no proxy from the environment, no redirects, the variant's own Host and TLS."""
    url = f"{'https' if backend.tls else 'http'}://{backend.authority}{variant.health}"
    headers = {"host": variant.host} if variant.host and variant.host != "preserve" else {}
    try:
        verify = _tls(variant.tls) if backend.tls else False
        async with (
            httpx.AsyncClient(trust_env=False, verify=verify, timeout=PROBE_S) as client,
            client.stream("GET", url, headers=headers) as answer,  # the body is nobody's business, nor its size
        ):
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return f"GET {url} failed: {type(error).__name__} {error}".rstrip()
    return None if 200 <= status < 300 else f"GET {url} answered {status}, expected 2xx"


def _tls(spec: TlsSpec) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=spec.ca)
    if spec.cert is not None:
        context.load_cert_chain(spec.cert, spec.key)
    if not spec.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
