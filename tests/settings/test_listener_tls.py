"""The files of a TLS listener are tried when the configuration is checked, and named when they cannot be used."""

import subprocess
from pathlib import Path

import pytest

from router.core.config import ListenerTls
from tests.settings.conftest import Reader, Refused


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """Return the directory of the file, with `cert.pem` and `key.pem`, another key, and that key with a password."""
    new = (
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=x",
    )
    for command in (
        (*new, "-keyout", "key.pem", "-out", "cert.pem"),
        (*new, "-keyout", "other.pem", "-out", "other-cert.pem"),
        ("openssl", "ec", "-in", "key.pem", "-out", "locked.pem", "-aes128", "-passout", "pass:secret"),
    ):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    subprocess.run(
        ["faketime", "90 days ago", *new, "-keyout", "over.key", "-out", "over.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    (tmp_path / "empty.pem").touch()
    return tmp_path


def block(**files: str) -> str:
    """Return a gateway whose listener has these files."""
    return f"gateway: {{tls: {{{', '.join(f'{name}: {file}' for name, file in files.items())}}}}}\n"


def test_the_files_are_found_beside_the_configuration(read: Reader, pem: Path) -> None:
    """Relative paths start where the file is."""
    config = read(block(cert="cert.pem", key="key.pem", client_ca="cert.pem"))
    found = ListenerTls(*(str(pem / name) for name in ("cert.pem", "key.pem", "cert.pem")))
    assert config.gateway.tls == found
    assert read().gateway.tls is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"cert": "none.pem", "key": "key.pem"},
            "gateway.tls.cert: got '{}/none.pem', expected a file that can be read",
        ),
        ({"cert": "cert.pem", "key": "none.pem"}, "gateway.tls.key: "),
        ({"cert": "cert.pem", "key": "other.pem"}, "in `key` its key: key values mismatch"),
        ({"cert": "over.pem", "key": "over.key"}, "valid now: certificate has expired"),
        ({"cert": "empty.pem", "key": "key.pem"}, "gateway.tls.cert: "),
        ({"cert": "cert.pem", "key": "locked.pem"}, "gateway.tls.cert: "),
        ({"cert": "cert.pem", "key": "key.pem", "client_ca": "empty.pem"}, "gateway.tls.client_ca: "),
        ({"cert": "cert.pem"}, "gateway.tls.key"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(refused: Refused, pem: Path, files: dict[str, str], message: str) -> None:
    """Absent, no PEM, of another pair, behind a password: nobody is asked on a terminal."""
    assert message.format(pem) in str(refused(block(**files)))
