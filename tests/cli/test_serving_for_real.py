"""`turnout serve`, `gateway` and `control` as processes: what they start, survive, refuse and leave behind."""
# ruff: noqa: ANN401 - test folders are no packages, so the classes of conftest.py have no importable name

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.store.embedded import EmbeddedValkey
from tests.e2e.harness import slowdown


def until(condition: Any, within_s: float = 20.0) -> None:
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


def command_line(pid: int) -> str:
    """Return what the process was started with."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def children_named(running: Any, part: str) -> set[int]:
    """Return the pids of those children whose command line holds `part`."""
    return {pid for pid in running.children() if part in command_line(pid)}


def refused(url: str) -> bool:
    """Whether nothing listens there."""
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


def predict(running: Any) -> httpx.Response:
    """Send one prediction on a new connection."""
    return httpx.post(running.url("gateway") + "/digits", content=b"{}", timeout=10)


def requests_total(running: Any) -> float:
    """Return the requests that v1 answered, as the ops port sums them up."""
    lines = httpx.get(running.url("ops") + "/metrics").text.splitlines()
    wanted = 'turnout_requests_total{outcome="ok",route="digits",variant="v1"}'
    return sum(float(line.split()[-1]) for line in lines if line.startswith(wanted))


def readiness(running: Any) -> tuple[int, Any]:
    """Return status and body of /readyz, without the 20 ms of CPU that httpx takes for a new client."""
    line = http.client.HTTPConnection(running.url("ops").removeprefix("http://"), timeout=10)
    line.request("GET", "/readyz")
    with line.getresponse() as answer:
        found = answer.status, json.loads(answer.read())
    line.close()
    return found


def is_ready(running: Any) -> bool:
    """Whether every slot answers requests."""
    return readiness(running)[0] == 200


def is_well(running: Any) -> bool:
    """Whether every slot answers requests and nothing is degraded."""
    status, body = readiness(running)
    return status == 200 and not body["degraded"]


def test_everything_answers_once_ready_was_printed(starter: Any) -> None:
    """One line for each listener, then `ready`: traffic, admin and ops work at the printed addresses."""
    running = starter("serve", starter.config()).wait_ready()
    assert [line.split()[0] for line in running.lines] == ["gateway", "admin", "ops", "ready"]
    assert predict(running).json() == {"model": "v1"}
    assert [route["name"] for route in httpx.get(running.url("admin") + "/v1/routes").json()] == ["digits"]
    until(lambda: is_well(running))
    assert httpx.get(running.url("gateway") + "/v1/routes").status_code == 404
    assert httpx.get(running.url("ops") + "/v1/routes").status_code == 404


@pytest.mark.slow
def test_cf5_a_killed_worker_is_replaced_within_a_second(starter: Any) -> None:
    """Three times kill -9 on one of two: the other answers meanwhile, the sum of requests never goes back."""
    running = starter("serve", starter.config(gateway={"port": 0, "workers": 2})).wait_ready()
    until(lambda: is_well(running))
    took_s = []
    for _ in range(3):
        before, counted = children_named(running, "router.app gateway"), requests_total(running)
        assert len(before) == 2
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        killed_s = time.monotonic()
        until(partial(dead, victim))
        until(partial(is_ready, running))
        took_s.append(time.monotonic() - killed_s)
        assert requests_total(running) >= counted
        assert all(predict(running).status_code == 200 for _ in range(8))
    assert min(took_s) < slowdown(), took_s  # a second of a machine of our own
    assert max(took_s) < 5.0 * slowdown(), took_s


@pytest.mark.slow
def test_a_killed_store_comes_back_with_its_data_and_traffic_never_notices(starter: Any) -> None:
    """After kill -9 on the embedded Valkey every request is answered, the rollout is still there afterwards."""
    running = starter("serve", starter.config()).wait_ready()
    admin = running.url("admin") + "/v1/routes/digits"
    block = {"candidate": "v2", "policy": "shadow"}
    assert httpx.post(f"{admin}/rollouts", json=block).status_code == 201
    (store,) = children_named(running, "valkey-server")
    os.kill(store, signal.SIGKILL)
    statuses = []

    def back() -> bool:
        statuses.append(predict(running).status_code)
        return children_named(running, "valkey-server") not in ({store}, set()) and is_well(running)

    until(back)
    assert set(statuses) == {200}
    rollout = httpx.get(f"{admin}/rollout").json()
    assert (rollout["phase"], rollout["candidate"]) == ("progressing", "v2")


@pytest.mark.slow
def test_nothing_is_left_after_a_signal(starter: Any) -> None:
    """SIGTERM: exit 0, no process, no port, no socket directory."""
    running = starter("serve", starter.config()).wait_ready()
    children = running.children()
    assert len(children) == 3
    running.process.send_signal(signal.SIGTERM)
    assert running.finish() == 0
    assert all(dead(child) for child in children)
    assert all(refused(running.url(name)) for name in ("gateway", "admin", "ops"))
    assert list(starter.home.glob("turnout-store-*")) == []


@pytest.mark.slow
def test_nothing_runs_on_after_the_parents_sigkill(starter: Any) -> None:
    """Workers, control and store end by themselves; the next start takes over the data and clears up."""
    config = starter.config()
    running = starter("serve", config).wait_ready()
    children = running.children()
    running.process.kill()
    running.finish()
    until(lambda: all(dead(child) for child in children))
    assert all(refused(running.url(name)) for name in ("gateway", "admin", "ops"))
    again = starter("serve", config).wait_ready()
    again.process.send_signal(signal.SIGTERM)
    assert again.finish() == 0
    assert list(starter.home.glob("turnout-store-*")) == []


def test_ctrl_c_ends_it_in_order(starter: Any) -> None:
    """The whole process group is signalled, as a terminal does: exit 0, nothing is left, nobody complains."""
    running = starter("serve", starter.config()).wait_ready()
    children = running.children()
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.finish() == 0
    assert all(dead(child) for child in children)
    assert not any("Traceback" in line or "KeyboardInterrupt" in line for line in running.errors)


@pytest.fixture
def valkey(starter: Any) -> Iterator[str]:
    """A store that somebody else runs."""
    with EmbeddedValkey(starter.home / "elsewhere") as server:
        yield server.url


@pytest.mark.slow
def test_gateway_and_control_run_apart_when_they_share_a_store(starter: Any, valkey: str) -> None:
    """Two commands, one store: what control decides is what the gateway does."""
    config = starter.config(store={"url": valkey})
    control = starter("control", config).wait_ready()
    gateway = starter("gateway", config).wait_ready()
    assert [line.split()[0] for line in gateway.lines] == ["gateway", "ops", "ready"]
    assert [line.split()[0] for line in control.lines] == ["admin", "ready"]
    admin = control.url("admin") + "/v1/routes/digits"
    steps = [{"weight": "100%", "min_requests": 0}]
    block = {"candidate": "v2", "policy": "blue_green", "steps": steps}
    assert httpx.post(f"{admin}/rollouts", json=block).status_code == 201
    until(lambda: predict(gateway).json() == {"model": "v2"})
    for one in (gateway, control):
        one.process.send_signal(signal.SIGTERM)
        assert one.finish() == 0


@pytest.mark.parametrize("command", ["gateway", "control"])
def test_a_part_alone_needs_a_store(starter: Any, command: str) -> None:
    """Without store.url it refuses, says why and how, and starts nothing."""
    running = starter(command, starter.config())
    assert running.finish() == 2
    assert running.lines == []
    assert "store.url" in "\n".join(running.errors)
    assert "turnout serve" in "\n".join(running.errors)


def test_bad_config_starts_nothing(starter: Any) -> None:
    """Exit 2; the error names field, value and what was expected."""
    running = starter("serve", starter.config(gateway={"port": 0, "workers": "two"}))
    assert running.finish() == 2
    assert running.lines == []
    assert "gateway.workers" in "\n".join(running.errors)
    assert "'two'" in "\n".join(running.errors)
    assert not (starter.home / ".turnout").exists()


def test_se1_an_open_admin_port_without_tokens_is_refused(starter: Any) -> None:
    """Exit 2 with the lines to add; nothing listens."""
    running = starter("serve", starter.config(admin={"host": "0.0.0.0", "port": 0}))
    assert running.finish() == 2
    assert running.lines == []
    assert "turnout token" in "\n".join(running.errors)


def test_a_port_in_use_starts_nothing(starter: Any) -> None:
    """Exit 2; the error names the port, the setting and the variable."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        running = starter("serve", starter.config(admin={"port": port}))
        assert running.finish() == 2
    assert running.lines == []
    assert f"port {port} is in use" in "\n".join(running.errors)
    assert "TURNOUT_ADMIN__PORT" in "\n".join(running.errors)
    assert not (starter.home / ".turnout").exists()


@pytest.mark.slow
def test_it_runs_whatever_lies_in_the_working_directory(starter: Any) -> None:
    """A folder called `router` where it is started is not imported instead of ours."""
    (starter.home / "router").mkdir()
    (starter.home / "router" / "__init__.py").write_text("raise SystemExit('not this one')\n")
    config = starter.config()
    turnout = Path(sys.executable).with_name("turnout")
    process = subprocess.Popen(
        [turnout, "serve", "--config", config.name], cwd=starter.home, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(starter.home)},
    )  # fmt: skip
    assert process.stdout
    lines = [process.stdout.readline().split()[0] for _ in range(4)]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert lines == ["gateway", "admin", "ops", "ready"]
