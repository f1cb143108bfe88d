"""HAProxy (Debian's package, one thread). It has no mirror of its own."""

from loadtests.compare.figures import CANARY, PLAIN
from loadtests.compare.peers import first_version, from_path
from loadtests.compare.systems.system import Place


class Haproxy:
    """Debian's HAProxy with two weighted servers."""

    name = "haproxy"
    modes = frozenset({PLAIN, CANARY})

    def version(self) -> str:
        """Return what `haproxy -v` says."""
        return first_version([from_path("haproxy", "haproxy"), "-v"])

    def command(self, place: Place) -> list[str]:
        """One backend; a connection may be used for any client, as the other peers do."""
        candidate = f"server candidate 127.0.0.1:{place.candidate} weight 10" if place.mode == CANARY else ""
        file = place.folder / "haproxy.cfg"
        file.write_text(f"""
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend clients
  bind 127.0.0.1:{place.port} backlog 4096
  default_backend models
backend models
  balance roundrobin
  server stable 127.0.0.1:{place.stable} weight 90
  {candidate}
""")
        return [from_path("haproxy", "haproxy"), "-db", "-f", str(file)]
