"""Listening sockets that are opened before anything is started."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from router.core.config import Listener
from router.core.errors import ConfigError
from router.supervisor.listeners import ListenError, open_listeners, url_of

ANY = Listener("127.0.0.1", 0)


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """Closes what a test opens."""
    with ExitStack() as stack:
        yield stack


def test_each_slot_has_a_socket_of_its_own_on_one_port(closing: ExitStack) -> None:
    """Four sockets, one free port, four queues: each takes some of 200 connections."""
    listeners = [closing.enter_context(one) for one in open_listeners(ANY, 4, "gateway")]
    assert len({one.getsockname() for one in listeners}) == 1
    for one in listeners:
        one.setblocking(False)  # noqa: FBT003 - the socket's own signature
    for _ in range(200):
        closing.enter_context(socket.create_connection(listeners[0].getsockname()))
    taken = [len(accepted(one, closing)) for one in listeners]
    assert sum(taken) == 200
    assert min(taken) > 20  # 50 expected of each; below 20 has a chance under 1e-7


def accepted(listener: socket.socket, closing: ExitStack) -> list[socket.socket]:
    """Accept everything that waits."""
    found = []
    try:
        while True:
            found.append(closing.enter_context(listener.accept()[0]))
    except BlockingIOError:
        return found


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_in_use_is_refused_also_when_its_owner_would_share_it(closing: ExitStack, *, shared: bool) -> None:
    """Another Turnout of the same user uses SO_REUSEPORT too; two of them must not split the traffic unseen."""
    other = closing.enter_context(socket.socket())
    if shared:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    other.bind(("127.0.0.1", 0))
    other.listen()
    port = other.getsockname()[1]
    with pytest.raises(ListenError, match=f"port {port} is in use.*gateway.port"):
        open_listeners(Listener("127.0.0.1", port), 2, "gateway")


def test_a_port_that_was_just_left_can_be_taken_again(closing: ExitStack) -> None:
    """Connections of the one before, still dying in the kernel, do not keep a restart from its port."""
    (before,) = open_listeners(ANY, 1, "gateway")
    client = closing.enter_context(socket.create_connection(before.getsockname()))
    served = before.accept()[0]
    served.close()  # the server closes first, so that its side stays in TIME_WAIT
    client.recv(1)
    client.close()
    port = before.getsockname()[1]
    before.close()
    (again,) = open_listeners(Listener("127.0.0.1", port), 1, "gateway")
    closing.enter_context(again)
    assert again.getsockname()[1] == port


def test_a_host_that_does_not_resolve_is_a_configuration_error() -> None:
    """The error names the field."""
    with pytest.raises(ConfigError) as refused:
        open_listeners(Listener("no.such.host.invalid", 0), 1, "admin")
    assert refused.value.field == "admin.host"


def test_an_address_of_another_machine_is_refused() -> None:
    """192.0.2.1 is nobody's (RFC 5737)."""
    with pytest.raises(ListenError, match=r"192\.0\.2\.1 is not an address of this machine: set admin.host"):
        open_listeners(Listener("192.0.2.1", 0), 1, "admin")


def test_urls_are_what_a_client_can_use(closing: ExitStack) -> None:
    """The real port is shown where a free one was asked for; IPv6 addresses stand in brackets."""
    (four,) = open_listeners(ANY, 1, "ops")
    closing.enter_context(four)
    assert url_of(four) == f"http://127.0.0.1:{four.getsockname()[1]}"
    six = closing.enter_context(socket.socket(socket.AF_INET6))  # not bound: a machine without IPv6 will do
    assert url_of(six) == "http://[::]:0"
