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
            context.load_cert_chain(tls.cert, tls.key, password="")  # else OpenSSL would ask the terminal for one
        except (ssl.SSLError, ValueError) as error:
            yield Finding((*at, "cert"), tls.cert, f"a certificate in PEM, and in `key` its key: {_reason(error)}")
        else:
            if (why := _not_believed(context, tls.cert)) is not None:
                yield Finding((*at, "cert"), tls.cert, f"a certificate for a server that is valid now: {why}")
    if tls.client_ca is not None and "client_ca" not in unreadable:
        try:
            context.load_verify_locations(tls.client_ca)
        except ssl.SSLError as error:
            yield Finding((*at, "client_ca"), tls.client_ca, f"certificates in PEM: {_reason(error)}")


def _not_believed(server: ssl.SSLContext, cert: str) -> str | None:
    """Say what a client that trusts this very certificate still has against it: that it is over, or for no server.

    By a handshake in memory: `ssl` has no public way to read the dates of a certificate that is not an authority's.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cert)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
    for _ in range(4):  # more flights than any handshake has
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
            except ssl.SSLError as error:
                return error.reason or "no handshake is possible with it"
    return None


def _why_unreadable(file: str) -> str | None:
    try:
        with Path(file).open("rb"):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or str(error)
    return str(reason).replace("_", " ").lower()
