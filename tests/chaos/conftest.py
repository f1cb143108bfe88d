"""Chaos tests start the same real processes as the end-to-end tests."""

from tests.e2e.conftest import candidate, figure, stable, turnouts

__all__ = ["candidate", "figure", "stable", "turnouts"]
