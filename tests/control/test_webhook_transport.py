"""SE5: a webhook leaves for nowhere but the allow-list. Real sockets on loopback, names by the test's own resolver."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import pytest

from router.control.webhooks.transport import CheckedTransport, ForbiddenAddressError, resolve
from router.core.addresses import AllowList
from tests.control.receiver import Receiver, receiver, status

PUBLIC = "93.184.215.14"


@dataclass
class Recording(httpx.AsyncBaseTransport):
    """The real transport, with a note of every host it was sent to; `elsewhere` are not really connected to."""

    elsewhere: tuple[str, ...] = ()
    hosts: list[str] = field(default_factory=list)
    names: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inner = httpx.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Note and pass on."""
        self.hosts.append(request.url.host)
        self.names.append(request.extensions.get("sni_hostname"))
        if request.url.host in self.elsewhere:
            raise httpx.ConnectError("not in this test")
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close."""
        await self.inner.aclose()


class Names:
    """A resolver: each name has a list of answers, one for each time it is asked; the last one stays."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): answer for name, answer in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Answer from the list, or as the system does for literal addresses."""
        self.asked.append(host)
        known = self.answers.get(host)
        if known is None:
            return await resolve(host, port)
        return known.pop(0) if len(known) > 1 else known[0]


def client(allow: list[str], names: Names, out: Recording) -> httpx.AsyncClient:
    """Return a client as `calls` builds it."""
    return httpx.AsyncClient(transport=CheckedTransport(AllowList(allow), names, out), trust_env=False)


EVIL = [
    "http://169.254.169.254/latest/meta-data/",
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://127.127.127.127:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::7f00:1]:{port}/",
    "http://[0:0:0:0:0:ffff:7f00:0001]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[fe80::1]:{port}/",
    "http://user:password@hooks.example.com:{port}/",
    "http://hooks.example.com@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@hooks.example.com/",
    "http://hooks.example.com.evil.example:{port}/",
    "http://rebound.example:{port}/",
    "http://mixed.example:{port}/",
    "http://internal.example:{port}/",
    "http://metadata.example/",
    "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11:{port}/",
    "unix:///run/docker.sock",
    "file:///etc/passwd",
    "ftp://hooks.example.com/",
    "gopher://hooks.example.com:{port}/",
    "//hooks.example.com/",
]


@pytest.mark.parametrize("url", EVIL)
async def test_se5_nothing_is_connected_to_outside_of_the_allow_list(url: str) -> None:
    """Not by number, not by an odd form of it, not by name, not by scheme; even the names in question are listed."""
    names = Names(
        rebound_example=[["127.0.0.1"]],
        mixed_example=[[PUBLIC, "127.0.0.1"]],
        internal_example=[["192.168.1.1"]],
        metadata_example=[["169.254.169.254"]],
        hooks_example_com_evil_example=[[PUBLIC]],
        hooks_example_com=[["127.0.0.1"]],
    )
    allow = [*names.answers, "localhost"]
    allow.remove("hooks.example.com.evil.example")
    out = Recording()
    async with receiver() as trap, client(allow, names, out) as http:
        with pytest.raises((httpx.TransportError, httpx.InvalidURL, UnicodeError)):
            await http.post(url.format(port=trap.port))
    assert (trap.connections, out.hosts) == (0, [])


async def test_se5_a_name_that_changes_its_address_is_connected_to_at_the_checked_one() -> None:
    """Rebinding: allowed when it is checked, loopback when a client would ask again. It is asked once."""
    names = Names(rebound_example=[[PUBLIC], ["127.0.0.1"]])
    out = Recording(elsewhere=(PUBLIC,))
    async with receiver() as trap, client(["rebound.example"], names, out) as http:
        url = f"http://rebound.example:{trap.port}/"
        with pytest.raises(httpx.ConnectError, match="not in this test"):
            await http.post(url)
        assert (names.asked, out.hosts) == (["rebound.example"], [PUBLIC])
        with pytest.raises(ForbiddenAddressError, match=r"rebound\.example is at 127\.0\.0\.1"):
            await http.post(url)
        assert (trap.connections, out.hosts) == (0, [PUBLIC])


async def test_se5_a_redirect_is_an_answer_and_not_followed() -> None:
    """Not even to an address that is allowed."""
    async with receiver() as trap:
        redirect = status(302, extra=f"location: http://127.0.0.1:{trap.port}/\r\n")
        async with receiver(redirect) as hook, client(["127.0.0.1"], Names(), Recording()) as http:
            assert (await http.post(hook.url)).status_code == 302
    assert trap.connections == 0


async def test_se5_variables_for_proxies_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would resolve and connect for us."""
    async with receiver() as trap, receiver() as hook:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{trap.port}")
        async with client(["127.0.0.1"], Names(), Recording()) as http:
            assert (await http.post(hook.url)).status_code == 200
    assert (trap.connections, hook.connections) == (0, 1)


async def test_what_is_allowed_arrives_under_its_own_name() -> None:
    """The address is connected to; Host field and the name for TLS stay those of the URL."""
    names = Names(hooks_internal=[["127.0.0.1"]])
    out = Recording()
    async with receiver() as hook, client(["hooks.internal", "127.0.0.1"], names, out) as http:
        response = await http.post(f"http://hooks.internal:{hook.port}/a?b=c", content=b"{}")
    assert (response.status_code, out.hosts, out.names) == (200, ["127.0.0.1"], ["hooks.internal"])
    (got,) = hook.received
    assert (got.line, got.headers["host"]) == ("POST /a?b=c HTTP/1.1", f"hooks.internal:{hook.port}")


async def test_the_next_address_is_tried_where_one_takes_no_connection() -> None:
    """As browsers do; a request that was sent is not sent again."""
    names = Names(hooks_internal=[["127.0.0.2", "127.0.0.1"]])
    out = Recording()
    async with receiver() as hook, client(["hooks.internal", "127.0.0.0/8"], names, out) as http:
        url = f"http://hooks.internal:{hook.port}/"
        assert (await http.post(url)).status_code == 200
        assert out.hosts == ["127.0.0.2", "127.0.0.1"]
        await broken(hook, http, url)
    assert out.hosts == ["127.0.0.2", "127.0.0.1"] * 2


async def broken(hook: Receiver, http: httpx.AsyncClient, url: str) -> None:
    """Post to a receiver that takes the request and closes."""
    hook.reply = lambda _: b""
    with pytest.raises(httpx.RemoteProtocolError):
        await http.post(url)
