"""The servers that the corpus is played against: Turnout, and nginx and HAProxy as a careful operator sets them up.

That is: HTTP/1.1 and kept connections to the upstream, the client's Host passed on, a Via of their own, the rest as it
comes. Nothing is switched off that is on, and none of their leniency is switched on.
"""

import asyncio
import contextlib
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

from router.core.traffic import Variant
from tests.gateway.bench import Bench, route_of, until
from tests.gateway.upstreams import Script

NGINX = """
user root;
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{}}
http {{
  access_log off;
  client_max_body_size 64m;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  map $http_via $via {{ "" "1.1 nginx"; default "$http_via, 1.1 nginx"; }}
  upstream recorder {{ server 127.0.0.1:{upstream}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port};
    server_name a.test;
    location / {{
      proxy_pass http://recorder;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header Via $via;
    }}
  }}
}}
"""

HAPROXY = """
defaults
  mode http
  timeout connect 1s
  timeout client 30s
  timeout server 30s
  timeout http-request 10s
  timeout http-keep-alive 75s
frontend clients
  bind 127.0.0.1:{port}
  http-request add-header via "1.1 haproxy"
  default_backend recorder
backend recorder
  server one 127.0.0.1:{upstream}
"""

Server: TypeAlias = Callable[[Script], AbstractAsyncContextManager[int]]
"""Starts a server in front of an upstream with that script; gives its port."""


@contextlib.asynccontextmanager
async def own_bench() -> AsyncIterator[Bench]:
    """A bench in a directory of its own, which ends with the checks of every bench."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        bench = Bench(Path(directory))
        try:
            yield bench
        finally:
            await bench.end()


@contextlib.asynccontextmanager
async def turnout(script: Script) -> AsyncIterator[int]:
    """One worker, in this process."""
    async with own_bench() as bench:
        upstream = await bench.upstream(script)
        gateway = await bench.gateway(route_of(Variant("v1", (upstream.backend,), host="preserve")))
        yield gateway.port


@contextlib.asynccontextmanager
async def _program(script: Script, config: str, *command: str) -> AsyncIterator[int]:
    async with own_bench() as bench:
        upstream = await bench.upstream(script)
        port = _free_port()
        path = bench.directory / "config"
        path.write_text(config.format(directory=bench.directory, port=port, upstream=upstream.port))
        process = await asyncio.create_subprocess_exec(
            *command, str(path), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await until(lambda: _listens(port), f"{command[0]} listens", within_s=10.0)
            yield port
        finally:
            process.terminate()
            await process.wait()


def nginx(script: Script) -> AbstractAsyncContextManager[int]:
    """Debian's nginx."""
    return _program(script, NGINX, "nginx", "-c")


def haproxy(script: Script) -> AbstractAsyncContextManager[int]:
    """Debian's HAProxy."""
    return _program(script, HAPROXY, "haproxy", "-db", "-f")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


async def _first_line(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return out.decode().splitlines()[0]


async def versions() -> dict[str, str]:
    """Return the version of each server that is installed."""
    found = {"Turnout": version("turnout")}
    if shutil.which("nginx"):
        found["nginx"] = (await _first_line("nginx", "-v")).rpartition("/")[2]
    if shutil.which("haproxy"):
        found["HAProxy"] = (await _first_line("haproxy", "-v")).split()[2]
    return found


SERVERS: dict[str, Server] = {"Turnout": turnout, "nginx": nginx, "HAProxy": haproxy}
