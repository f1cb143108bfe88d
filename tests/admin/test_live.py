"""The control process as it runs: a real server on loopback, a real Valkey, the loop turning, a real candidate."""

import asyncio
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import httpx
import pytest

from router.admin.app import create_app
from router.control.loop import ControlLoop
from router.control.probe import probe
from router.core.config import TurnoutConfig
from router.core.rollout import Spec, Step
from router.core.traffic import Backend
from router.plugins import load_policies
from router.supervisor.http_server import HttpServer
from router.testing.expect import until
from tests.admin.desk import BLOCK, ROLLOUT, TOKENS, config
from tests.patience import patient_store

MIB = 2**20


@dataclass
class Live:
    """A running control process within this one."""

    url: str
    port: int
    loop: ControlLoop
    client: httpx.AsyncClient


@asynccontextmanager
async def live(url: str, settings: TurnoutConfig, boot: str, token: str = "") -> AsyncIterator[Live]:
    """Run loop and server until the test is done; nothing is left behind."""
    store = patient_store(url)
    loop = ControlLoop(
        config=settings, store=store, policies=load_policies(), prober=probe, boot=boot,
        now_s=time.time, monotonic=time.monotonic,
    )  # fmt: skip
    app = create_app(config=settings, store=store, control=loop, now_s=time.time, monotonic=time.monotonic)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = HttpServer(app, listener)
    lives = [asyncio.create_task(loop.run()), asyncio.create_task(server.run())]
    await server.wait_started()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    base = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=base, headers=headers, trust_env=False) as client:
            yield Live(base, port, loop, client)
    finally:
        server.stop(at_once=True)
        lives[0].cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        await store.close()


@asynccontextmanager
async def model_server(status: int = 200) -> AsyncIterator[Backend]:
    """Answer every request with `status`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield Backend("127.0.0.1", listening.sockets[0].getsockname()[1])


def with_candidate(settings: TurnoutConfig, backend: Backend) -> TurnoutConfig:
    """Return the configuration with v2 at `backend`."""
    digits = settings.routes["digits"]
    v2 = replace(digits.variants["v2"], backends=(backend,))
    digits = replace(digits, variants={**digits.variants, "v2": v2})
    return replace(settings, routes={**settings.routes, "digits": digits})


@pytest.fixture
def url(valkey: str) -> str:
    """An empty Valkey."""
    import redis

    with redis.Redis.from_url(valkey) as admin:
        admin.flushall()
    return valkey


async def test_the_file_starts_its_rollout_and_operators_at_two_processes_see_one_truth(url: str) -> None:
    """Two control processes on one store: one decides, both serve, a command at one is seen at the other at once."""
    async with model_server() as backend:
        block = Spec("v2", "canary", steps=(Step(mirror_bp=10_000), Step(weight_bp=100)))
        settings = with_candidate(config(rollouts={"digits": block}), backend)
        async with live(url, settings, "c1") as one, live(url, settings, "c2") as two:

            async def is_started() -> bool:
                started = (await two.client.get(ROLLOUT)).json()["phase"] == "progressing"
                return started and {one.loop.view.epoch is None, two.loop.view.epoch is None} == {True, False}

            await until(is_started, "the file's rollout was not started, or not by exactly one process")
            aborted = (await one.client.post(f"{ROLLOUT}/abort", json={"reason": "enough"})).json()
            assert (await two.client.get(ROLLOUT)).json()["phase"] == "rolled_back"
            decisions = (await two.client.get("/v1/routes/digits/decisions")).json()
            assert [(one["actor"], one["kind"]) for one in decisions] == [
                ("operator:local", "roll_back"),
                ("config:file", "start"),
            ]
            assert (await one.client.get("/readyz")).status_code == 200
            assert aborted["revision"] == 2


async def test_the_candidate_is_really_asked(url: str) -> None:
    """A model server that is not ready holds the start."""
    async with model_server(503) as backend, live(url, with_candidate(config(), backend), "c1") as control:
        answer = await control.client.post(f"{ROLLOUT}s", json=BLOCK)
        assert (answer.status_code, "answered 503" in answer.json()["detail"]) == (409, True)


async def test_se3_wrong_tokens_over_the_wire(url: str) -> None:
    """The address of a real connection is what is counted, whatever the client says of itself."""
    async with live(url, config(tokens=True), "c1", token=TOKENS["viewer"]) as control:
        wrong = {"authorization": "Bearer turnout_wrong"}
        found = []
        for number in range(12):
            claimed = {**wrong, "x-forwarded-for": f"10.0.0.{number}"}
            found.append((await control.client.get("/v1/routes", headers=claimed)).status_code)
        assert found == [401] * 10 + [429] * 2
        assert (await control.client.get("/v1/routes")).status_code == 200


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_se6_a_64_mib_body_is_refused_at_once_and_never_held(url: str) -> None:
    """413 as soon as its length is known, and the process does not grow by more than 20 MiB."""
    async with live(url, config(), "c1") as control:
        assert (await control.client.get("/healthz")).status_code == 200
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
        head = (
            f"POST {ROLLOUT}s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"content-length: {64 * MIB}\r\n\r\n"
        )
        began = time.perf_counter()
        writer.write(head.encode() + b" " * MIB)
        answer = await reader.readuntil(b"\r\n\r\n")
        took_s = time.perf_counter() - began
        writer.close()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert took_s < 1.0  # 100 ms alone; the machine is shared
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 20 * MIB
