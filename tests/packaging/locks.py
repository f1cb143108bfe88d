"""Reads the lock files, for the tests of them and of what is made from them."""

from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = "requirements.lock"
DEV = "requirements-dev.lock"
TOOLS = ("chart", "release", "loadtest")
"""Groups whose lock stands alone, for a venv of their own."""


def lock_of(group: str) -> str:
    """Return the name of the lock of one of TOOLS."""
    return f"requirements-{group}.lock"


def logical_lines(name: str) -> list[str]:
    """Return the lock's requirements, each with its hashes on one line, without comments."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def pins(name: str) -> set[str]:
    """Return `name==version ; marker` of each requirement in the lock."""
    return {line.split("--hash", 1)[0].strip() for line in logical_lines(name)}


def hashes(name: str) -> dict[tuple[str, str], set[str]]:
    """Return the SHA-256 sums that the lock allows, by package and version."""
    found = {}
    for line in logical_lines(name):
        pin, *sums = line.split("--hash=sha256:")
        found[_exact(pin)] = {one.strip() for one in sums}
    return found


def versions(name: str) -> dict[str, set[str]]:
    """Return the pinned versions by package; more than one where markers split them."""
    found: dict[str, set[str]] = {}
    for pin in pins(name):
        package, version = _exact(pin)
        found.setdefault(package, set()).add(version)
    return found


def _exact(pin: str) -> tuple[str, str]:
    requirement = Requirement(pin)
    (specifier,) = requirement.specifier
    return canonicalize_name(requirement.name), specifier.version
