"""The stage without sockets ends its worker whatever the test on it does."""

import pytest

from router.core.traffic import Backend, Variant
from tests.gateway.bench import route_of
from tests.gateway.socketless import stage


def fail_on_stage() -> None:
    """Be a test that fails while a request is in flight."""
    with stage(route_of(Variant("v1", (Backend("127.0.0.1", 1),)))) as made:
        client = made.client()
        client.send([b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"])
        assert client.deliver()
        assert [len(one.transport.written) > 0 for one in made.upstreamed] == [True]
        raise AssertionError("what the test said")


def test_a_failed_assertion_fails_its_test_and_does_not_hang_it() -> None:
    """What the test said comes out; nobody waits for the listener of its worker."""
    with pytest.raises(AssertionError, match="what the test said"):
        fail_on_stage()
