"""The demo as a whole: real models, a real `turnout serve`, real traffic; and nothing of it afterwards."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"),
]


@dataclass(slots=True)
class Sandbox:
    """A place to run demos in, which knows every process and file that they leave behind."""

    directory: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start `turnout demo` in a process group of its own, as a shell does."""
        # No name with TURNOUT_: those are kept from the demo's Turnout.
        env = os.environ | {"TMPDIR": str(self.directory), "DEMO_TEST_MARK": self.mark}
        process = subprocess.Popen(
            [sys.executable, "-m", "router", "demo", "--port", "0", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            process_group=0,
        )
        self.started.append(process)
        return process

    def processes(self) -> dict[int, str]:
        """Return the command lines, by process id, of all processes that come from here and are alive."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit():
                    # The store server writes its title over its environment; its socket's place is in the title.
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if str(self.directory) in command or self.mark.encode() in (entry / "environ").read_bytes():
                        found[int(entry.name)] = command
            except OSError:
                continue  # it has ended meanwhile
        return found

    def files(self) -> list[str]:
        """Return what lies in the directory for temporary files."""
        return sorted(entry.name for entry in self.directory.iterdir())


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox with a short path, because sockets lie in it; whatever still runs afterwards is killed."""
    with tempfile.TemporaryDirectory(prefix="demo-", dir="/tmp") as directory:
        one = Sandbox(Path(directory))
        yield one
        for process in one.started:
            if process.poll() is None:
                process.kill()
                process.communicate()
        until(lambda: not one.processes())


def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Return once `condition` holds; fail when it does not within `within_s`."""
    give_up_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_s, "the condition never held"
        time.sleep(0.01)


def test_a_headless_run_shows_all_that_is_promised(sandbox: Sandbox) -> None:
    """At least 100 requests/s, no client error, complete pairs, right shares, all flips; only JSON on stdout."""
    process = sandbox.start("--headless", "--seconds", "20", "--json")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, f"{out}\n{err}"
    told: Any = json.loads(out)
    assert told["ok"] is True
    assert told["failures"] == []
    assert told["client_errors"] == 0
    assert told["requests"] / told["seconds"] >= 100
    assert told["pairs"]["both"] >= 0.98 * told["pairs"]["copies"] > 500
    assert [(one["to"], one["weight_bp"], one["stable"]) for one in told["flips"]] == [
        ("shadow", 0, "v1"), ("canary", 1_000, "v1"), ("canary", 2_500, "v1"), ("canary", 5_000, "v1"),
        ("blue_green", 10_000, "v1"), ("promoted", 0, "v2"),
    ]  # fmt: skip
    assert all(0 < one["reached_gateways_ms"] < 5_000 for one in told["flips"])
    assert all(one["fits"] and not one["moved_users"] for one in told["shares"])
    assert told["models"]["v2"]["accuracy"] > told["models"]["v1"]["accuracy"] > 0.9
    (act,) = told["acts"]
    assert act["result"] == "promoted"
    assert [one["kind"] for one in act["decisions"]] == [
        "start", "set_policy", "advance", "advance", "set_policy", "promote",
    ]  # fmt: skip
    assert "canary 10%: v2 answers 10% of the users" in err
    assert "result     ok: rollout promoted" in err
    assert (sandbox.processes(), sandbox.files()) == ({}, [])


@pytest.mark.parametrize("seed", range(4))
def test_ctrl_c_at_any_moment_leaves_nothing(sandbox: Sandbox, seed: int) -> None:
    """While models are trained, Turnout starts or traffic flows: no process, no file, exit 130, and a line says so."""
    process = sandbox.start("--headless", "--seconds", "20")
    assert process.stdout is not None
    process.stdout.readline()  # from here on there is something to clear up
    # Not a wait for anything: the moment is what is drawn at random.
    time.sleep(random.Random(seed).uniform(0.0, 12.0))
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGINT)  # an impatient second one must not break the clearing up
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, f"{out}\n{err}"
    assert out.splitlines()[-1].startswith("stopped by Ctrl-C: ")
    assert out.splitlines()[-1].endswith("; nothing is left running")
    assert err == ""
    assert (sandbox.processes(), sandbox.files()) == ({}, [])


def test_a_killed_demo_takes_its_processes_along(sandbox: Sandbox) -> None:
    """After SIGKILL nothing can be cleared up, yet every process ends by itself."""
    process = sandbox.start("--headless", "--seconds", "60")
    assert process.stdout is not None
    for line in process.stdout:
        if "shadow" in line:
            break
    assert len(sandbox.processes()) == 8  # demo, two models, parent, two workers, control, store
    process.kill()
    process.communicate(timeout=10)
    until(lambda: not sandbox.processes(), within_s=20.0)


def test_a_turnout_that_dies_ends_the_demo_with_a_sentence(sandbox: Sandbox) -> None:
    """Its last words are shown, the status is 1, and what it had started is gone too."""
    process = sandbox.start("--headless", "--seconds", "60")
    assert process.stdout is not None
    for line in process.stdout:
        if "shadow" in line:
            break
    (serve,) = [pid for pid, command in sandbox.processes().items() if " serve --config " in command]
    os.kill(serve, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, f"{out}\n{err}"
    assert err.startswith("error: turnout serve ended (exit status -9). It said:\n")
    until(lambda: not sandbox.processes())
    assert sandbox.files() == []


def test_a_port_that_is_taken_is_an_error_that_names_it(sandbox: Sandbox) -> None:
    """Nothing is started, the sentence says what to do, and the status is that of a usage error."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = sandbox.start("--headless", "--port", str(port))
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == f"error: --port: got {port}, expected a port that is free; 0 takes any, or stop what listens there\n"
    assert out == ""
    assert sandbox.files() == []
