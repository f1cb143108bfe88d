"""Fixtures of the gateway's tests: the event loop of production, and a bench for each test."""

import asyncio
import contextlib
import gc
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.e2e.conftest import figure
from tests.gateway.bench import Bench

__all__ = ["authority", "bench", "figure", "full_port", "pytest_asyncio_loop_factories", "small_heap"]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run these tests on the loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="package")
def small_heap() -> Iterator[None]:
    """Leave what was there before out of every collection: the bench collects after each test, in 3 ms, not 80."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
async def bench(tmp_path: Path, small_heap: None) -> AsyncIterator[Bench]:  # noqa: ARG001 - for its effect
    """Return a Bench, and check at the end that the worker let go of everything."""
    made = Bench(tmp_path)
    yield made
    await made.end()


@pytest.fixture
async def full_port() -> AsyncIterator[int]:
    """Return a port whose connects hang: a listener that accepts nobody, its queue already full."""
    with socket.socket() as listener, contextlib.ExitStack() as queued:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(3):
            one = queued.enter_context(socket.socket())
            one.setblocking(False)  # noqa: FBT003 - the socket's own signature
            one.connect_ex(("127.0.0.1", port))
        yield port


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with an authority (`ca.pem`) and certificates of it for `localhost`, `other.test`, `me`.

    `old` is for localhost and has expired, `forged` is for localhost and by another authority (`stranger.pem`).
    """
    directory = tmp_path_factory.mktemp("authority")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for authority in ("ca", "stranger"):
        openssl("req", "-x509", *key, "-days", "2", "-subj", f"/CN={authority}", "-keyout", f"{authority}.key",
                "-out", f"{authority}.pem", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    local = "DNS:localhost,IP:127.0.0.1"
    for name, alternative, issuer, days in (
        ("localhost", local, "ca", 1), ("other", "DNS:other.test", "ca", 1), ("me", "DNS:me", "ca", 1),
        ("old", local, "ca", -1), ("forged", local, "stranger", 1),
    ):  # fmt: skip
        openssl("req", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (directory / f"{name}.ext").write_text(f"subjectAltName={alternative}\nauthorityKeyIdentifier=keyid\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key",
                "-CAcreateserial", "-days", str(days), "-extfile", f"{name}.ext", "-out", f"{name}.pem")  # fmt: skip
    return directory
