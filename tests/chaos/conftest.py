"""Chaos tests start the same real processes as the end-to-end tests, and fleets of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from router.store.embedded import EmbeddedValkey
from tests.chaos.fleet import Fleet
from tests.e2e.conftest import candidate, figure, stable, turnouts
from tests.e2e.harness import Turnouts

__all__ = ["candidate", "figure", "fleet", "stable", "turnouts"]


@pytest.fixture
def store_server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey that no Turnout owns; it ends after all of them."""
    with EmbeddedValkey(tmp_path / "store") as server:
        yield server


@pytest.fixture
def fleet(store_server: EmbeddedValkey, turnouts: Turnouts, tmp_path: Path) -> Fleet:
    """Starts real processes on one real store; `turnouts` ends them and checks that each ended well."""
    return Fleet(turnouts, store_server, tmp_path)
