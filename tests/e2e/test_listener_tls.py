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
