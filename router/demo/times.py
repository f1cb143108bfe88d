"""Times as the admin API writes them."""

from __future__ import annotations

from datetime import datetime


def seconds_of(at: str) -> float:
    """Return `2026-01-31T12:00:00.000000Z` as a wall-clock second."""
    return datetime.fromisoformat(at).timestamp()
