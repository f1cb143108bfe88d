"""What the tests with real model servers share."""

from tests.e2e.conftest import figure, turnouts

__all__ = ["figure", "turnouts"]
