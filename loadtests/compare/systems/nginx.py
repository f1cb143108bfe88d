"""nginx, as gateway (Debian's package; one worker) and as the fixed-answer upstreams."""

from pathlib import Path

from loadtests.compare.figures import CANARY, MIRROR
from loadtests.compare.peers import first_version, from_path
from loadtests.compare.systems.system import ALL_MODES, KEPT, Place
from loadtests.fixed_answer import BODY

_HEAD = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 0;
  client_body_buffer_size 2m;
  keepalive_requests 100000000;
"""

_PROXY = """
      proxy_http_version 1.1;
      proxy_set_header Connection "";
"""


class Nginx:
    """Debian's nginx with `split_clients` and `mirror`."""

    name = "nginx"
    modes = ALL_MODES

    def version(self) -> str:
        """Return what `nginx -v` says."""
        return first_version([_program(), "-v"])

    def command(self, place: Place) -> list[str]:
        """Proxy by upstream blocks with kept connections."""
        target = {CANARY: "$variant"}.get(place.mode, "stable")
        split = 'split_clients "$request_id" $variant { 10% candidate; * stable; }' if place.mode == CANARY else ""
        mirror = "mirror /mirror;" if place.mode == MIRROR else ""
        upstreams = "".join(
            f"  upstream {name} {{ server 127.0.0.1:{port}; keepalive {KEPT}; keepalive_requests 100000000; }}\n"
            for name, port in (("stable", place.stable), ("candidate", place.candidate))
        )
        return _start(
            place.folder,
            f"""{upstreams}
  {split}
  server {{
    listen 127.0.0.1:{place.port} backlog=4096;
    location / {{
      {mirror}
      proxy_pass http://{target};{_PROXY}
    }}
    location = /mirror {{
      internal;
      proxy_pass http://candidate$request_uri;{_PROXY}
    }}
  }}
""",
        )


def fixed_answers(folder: Path, ports: list[int]) -> list[str]:
    """Return what starts one nginx that gives the fixed answer on each port, whatever it is asked."""
    servers = "".join(
        f"""  server {{
    listen 127.0.0.1:{port} backlog=4096;
    default_type application/json;
    return 200 '{BODY.decode()}';
  }}
"""
        for port in ports
    )
    return _start(folder, servers)


def _program() -> str:
    return from_path("nginx", "nginx")


def _start(folder: Path, http: str) -> list[str]:
    file = folder / "nginx.conf"
    file.write_text(f"{_HEAD.format(folder=folder)}{http}}}\n")
    return [_program(), "-p", str(folder), "-c", str(file), "-e", str(folder / "error.log")]
