"""Real processes for the tests: `turnout serve` and its kin on free ports, always ended, nothing left behind.

Every process started here carries a token in its environment, which its children inherit: so all of them can be
found in /proc, replaced workers too, whatever has become of their parent. Valkey writes its title over its
environment; it is found by the socket in that title, which lies in a temporary directory of our own.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from tests.e2e.load import eventually, until
from tests.e2e.model_server import ModelServer
from tests.e2e.wire import Answer, BrokenError, Line, request

TURNOUT = Path(sys.executable).with_name("turnout")
TOKEN = "TEST_TOKEN_OF_TURNOUT"
ROUTE = "digits"
READY_S = 20.0
END_S = 20.0
ORPHANS_S = 2.0
"""How long children may outlive a killed parent (issue 2)."""


class Turnout:
    """One started `turnout` command and all that belongs to it. Made by `Turnouts.start`."""

    def __init__(self, arguments: Sequence[str], directory: Path, env: Mapping[str, str]) -> None:
        self.directory = directory
        self.token = uuid4().hex
        self.tmp = Path(tempfile.mkdtemp(prefix="e2e-"))  # short: a unix socket must fit
        name = f"{arguments[0]}-{self.token[:6]}"
        self._out, self._err = directory / f"{name}.out", directory / f"{name}.err"
        self.started_s = time.monotonic()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [TURNOUT, *arguments],
                cwd=directory,
                env=clean_environment(TMPDIR=str(self.tmp), **{TOKEN: self.token}, **env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,
            )

    @property
    def pid(self) -> int:
        """Process id of the parent."""
        return self.process.pid

    @property
    def output(self) -> list[str]:
        """The complete lines that it has printed."""
        return self._out.read_text().rpartition("\n")[0].splitlines()

    @property
    def log(self) -> str:
        """What went to standard error."""
        return self._err.read_text()

    def logged(self, *levels: str) -> list[dict[str, Any]]:
        """Return the log lines of these levels."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["level"] in levels]

    def port(self, listener: str) -> int:
        """Return the port of `gateway`, `admin` or `ops`."""
        line = next(line for line in self.output if line.startswith(listener))
        return int(line.split()[1].rpartition(":")[2])

    def ports(self) -> list[int]:
        """Return the ports of all listeners that it has announced."""
        return [int(line.split()[1].rpartition(":")[2]) for line in self.output if line != "ready"]

    async def until_ready(self) -> "Turnout":
        """Return when it has printed `ready`."""
        await until(lambda: "ready" in self.output or self.process.poll() is not None, READY_S)
        assert "ready" in self.output, self.log
        return self

    def processes(self) -> dict[int, str]:
        """Return all living processes that descend from this one, itself too: their command lines by pid."""
        return processes_of(self.token, self.tmp)

    def pid_of(self, what: str) -> int:
        """Return the one process whose command line contains `what`, such as `valkey-server`."""
        (pid,) = (pid for pid, command in self.processes().items() if what in command)
        return pid

    def workers(self) -> list[int]:
        """Return the pids of the gateway workers."""
        return [pid for pid, command in self.processes().items() if "router.app gateway" in command]

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal; return its exit status once it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return await self.ended()

    async def ended(self, within_s: float = END_S) -> int:
        """Return its exit status once it has ended by itself."""
        await until(lambda: self.process.poll() is not None, within_s)
        return self.process.wait()

    async def nothing_left(self, within_s: float = 1.0) -> None:
        """Fail unless no process of it lives and its ports are free, after `within_s` at the latest."""
        give_up_s = time.monotonic() + within_s
        while left := [*self.processes().items(), *filter(listening, self.ports())]:
            assert time.monotonic() < give_up_s, f"still running, or still listening: {left}"
            await asyncio.sleep(0.01)

    def kill_everything(self) -> None:
        """End whatever still lives; for the end of a test that has failed."""
        for pid in (self.pid, *self.processes()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        shutil.rmtree(self.tmp, ignore_errors=True)


class Turnouts:
    """Starts Turnouts and looks after their end. Each test has one, from the fixture `turnouts`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[Turnout] = []

    def launch(self, *arguments: str, directory: Path | None = None, **env: str) -> Turnout:
        """Start a command as it is and do not wait for it."""
        where = directory or self.directory
        where.mkdir(parents=True, exist_ok=True)
        self.started.append(Turnout(arguments, where, env))
        return self.started[-1]

    async def start(
        self, config: Mapping[str, Any], command: str = "serve", *, directory: Path | None = None
    ) -> Turnout:
        """Write `config` to turnout.yaml, start `turnout serve` (or another) with it, and return when it is ready."""
        where = directory or self.directory
        where.mkdir(parents=True, exist_ok=True)
        file = where / "turnout.yaml"
        file.write_text(yaml.safe_dump(dict(config)))
        return await self.launch(command, "--config", str(file), directory=where).until_ready()

    async def finish(self) -> None:
        """End what still runs, in the reverse order, and check that each ended well and left nothing."""
        try:
            for one in reversed(self.started):
                running = one.process.poll() is None
                status = await one.stop()
                if running:
                    assert status == 0, one.log
                await one.nothing_left(within_s=ORPHANS_S if status < 0 else 1.0)
                if running:
                    assert list(one.tmp.iterdir()) == [], "temporary files were left"
                assert "Traceback" not in one.log, one.log
        finally:
            for one in self.started:
                one.kill_everything()


class Admin:
    """The admin API of one Turnout, for one Route."""

    def __init__(self, port: int, route: str = ROUTE) -> None:
        self._port = port
        self._line: Line | None = None
        self._path = f"/v1/routes/{route}"

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Return the answer to one call, whatever its status; `path` is within the Route."""
        raw = json.dumps(body).encode() if body is not None else b""
        message = request(method, self._path + path, raw, {"content-type": "application/json"} if raw else {})
        for _ in range(2):  # the kept connection may be one that was closed for idleness
            if self._line is None or not self._line.is_open:
                self._line = await Line.open(self._port)
            fresh = self._line.asked == 0
            try:
                return await self._line.ask(message)
            except BrokenError:
                if fresh:
                    raise
        raise AssertionError("unreachable")

    async def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """Return what a GET within the Route answers."""
        answer = await self.ask("GET", path)
        assert answer.status == 200, answer
        return answer.json()

    async def post(self, path: str, **body: object) -> Any:  # noqa: ANN401 - JSON
        """Carry out a command."""
        answer = await self.ask("POST", path, body)
        assert answer.status in (200, 201), answer
        return answer.json()

    async def patch(self, **body: object) -> Any:  # noqa: ANN401 - JSON
        """Change the running rollout."""
        answer = await self.ask("PATCH", "/rollout", body)
        assert answer.status == 200, answer
        return answer.json()

    async def rollout(self) -> Any:  # noqa: ANN401 - JSON
        """Return where the rollout stands."""
        return await self.get("/rollout")

    async def until_routed(self, replicas: int = 1, within_s: float = 10.0) -> Any:  # noqa: ANN401 - JSON
        """Return the rollout once it runs and `replicas` workers route by its present revision."""
        seen: dict[str, Any] = {}

        async def applied() -> bool:
            seen.update(await self.rollout())
            current = [one for one in seen["replicas"] if one["revision"] == seen["revision"]]
            return seen["phase"] != "idle" and len(current) >= replicas

        await eventually(applied, within_s)
        return seen

    async def counters(self) -> dict[tuple[int, str, str, str], int] | None:
        """Return the evidence by (exposure, metric, variant, cell), None while the store is away."""
        answer = await self.ask("GET", "/evidence")
        if answer.status == 503:
            return None
        assert answer.status == 200, answer
        found = answer.json()["counters"]
        return {(one["exposure"], one["metric"], one["variant"], one["cell"]): one["value"] for one in found}

    def close(self) -> None:
        """Let go of the connection."""
        if self._line:
            self._line.close()


def config_for(stable: ModelServer, candidate: ModelServer, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - YAML
    """Return a configuration with one Route and free ports; `rollout` and other changes go into the Route."""
    route = {
        "match": {"path_prefix": "/v2/models/digits"},
        "adapter": "open_inference",
        "affinity": ["header:x-user-id"],
        "variants": {"v1": {"url": stable.url}, "v2": {"url": candidate.url}},
        "stable": "v1",
        **changes,
    }
    listeners = {name: {"port": 0} for name in ("gateway", "admin", "ops")}
    return {**listeners, "routes": {ROUTE: route}}


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without what would change how Turnout or Python run, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TURNOUT_", "PYTHON"))}
    return kept | more


def processes_of(token: str, tmp: Path) -> dict[int, str]:
    """Return the living processes with this token in their environment, or `tmp` in their command line, by pid."""
    return dict(_find_processes(f"{TOKEN}={token}".encode(), str(tmp)))


def _find_processes(in_environment: bytes, in_command: str) -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if in_command in command or in_environment in (entry / "environ").read_bytes():
                    yield int(entry.name), command
            except OSError:
                continue


def listening(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def slowdown() -> float:
    """Return how many times longer than its CPU time a process takes just now: 1 on an idle machine.

    For budgets that are meant for a machine of our own: a shared one, or tests beside this one, stretch them by that.
    """
    before, began_s = os.times(), time.monotonic()
    subprocess.run([sys.executable, "-c", "sum(range(6_000_000))"], check=True)
    took_s, after = time.monotonic() - began_s, os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return max(1.0, took_s / cpu_s)
