"""The directory in which the embedded server keeps its data, and the lock that gives it to one server."""

import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path

from router.core.errors import ConfigError

LOG_BYTES = 2**20
"""A log longer than this is put aside at the next start; only one old one is kept."""

HANDOVER_S = 2.0
"""How long to wait for the server of a killed predecessor to end; it takes about 0.1 s."""


class DataDirectory:
    """A directory, made if missing, and its lock file.

    The lock is an flock on an open file that the server inherits. So it is held exactly as long as the starter or the
    server lives, whichever lives longer, and no stale lock can stay behind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.log = self.path / "valkey.log"
        self._lock_path = self.path / "valkey.lock"
        self._lock: int | None = None

    def __repr__(self) -> str:
        return f"<DataDirectory {self.path}: {'locked' if self._lock is not None else 'not locked'} by this process>"

    def lock(self) -> int:
        """Take the lock and return its file descriptor, to be inherited; ConfigError while another server has it."""
        if self._lock is not None:
            return self._lock
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                "store.directory", str(self.path), f"a directory that can be written ({error})"
            ) from error
        deadline_s = time.monotonic() + HANDOVER_S
        while not _locked(lock):
            if time.monotonic() > deadline_s:
                holder = self._holder() or "unknown"
                os.close(lock)
                raise ConfigError(
                    "store.directory",
                    str(self.path),
                    f"a directory no other embedded store uses (process {holder} does): stop that one, or set "
                    "store.directory to another place, or store.url to share one store",
                )
            time.sleep(0.01)
        self._lock = lock
        self._clear_up()
        return lock

    def note(self, pid: int, socket_directory: Path) -> None:
        """Write down who uses the directory, for the message of a refused start and for clearing up after a kill."""
        self._lock_path.write_text(f"{pid}\n{socket_directory}\n")

    def unlock(self) -> None:
        """Give the lock up; the server keeps it until it has ended."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def log_tail(self, lines: int = 10) -> str:
        """Return the last lines of the server's log."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
                return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-lines:])
        except OSError as error:
            return f"(no log: {error})"

    def _holder(self) -> str:
        with contextlib.suppress(OSError):
            return self._lock_path.read_text().partition("\n")[0][:20]
        return ""

    def _clear_up(self) -> None:
        """Put a long log aside, and remove the socket directory of a predecessor that was killed."""
        with contextlib.suppress(OSError):
            if self.log.stat().st_size > LOG_BYTES:
                self.log.replace(self.log.with_suffix(".log.old"))
        with contextlib.suppress(OSError, IndexError):
            left = Path(self._lock_path.read_text().splitlines()[1])
            # The file could be anybody's work: remove only what is named as ours are, and is a directory of ours.
            if left.name.startswith(SOCKET_PREFIX) and left.stat().st_uid == os.getuid() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)


SOCKET_PREFIX = "turnout-store-"


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
