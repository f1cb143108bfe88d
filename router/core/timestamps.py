"""Times in words. Pure."""

from datetime import UTC, datetime


def rfc3339(at_s: float) -> str:
    """Return a wall-clock second as all our JSON has it: UTC, microseconds, `Z` (RFC 3339)."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
