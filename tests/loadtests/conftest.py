"""What tests of measurements share."""

from tests.e2e.conftest import figure

__all__ = ["figure"]
