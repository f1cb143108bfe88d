"""Whether the files of a TLS listener can be used: found out when the file is checked, not when clients come."""

import ssl
from collections.abc import Iterator
from pathlib import Path

from router.core.config import ListenerTls
from router.settings.findings import Finding, Location


def usable(tls: ListenerTls, at: Location) -> Iterator[Finding]:
    """Yield one finding for each file that cannot be read, or is not what it should be."""
    files = {"cert": tls.cert, "key": tls.key} | ({"client_ca": tls.client_ca} if tls.client_ca else {})
    unreadable = {name: why for name, file in files.items() if (why := _why_unreadable(file))}
    for name, why in unreadable.items():
        yield Finding((*at, name), files[name], f"a file that can be read: {why}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if not unreadable.keys() & {"cert", "key"}:
        try:
            context.load_cert_chain(tls.cert, tls.key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            yield Finding((*at, "cert"), tls.cert, f"a certificate in PEM, and in `key` its key: {_reason(error)}")
    if tls.client_ca is not None and "client_ca" not in unreadable:
        try:
            context.load_verify_locations(tls.client_ca)
        except ssl.SSLError as error:
            yield Finding((*at, "client_ca"), tls.client_ca, f"certificates in PEM: {_reason(error)}")


def _why_unreadable(file: str) -> str | None:
    try:
        with Path(file).open("rb"):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _no_password() -> str:
    """Refuse keys with a password; without this OpenSSL would ask for it on the terminal."""
    return ""


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or str(error)
    return str(reason).replace("_", " ").lower()
