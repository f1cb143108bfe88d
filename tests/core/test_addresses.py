"""The allow-list of webhooks: which addresses it lets through."""

from ipaddress import ip_address

import pytest

from router.core.addresses import AllowList, is_public

NAMED = AllowList(["hooks.example.com", "LOCAL.example", "10.1.0.0/16", "127.0.0.1", "fd00::/8"])


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("hooks.example.com", ["93.184.215.14"]),
        ("HOOKS.example.com.", ["93.184.215.14", "2606:2800:21f:cb07::1"]),
        ("local.example", ["10.1.2.3", "127.0.0.1", "fd12::1"]),
        ("10.1.255.255", ["10.1.255.255"]),
        ("::ffff:10.1.2.3", ["::ffff:10.1.2.3"]),
    ],
)
def test_a_listed_name_leads_to_public_addresses_and_to_listed_ones(host: str, addresses: list[str]) -> None:
    """Private ones have to be listed themselves."""
    assert NAMED.refusal(host, addresses) is None


@pytest.mark.parametrize(
    ("host", "addresses", "says"),
    [
        ("example.com", ["93.184.215.14"], "example.com is not in webhooks.allow"),
        ("hooks.example.com.evil.org", ["93.184.215.14"], "is not in webhooks.allow"),
        ("93.184.215.14", ["93.184.215.14"], "93.184.215.14 is not in webhooks.allow"),
        ("hooks.example.com", ["93.184.215.14", "127.0.0.2"], "hooks.example.com is at 127.0.0.2, which is not"),
        ("hooks.example.com", ["10.2.0.1"], "hooks.example.com is at 10.2.0.1"),
        ("hooks.example.com", [], "hooks.example.com has no address"),
        ("hooks.example.com", ["/run/x.sock"], "which is no address"),
    ],
)
def test_one_address_outside_of_the_list_is_enough_to_refuse(host: str, addresses: list[str], says: str) -> None:
    """All are looked at, since any may be connected to."""
    found = NAMED.refusal(host, addresses)
    assert found is not None
    assert says in found


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.0.0.8", "192.168.0.1",
        "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "64:ff9b::7f00:1", "2001:0:7f00:1::", "2002:7f00:1::", "2001:db8::1", "fc00::1",
        "fe80::1", "fec0::1", "ff02::1",
    ],
)  # fmt: skip
def test_no_address_of_this_machine_or_network_is_public(text: str) -> None:
    """Also those that carry such an address inside, and those that nobody should route."""
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001:80f::200e"])
def test_addresses_of_the_open_internet_are_public(text: str) -> None:
    """Or no name would lead anywhere."""
    assert is_public(ip_address(text))
