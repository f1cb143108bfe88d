"""Programs installed when they are first wanted: each from a hash-pinned lock into a venv of its own.

They would resolve neither with this project nor with each other. The venvs lie in the user's cache, for all checkouts.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

INSTALL_S = 600.0

_STAMP = "turnout-stamp"
"""A file in each venv that is whole: the digest of the lock that it was made from."""


class MissingError(Exception):
    """A program is not here and cannot be installed; the sentence says why."""


@dataclass(frozen=True, slots=True)
class OnDemand:
    """The programs that have a file `NAME.lock` in `locks`; `kind` is the name of their folder in the cache."""

    locks: Path
    kind: str

    def names(self) -> list[str]:
        """Return the names of all of them, sorted."""
        return sorted(lock.stem for lock in self.locks.glob("*.lock"))

    def venv(self, name: str) -> Path:
        """Return where the program's venv is, or would be: `NAME-VERSION`."""
        version = re.search(rf"^{re.escape(name)}\S*==(\S+)", self._lock(name).read_text(), re.MULTILINE)
        assert version is not None, f"{name}.lock names no version of {name}"
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "turnout" / self.kind / f"{name}-{version[1]}"

    def is_here(self, name: str) -> bool:
        """Whether it is installed, wholly and from the present lock."""
        try:
            return (self.venv(name) / _STAMP).read_text() == self._digest(name)
        except OSError:
            return False

    def install(self, name: str) -> Path:
        """Return the program's venv, made now if it is not here. Raises MissingError, and leaves nothing then."""
        venv = self.venv(name)
        if self.is_here(name):
            return venv
        sys.stderr.write(f"installing {name} into {venv} (once)\n")
        shutil.rmtree(venv, ignore_errors=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        for command in (
            [sys.executable, "-m", "venv", str(venv)],
            [*pip, "--require-hashes", "-r", str(self._lock(name))],
        ):
            if why := _complaint(command):
                shutil.rmtree(venv, ignore_errors=True)
                raise MissingError(f"{name} could not be installed: {why}")
        (venv / _STAMP).write_text(self._digest(name))
        return venv

    def _lock(self, name: str) -> Path:
        return self.locks / f"{name}.lock"

    def _digest(self, name: str) -> str:
        return hashlib.sha256(self._lock(name).read_bytes()).hexdigest()


def _complaint(command: list[str]) -> str:
    """Run a command; return its last line if it failed, else nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    return ((done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"])[-1]
