"""`turnout serve` behind TLS: curl is served, and a renewed certificate is taken up by a reload."""

import asyncio
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import Turnout, Turnouts, config_for
from tests.e2e.load import until
from tests.e2e.model_server import ModelServer
from tests.gateway.clients import Client


def renew(directory: Path) -> bytes:
    """Write a new pair and return its certificate in DER."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=directory, check=True, capture_output=True,
    )  # fmt: skip
    return ssl.PEM_cert_to_DER_cert((directory / "cert.pem").read_text())


def shown(serve: Turnout) -> bytes | None:
    """Return the certificate that a new connection is shown, in DER; None while the connection fails."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", serve.port("gateway")), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            return secure.getpeercert(binary_form=True)
    except OSError:
        return None


@pytest.mark.slow
async def test_a_renewed_certificate_is_taken_up_by_a_reload(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer
) -> None:
    """The file of settings has not changed, only the certificate: after SIGHUP new connections see the new one."""
    first = renew(turnouts.directory)
    config = config_for(stable, candidate)
    config["gateway"]["tls"] = {"cert": "cert.pem", "key": "key.pem"}
    serve = await turnouts.start(config)
    assert f"https://127.0.0.1:{serve.port('gateway')}" in serve.output[0]
    assert await asyncio.to_thread(shown, serve) == first
    curl = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--fail", "--cacert", str(serve.directory / "cert.pem"),
        f"https://localhost:{serve.port('gateway')}/v2/models/digits/infer", "--data", "{}",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await curl.communicate()
    assert (curl.returncode, bool(out)) == (0, True)
    second = renew(serve.directory)
    serve.process.send_signal(signal.SIGHUP)
    await until(lambda: shown(serve) == second, within_s=20.0)


@pytest.mark.slow
async def test_a_renewal_breaks_no_connection_and_a_bad_pair_changes_nothing(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer
) -> None:
    """A client that asks all the time, over both: every answer is whole, and only `connection: close` ends a line."""
    renew(turnouts.directory)
    config = config_for(stable, candidate)
    config["gateway"]["tls"] = {"cert": "cert.pem", "key": "key.pem"}
    serve = await turnouts.start(config)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    statuses: list[int] = []
    clients: list[Client] = []

    async def ask_on() -> None:
        while True:
            clients.append(await Client.open(serve.port("gateway"), tls=context))
            closes = None
            while closes is None:
                answer = await clients[-1].ask("GET", "/v2/models/digits")
                statuses.append(answer.status)
                closes = answer.field("connection")

    asking = asyncio.create_task(ask_on())
    try:
        key = (serve.directory / "key.pem").read_bytes()
        second = renew(serve.directory)
        good = (serve.directory / "key.pem").read_bytes()
        (serve.directory / "key.pem").write_bytes(key)
        serve.process.send_signal(signal.SIGHUP)
        await until(lambda: bool(serve.logged("error")), 20.0)
        assert "gateway.tls" in serve.logged("error")[0]["why"]
        (serve.directory / "key.pem").write_bytes(good)
        serve.process.send_signal(signal.SIGHUP)
        await until(lambda: len(clients) > 1, 20.0)
        assert await asyncio.to_thread(shown, serve) == second
        so_far = len(statuses)
        await until(lambda: len(statuses) > so_far + 10 or asking.done(), 20.0)
        assert not asking.done(), asking
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        for client in clients:
            client.abort()
    assert len(set(statuses)) == 1
    assert "PRIVATE KEY" not in serve.log
