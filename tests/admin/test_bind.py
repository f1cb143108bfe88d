"""SE1: beyond loopback the admin API does not start without tokens."""

from dataclasses import replace

import pytest

from router.admin.bind import check_bind
from router.core.config import Listener
from router.core.errors import ConfigError
from tests.admin.desk import config, desk_for, memory_store


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    """Only this machine can reach it."""
    check_bind(replace(config(), admin=Listener(host, 8081)))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "fe80::1", "turnout.example", "127.0.0.1.example"])
def test_se1_any_other_address_needs_one_and_the_error_says_how(host: str) -> None:
    """The fix is three lines of YAML that can be copied."""
    open_config = replace(config(), admin=Listener(host, 8081))
    with pytest.raises(ConfigError) as caught:
        check_bind(open_config)
    assert (caught.value.field, caught.value.value) == ("admin.host", host)
    assert "turnout token" in str(caught.value)
    assert "auth:\n  tokens:\n    - {name: " in str(caught.value)
    check_bind(replace(config(tokens=True), admin=Listener(host, 8081)))


async def test_se1_the_application_itself_refuses_to_be_built_open() -> None:
    """Whoever starts it."""
    with pytest.raises(ConfigError, match="turnout token"):
        async with desk_for(memory_store(), replace(config(), admin=Listener("0.0.0.0", 8081))):
            pass
