"""HAProxy in front of gateways that come and go: their readiness is asked, and nothing is tried again."""

from collections.abc import Mapping

_CONFIGURATION = """
global
  maxconn 2000
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  retries 0
frontend clients
  bind 127.0.0.1:{port}
  default_backend gateways
backend gateways
  balance roundrobin
  option httpchk GET /readyz
{servers}
"""


def configuration(port: int, gateways: Mapping[str, tuple[int, int]], check_ms: int) -> str:
    """Return the file for HAProxy on `port`; of each gateway its own port and that of its ops listener.

    Whatever a leaving gateway loses, a client sees: there are no retries.
    """
    servers = [
        f"  server {name} 127.0.0.1:{own} check port {ops} inter {check_ms}ms fall 1 rise 1"
        for name, (own, ops) in gateways.items()
    ]
    return _CONFIGURATION.format(port=port, servers="\n".join(servers))
