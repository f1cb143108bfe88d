"""Gateway CPU per request, shadow 100 % with pairs written, beside nginx's `mirror` in the same run: `./run bench`.

Both gateways take turns for several rounds on core 0 while wrk and the fixed-answer upstreams have core 1. CPU is
user + system time of the gateway's processes from /proc, divided by the requests that wrk counted. nginx throws the
mirrored answer away; Turnout reads it, compares and writes the pair to a real Valkey. Needs wrk and nginx (Debian
packages of these names).
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
GATEWAY_CORE, LOAD_CORE = "0", "1"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PATH = "/v2/models/m/infer"
Processes = dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement. `cpu_us` is CPU per request by part of the system."""

    system: str
    requests: int
    requests_per_s: float
    errors: int
    cpu_us: dict[str, float]


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def cpu_s(pid: int) -> float:
    """User + system time of one process so far; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def descendants(pid: int) -> Iterator[int]:
    """The process and everything that came of it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from descendants(int(child))


def wait_for_answer(port: int, path: str = PATH) -> None:
    """Return when the port answers a prediction; RuntimeError after 10 s."""
    deadline = time.monotonic() + 10
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=b"{}", method="POST")
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=1) as answer:  # noqa: S310
                answer.read()
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"port {port} did not answer within 10 s")


@contextmanager
def running(command: list[str], core: str, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command on one core; end it, and what it started, at the end."""
    process = subprocess.Popen(["taskset", "-c", core, *command], start_new_session=True, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def turnout(folder: Path, upstreams: list[int]) -> Iterator[tuple[int, Processes]]:
    """Run `turnout serve` with a shadow rollout that copies everything."""
    traffic, admin, ops = free_ports(3)
    (folder / "turnout.yaml").write_text(f"""
gateway: {{port: {traffic}}}
admin: {{port: {admin}}}
ops: {{port: {ops}}}
log: {{level: warning}}
routes:
  m:
    match: {{path_prefix: /v2/models/m}}
    adapter: open_inference
    variants:
      v1: {{url: "http://127.0.0.1:{upstreams[0]}"}}
      v2: {{url: "http://127.0.0.1:{upstreams[1]}"}}
    stable: v1
    rollout: {{candidate: v2, policy: shadow}}
""")
    command = [sys.executable, "-m", "router", "serve", "--config", str(folder / "turnout.yaml")]
    with running(command, GATEWAY_CORE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == b"ready":
                break
        wait_for_answer(traffic)
        wait_for_mirror(ops)
        yield traffic, turnout_parts(process.pid)


def wait_for_mirror(ops_port: int) -> None:
    """Return when the worker copies every request; RuntimeError after 10 s."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if re.search(r"^turnout_mirror_ratio\{.*\} 1\.0$", scrape(ops_port), re.MULTILINE):
            return
        time.sleep(0.1)
    raise RuntimeError("the rollout did not begin to copy within 10 s")


def scrape(ops_port: int) -> str:
    """Return /metrics of the gateways."""
    with urllib.request.urlopen(f"http://127.0.0.1:{ops_port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def turnout_parts(pid: int) -> Processes:
    """Sort the processes under `turnout serve` by what they are."""
    parts: Processes = {"gateway": [], "control": [], "store": [], "parent": []}
    for child in descendants(pid):
        command = Path(f"/proc/{child}/cmdline").read_bytes()
        part = next((name for word, name in _PARTS if word in command), "parent")
        parts[part].append(child)
    return parts


_PARTS = (
    (b"valkey-server", "store"),
    (b"redis-server", "store"),
    (b"router.app\0gateway", "gateway"),
    (b"router.app\0control", "control"),
)


@contextmanager
def nginx(folder: Path, upstreams: list[int]) -> Iterator[tuple[int, Processes]]:
    """Run nginx with one worker that mirrors everything."""
    (port,) = free_ports(1)
    (folder / "nginx.conf").write_text(f"""
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000;
  upstream stable {{ server 127.0.0.1:{upstreams[0]}; keepalive 128; keepalive_requests 1000000; }}
  upstream shadow {{ server 127.0.0.1:{upstreams[1]}; keepalive 128; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      mirror /mirror;
      proxy_pass http://stable;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
    location = /mirror {{
      internal;
      proxy_pass http://shadow$request_uri;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}
""")
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    with running(command, GATEWAY_CORE) as process:
        wait_for_answer(port)
        yield port, {"gateway": list(descendants(process.pid))}


def measure(system: str, port: int, parts: Processes, seconds: int) -> Round:
    """Load one gateway and account for its CPU."""
    load(port, 1)  # warm: connections open, code compiled, pages touched
    before = {part: sum(map(cpu_s, pids)) for part, pids in parts.items()}
    text = load(port, seconds)
    spent = {part: sum(map(cpu_s, pids)) - before[part] for part, pids in parts.items()}
    requests = int(_found(r"(\d+) requests in", text))
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return Round(
        system=system,
        requests=requests,
        requests_per_s=float(_found(r"Requests/sec:\s+([\d.]+)", text)),
        errors=(int(errors[1]) if errors else 0) + (sum(map(int, socket_errors.groups())) if socket_errors else 0),
        cpu_us={part: round(s / requests * 1e6, 2) for part, s in spent.items()},
    )


def load(port: int, seconds: int) -> str:
    """Run wrk: one thread, 64 keep-alive connections."""
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", "-c64", f"-d{seconds}s", "-s", str(HERE / "post.lua")]
    return subprocess.run(
        [*command, f"http://127.0.0.1:{port}{PATH}"], check=True, capture_output=True, text=True
    ).stdout


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk printed nothing like {pattern!r}:\n{text}")
    return match[1]


def main() -> int:
    """Print the table; exit code 1 when a request failed or a peer is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the rounds to this file")
    options = parser.parse_args()
    missing = [name for name in ("wrk", "nginx", "taskset") if shutil.which(name) is None]
    if missing:
        print(f"missing: {', '.join(missing)}; apt-get install wrk nginx util-linux", file=sys.stderr)
        return 1
    rounds: list[Round] = []
    with ExitStack() as stack:
        upstreams = free_ports(2)
        fixed = [sys.executable, str(HERE / "fixed_answer.py"), *map(str, upstreams)]
        stack.enter_context(running(fixed, LOAD_CORE))
        for port in upstreams:
            wait_for_answer(port)
        for _ in range(options.rounds):
            for name, start in (("turnout", turnout), ("nginx", nginx)):
                with tempfile.TemporaryDirectory() as folder, start(Path(folder), upstreams) as (port, parts):
                    rounds.append(measure(name, port, parts, options.seconds))
    show(rounds)
    if options.json:
        options.json.write_text(json.dumps([{name: getattr(one, name) for name in Round.__slots__} for one in rounds]))
    return int(any(one.errors for one in rounds))


def show(rounds: list[Round]) -> None:
    """Print medians and the ratio of the gateways' CPU."""
    print(f"{'system':10} {'requests/s':>11} {'errors':>7}   CPU us per request (median of rounds)")
    medians: dict[str, float] = {}
    for system in ("turnout", "nginx"):
        mine = [one for one in rounds if one.system == system]
        parts = {part: statistics.median(one.cpu_us[part] for one in mine) for part in mine[0].cpu_us}
        medians[system] = parts["gateway"]
        shown = ", ".join(f"{part} {us:.1f}" for part, us in parts.items())
        rate = statistics.median(one.requests_per_s for one in mine)
        print(f"{system:10} {rate:11.0f} {sum(one.errors for one in mine):7}   {shown}")
    print(f"gateway, turnout : nginx = {medians['turnout'] / medians['nginx']:.2f}")


if __name__ == "__main__":
    sys.exit(main())
