"""A real `turnout serve` with two real upstreams, and a way to run commands against it."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

import pytest

TURNOUT = [sys.executable, "-m", "router"]


def until(condition: Callable[[], object], within_s: float = 20.0) -> None:
    """Return once `condition` holds; fail when it does not within `within_s`."""
    give_up_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_s, "the condition never held"
        time.sleep(0.01)


def dead(pid: int) -> bool:
    """Whether the process does not exist, or is a zombie."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


class Model(BaseHTTPRequestHandler):
    """Answers every POST with the name of its server."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read the request, answer."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.dumps({"model": getattr(self.server, "name", "?")}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def models() -> Iterator[Mapping[str, str]]:
    """Two model servers by variant name; their URLs."""
    servers = {name: ThreadingHTTPServer(("127.0.0.1", 0), Model) for name in ("v1", "v2")}
    for name, server in servers.items():
        server.name = name  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield {name: f"http://127.0.0.1:{server.server_port}" for name, server in servers.items()}
    for server in servers.values():
        server.shutdown()
        server.server_close()


@dataclass
class Running:
    """One started process of Turnout, and what it has printed."""

    process: "subprocess.Popen[str]"
    home: Path
    lines: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    readers: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        for stream, into in ((self.process.stdout, self.lines), (self.process.stderr, self.errors)):
            self.readers.append(threading.Thread(target=self._read, args=(stream, into), daemon=True))
            self.readers[-1].start()

    @staticmethod
    def _read(stream: IO[str] | None, into: list[str]) -> None:
        assert stream
        into.extend(line.rstrip("\n") for line in stream)

    def wait_ready(self) -> "Running":
        """Return once `ready` was printed."""
        until(lambda: "ready" in self.lines or self.process.poll() is not None)
        assert "ready" in self.lines, self.errors
        return self

    def url(self, name: str) -> str:
        """Return the address that was printed for one listener."""
        return next(line.split()[1] for line in self.lines if line.startswith(name))

    def children(self) -> set[int]:
        """Return the pids of its processes."""
        pid = self.process.pid
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}

    def finish(self, timeout_s: float = 20.0) -> int:
        """Return the exit status."""
        status = self.process.wait(timeout_s)
        for reader in self.readers:
            reader.join(timeout_s)
        return status


Start = Callable[..., Running]


class Starter:
    """Starts processes of Turnout and leaves none behind."""

    def __init__(self, home: Path, models: Mapping[str, str]) -> None:
        self.home = home
        self.models = models
        self.started: list[Running] = []

    def config(self, **blocks: object) -> Path:
        """Write a configuration file; `blocks` replace its top-level blocks."""
        variants = {name: {"url": url} for name, url in self.models.items()}
        route = {"adapter": "opaque", "mirror_safe": True, "variants": variants, "stable": "v1"}
        content = {
            "gateway": {"port": 0},
            "admin": {"port": 0},
            "ops": {"port": 0},
            "routes": {"digits": {"match": {"path_prefix": "/digits"}, **route}},
            **blocks,
        }
        path = self.home / "turnout.yaml"
        path.write_text(json.dumps(content))  # JSON is YAML
        return path

    def __call__(self, command: str, config: Path, **environ: str) -> Running:
        """Start `turnout COMMAND --config CONFIG`."""
        process = subprocess.Popen(
            [*TURNOUT, command, "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            env={**os.environ, "TMPDIR": str(self.home), **environ},
        )
        self.started.append(Running(process, self.home))
        return self.started[-1]

    def end(self) -> None:
        """End what still runs: in order, so that nothing of the test's is left behind."""
        for one in self.started:
            one.process.send_signal(signal.SIGTERM)
            try:
                one.finish()
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.finish()
            for stream in (one.process.stdout, one.process.stderr):
                assert stream
                stream.close()


@pytest.fixture
def starter(models: Mapping[str, str]) -> Iterator[Starter]:
    """Starts processes for one test. Its home has a short path, because sockets live there."""
    home = Path(tempfile.mkdtemp(prefix="turnout-test-"))
    starter = Starter(home, models)
    yield starter
    starter.end()
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def served(models: Mapping[str, str]) -> Iterator[Running]:
    """One `turnout serve` with the Route `digits`, for all tests of a file."""
    home = Path(tempfile.mkdtemp(prefix="turnout-test-"))
    starter = Starter(home, models)
    yield starter("serve", starter.config()).wait_ready()
    starter.end()
    shutil.rmtree(home)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def turnout(served: Running, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run one command against the served Turnout, in this process: an interpreter start takes longer than most."""
    from router.cli.commands import run

    monkeypatch.setenv("TURNOUT_URL", served.url("admin"))

    def turnout(*arguments: str, **environ: str) -> Done:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            run(arguments)
        return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())

    return turnout
