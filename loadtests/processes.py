"""Processes of a measurement: started on one core, accounted for from /proc, ended whatever happens."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

GATEWAY_CORE, LOAD_CORE = "0", "1"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PATH = "/v2/models/m/infer"
START_S = 15.0

Parts = Mapping[str, Sequence[int]]
"""Process ids by the part of a system that they are, such as `gateway` or `store`."""


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def cpu_s(pids: Iterable[int], proc: Path = Path("/proc")) -> float:
    """User + system time of these processes so far, in seconds; one that is gone counts 0.

    The scheduler's statistics count nanoseconds, but not those of threads that have ended; ticks of 10 ms count these
    too, and are never ahead. So the greater one is the better one.
    """
    return sum(
        max(_scheduled_ns(proc / str(pid)) / 1e9, _ticks(proc / str(pid) / "stat") / TICKS_PER_S) for pid in pids
    )


def _scheduled_ns(process: Path) -> int:
    total = 0
    for thread in process.glob("task/*/schedstat"):
        try:
            total += int(thread.read_text().split()[0])
        except (OSError, IndexError):  # it has ended, or the kernel keeps no such figures
            continue
    return total


def _ticks(stat: Path) -> int:
    try:
        fields = stat.read_text().rpartition(")")[2].split()  # the name before may hold spaces and brackets
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])  # utime and stime, fields 14 and 15 of proc(5)


def peak_rss_mib(pids: Iterable[int], proc: Path = Path("/proc")) -> float:
    """Most resident memory of these processes together since `reset_peak_rss`; one that is gone counts 0."""
    return sum(_kib(proc / str(pid) / "status", "VmHWM:") for pid in pids) / 1024


def _kib(status: Path, field: str) -> int:
    try:
        return int(status.read_text().partition(field)[2].split()[0])
    except (OSError, IndexError):
        return 0


def rss_mib(pids: Iterable[int], proc: Path = Path("/proc")) -> float:
    """Resident memory of these processes together; one that is gone counts 0."""
    return sum(_kib(proc / str(pid) / "status", "VmRSS:") for pid in pids) / 1024


def reset_peak_rss(pids: Iterable[int]) -> None:
    """Let the peak be what is resident now (`5` of proc(5), clear_refs)."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def descendants(pid: int) -> Iterator[int]:
    """The process and everything that came of it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from descendants(int(child))


def wait_for_answer(port: int, path: str = PATH) -> None:
    """Return when the port answers a prediction with 200; RuntimeError after START_S."""
    deadline = time.monotonic() + START_S
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=b"{}", method="POST")
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=1) as answer:  # noqa: S310
                answer.read()
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"port {port} did not answer within {START_S:.0f} s")


def end_by_sigterm() -> None:
    """Let SIGTERM end this process as an exception would: what it has started must be ended on that way, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@contextmanager
def running(command: Sequence[str], core: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command on one core with `folder` as its own; end it, and what it started, at the end.

    What it prints goes to the files `out` and `err` in `folder`.
    """
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            ["taskset", "-c", core, *command], cwd=folder, stdout=out, stderr=err, start_new_session=True
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
