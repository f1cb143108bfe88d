"""TLS towards clients."""

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.core.config import ListenerTls

CLOSE_S = 2.0
"""How long a client may take to confirm the end of a connection. Chosen, as `client.LINGER_S` of a plain one."""


def listener_context(tls: "ListenerTls") -> ssl.SSLContext:
    """Return the TLS settings towards clients: 1.2 or newer, HTTP/1.1 alone. Reads the files.

    Raises OSError or ssl.SSLError when a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # costs a server far more than a client
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(tls.cert, tls.key)
    if tls.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(tls.client_ca)
    return context
