"""A real parent with real processes in its slots: starting, replacing, counting, ending."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

import httpx
import pytest

from tests.e2e.harness import slowdown

HERE = Path(__file__).parent


class Parent:
    """One started parent, what it has printed, and where it listens."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream, into), daemon=True)
            for stream, into in ((process.stdout, self.lines), (process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: IO[str] | None, into: list[str]) -> None:
        assert stream
        into.extend(line.rstrip("\n") for line in stream)

    def wait_ready(self) -> "Parent":
        """Return once `ready` was printed."""
        until(lambda: "ready" in self.lines or self.process.poll() is not None)
        assert "ready" in self.lines, self.errors
        return self

    def url(self, name: str) -> str:
        """Return the address that was printed for one listener."""
        return next(line.split()[1] for line in self.lines if line.startswith(name))

    def finish(self, timeout_s: float = 10.0) -> int:
        """Return the exit status."""
        status = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join(timeout_s)
        return status

    def get(self, path: str) -> httpx.Response:
        """Ask the ops port."""
        return httpx.get(self.url("ops") + path)


Start = Callable[..., Parent]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start parents with the given options; whatever is still running afterwards is killed."""
    started: list[Parent] = []

    def start(**options: object) -> Parent:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "parent_process.py"), json.dumps(options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        started.append(Parent(process))
        return started[-1]

    yield start
    for parent in started:
        parent.process.kill()
        parent.finish()
        for stream in (parent.process.stdout, parent.process.stderr):
            assert stream
            stream.close()


def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Return once `condition` holds; fail when it does not within `within_s`."""
    give_up_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_s, "the condition never held"
        time.sleep(0.005)


def dead(pid: int) -> bool:
    """Whether the process does not exist, or is a zombie."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def refused(url: str) -> bool:
    """Whether nothing listens there."""
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


def workers_of(parent: Parent, count: int) -> set[int]:
    """Return the pids of all `count` workers, by asking on new connections until each has answered."""
    pids: set[int] = set()
    url = parent.url("gateway")

    def all_seen() -> bool:
        pids.add(int(httpx.get(url).text))
        return len(pids) == count

    until(all_seen)
    return pids


def children_of(pid: int) -> set[int]:
    """Return the pids of the process's children."""
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def requests_total(parent: Parent) -> float:
    """Return the summed counter as the ops port shows it."""
    page = parent.get("/metrics").text
    return next(float(line.split()[-1]) for line in page.splitlines() if line.startswith("turnout_requests_total{"))


def test_it_prints_a_line_for_each_listener_and_then_ready(start: Start) -> None:
    """After `ready`, gateway, admin and ops answer on the addresses that were printed."""
    parent = start(workers=2, control="good").wait_ready()
    assert [line.split()[0] for line in parent.lines] == ["gateway", "admin", "ops", "ready"]
    assert httpx.get(parent.url("gateway")).status_code == 200
    assert httpx.get(parent.url("admin")).status_code == 200
    assert parent.get("/healthz").text == "ok\n"
    assert parent.get("/readyz").json()["processes"] == {
        "gateway-0": "ready", "gateway-1": "ready", "control": "ready",
    }  # fmt: skip


def test_nothing_of_admin_is_on_the_ops_port(start: Start) -> None:
    """Three paths answer, by GET and HEAD; everything else is refused."""
    parent = start().wait_ready()
    assert parent.get("/v1/routes").status_code == 404
    assert httpx.post(parent.url("ops") + "/healthz").status_code == 405
    head = httpx.head(parent.url("ops") + "/metrics")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_cf5_a_killed_worker_is_replaced_within_a_second(start: Start) -> None:
    """After kill -9 on one of two, another process answers in its slot before a second is over, again and again."""
    parent = start(workers=2).wait_ready()
    took_s = []
    for _ in range(3):
        before = workers_of(parent, 2)
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        killed_s = time.monotonic()
        until(partial(dead, victim))
        until(lambda: parent.get("/readyz").status_code == 200)
        took_s.append(time.monotonic() - killed_s)
        after = workers_of(parent, 2)
        assert len(after - before) == 1
        assert victim not in after
    assert min(took_s) < slowdown(), took_s  # a second of a machine of our own
    assert max(took_s) < 5.0 * slowdown(), took_s


def test_cf4_connections_that_wait_for_a_killed_worker_are_answered_by_the_next(start: Start) -> None:
    """The slot's socket outlives its process: whoever connects meanwhile waits, and nobody is refused."""
    parent = start(workers=1).wait_ready()
    (victim,) = workers_of(parent, 1)
    os.kill(victim, signal.SIGKILL)
    answers = {int(httpx.get(parent.url("gateway")).text) for _ in range(5)}
    assert len(answers) == 1
    assert victim not in answers


def test_summed_counters_never_go_backwards_when_a_worker_dies(start: Start) -> None:
    """What a killed worker was seen to have counted stays in the sum."""
    parent = start(workers=2).wait_ready()
    victim = min(workers_of(parent, 2))
    for _ in range(20):
        httpx.get(parent.url("gateway"))
    before = requests_total(parent)
    assert before >= 20
    os.kill(victim, signal.SIGKILL)
    until(partial(dead, victim))
    assert requests_total(parent) >= before
    until(lambda: parent.get("/readyz").status_code == 200)
    httpx.get(parent.url("gateway"))
    assert requests_total(parent) == before + 1


def test_control_is_replaced_too_and_traffic_does_not_notice(start: Start) -> None:
    """While control is away, readiness stays on and says what is degraded; then control is back."""
    parent = start(workers=1, control="good").wait_ready()
    gateway = workers_of(parent, 1)
    control = int(httpx.get(parent.url("admin")).text)
    os.kill(control, signal.SIGKILL)
    seen: list[httpx.Response] = []

    def degraded() -> object:
        seen.append(parent.get("/readyz"))
        return seen[-1].json()["degraded"]

    until(degraded)
    assert seen[-1].status_code == 200
    assert "control: not running" in seen[-1].json()["degraded"][0]
    until(lambda: parent.get("/readyz").json()["degraded"] == [])
    assert int(httpx.get(parent.url("admin")).text) != control
    assert workers_of(parent, 1) == gateway


def test_cf3_a_signal_lets_requests_in_flight_finish(start: Start, tmp_path: Path) -> None:
    """SIGTERM: readiness goes off, new clients are refused, the request under way gets its answer, exit 0."""
    parent = start(workers=2, control="good").wait_ready()
    children = children_of(parent.process.pid)
    gateway, flag, answers = parent.url("gateway"), tmp_path / "go", []
    client = threading.Thread(target=lambda: answers.append(httpx.get(f"{gateway}/slow?{flag}", timeout=20)))
    client.start()
    until(flag.with_suffix(".seen").exists)
    parent.process.send_signal(signal.SIGTERM)
    until(lambda: parent.get("/readyz").status_code == 503)
    until(lambda: refused(gateway))
    assert parent.process.poll() is None
    flag.touch()
    assert parent.finish() == 0
    client.join(10)
    assert [answer.status_code for answer in answers] == [200]
    assert all(dead(child) for child in children)
    assert refused(parent.url("admin"))
    assert refused(parent.url("ops"))


def test_a_second_signal_ends_everything_at_once(start: Start, tmp_path: Path) -> None:
    """With a request that never ends, the first signal waits and the second does not."""
    parent = start(workers=1, control="good").wait_ready()
    children = children_of(parent.process.pid)
    with socket.create_connection(("127.0.0.1", int(parent.url("gateway").rpartition(":")[2]))) as client:
        client.sendall(f"GET /slow?{tmp_path / 'never'} HTTP/1.1\r\n\r\n".encode())
        until((tmp_path / "never.seen").exists)
        parent.process.send_signal(signal.SIGTERM)
        until(lambda: parent.get("/readyz").status_code == 503)
        parent.process.send_signal(signal.SIGTERM)
        assert parent.finish(5.0) == 0
    assert all(dead(child) for child in children)


def test_a_worker_that_ignores_the_deadline_is_killed(start: Start) -> None:
    """A process that does not drain is not waited for much longer than its deadline."""
    parent = start(worker="deaf", drain_s=0.2).wait_ready()
    children = children_of(parent.process.pid)
    parent.process.send_signal(signal.SIGTERM)
    assert parent.finish(5.0) == 0
    assert all(dead(child) for child in children)


def test_ctrl_c_reaches_the_parent_only(start: Start, tmp_path: Path) -> None:
    """A terminal signals the whole process group; workers still finish what they have in flight."""
    parent = start(workers=1).wait_ready()
    gateway, flag, answers = parent.url("gateway"), tmp_path / "go", []
    client = threading.Thread(target=lambda: answers.append(httpx.get(f"{gateway}/slow?{flag}", timeout=20)))
    client.start()
    until(flag.with_suffix(".seen").exists)
    os.killpg(parent.process.pid, signal.SIGINT)
    until(lambda: parent.get("/readyz").status_code == 503)
    flag.touch()
    assert parent.finish() == 0
    client.join(10)
    assert [answer.status_code for answer in answers] == [200]


def test_nothing_survives_the_parents_sigkill(start: Start) -> None:
    """Workers and control end by themselves, and their ports are free."""
    parent = start(workers=2, control="good").wait_ready()
    children = children_of(parent.process.pid)
    assert len(children) == 3
    parent.process.kill()
    parent.finish()
    until(lambda: all(dead(child) for child in children))
    assert all(refused(parent.url(name)) for name in ("gateway", "admin", "ops"))


def test_a_port_in_use_starts_nothing(start: Start) -> None:
    """The error names the port and the setting; no line was printed, no process started."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        parent = start(port=port)
        assert parent.finish() == 2
    assert parent.lines == []
    assert f"port {port} is in use" in parent.errors[-1]
    assert "gateway.port" in parent.errors[-1]


def test_settings_that_cannot_work_end_the_start_at_once(start: Start) -> None:
    """A worker that says its settings are at fault is not tried again; its reason is the error."""
    parent = start(worker="refuse", control="good")
    assert parent.finish() == 2
    assert "ready" not in parent.lines
    assert "adapter 'nonsense' is unknown, expected one of: opaque" in parent.errors[-1]


def test_a_worker_that_dies_at_start_is_tried_a_few_times(start: Start) -> None:
    """The start is given up after five tries with growing delays, and says how the worker ended."""
    parent = start(worker="crash")
    assert parent.finish() == 2
    assert "gateway-0 cannot start: exit 7 before it was ready, 5 times" in parent.errors[-1]
    delays = [json.loads(line)["delay_s"] for line in parent.errors if line.startswith("{")]
    assert delays == [0.0, 0.1, 0.2, 0.4]


def test_control_that_cannot_start_takes_everything_down_again(start: Start) -> None:
    """Half a Turnout is none: the workers that were ready are ended, and the error names control."""
    parent = start(workers=2, control="crash")
    assert parent.finish() == 2
    assert "control cannot start: exit 7" in parent.errors[-1]
    assert refused(parent.url("gateway"))


def test_a_signal_during_the_start_ends_it_at_once(start: Start) -> None:
    """SIGTERM while a worker never gets ready: exit 0 without `ready`, no process left."""
    parent = start(worker="hang")
    until(lambda: len(parent.lines) == 2 and children_of(parent.process.pid))
    children = children_of(parent.process.pid)
    parent.process.send_signal(signal.SIGTERM)
    assert parent.finish(5.0) == 0
    assert "ready" not in parent.lines
    assert all(dead(child) for child in children)


def test_metrics_that_the_table_does_not_know_are_refused_aloud(start: Start) -> None:
    """A producer's mistake is logged and the page still works."""
    parent = start(worker="broken_metrics").wait_ready()
    page = parent.get("/metrics")
    assert page.status_code == 200
    assert "turnout_nonsense" not in page.text
    assert "turnout_build_info{" in page.text
    assert any("unknown metric 'turnout_nonsense'" in line for line in parent.errors)
