"""Where a webhook may go: the allow-list, asked about names and about the addresses that names turn out to be. Pure."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

_UNICAST = IPv6Network("2000::/3")
_TUNNELS = (IPv6Network("2001::/23"), IPv6Network("2002::/16"))
"""Teredo and its kin, and 6to4: public by their own number, with another address inside."""

_PROTOCOLS = IPv4Network("192.0.0.0/24")
"""Kept for protocols; how much of it counts as private depends on Python's release."""


class AllowList:
    """Host names, and addresses or networks in CIDR form.

    A name that is listed may lead to public addresses. Every other address, such as loopback, private, link-local or
    shared, has to lie in a listed network, whatever name led to it; so has an address that stands in a URL itself.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._networks = []
        for entry in entries:
            try:
                self._networks.append(ip_network(entry))
            except ValueError:
                self._names.add(entry.lower().rstrip("."))

    def knows(self, host: str) -> bool:
        """Whether a name is listed, or an address lies in a listed network: a URL's host has to be known."""
        address = _address(host)
        return host.lower().rstrip(".") in self._names if address is None else self._lists(address)

    def refusal(self, host: str, addresses: Sequence[str]) -> str | None:
        """Return why a call to `host`, which is at `addresses`, must not be made; None when every one is allowed."""
        if not self.knows(host):
            return f"{host} is not in webhooks.allow"
        if not addresses:
            return f"{host} has no address"
        for text in addresses:
            address = _address(text)
            if address is None:
                return f"{host} is at {text}, which is no address"
            if not (self._lists(address) or is_public(address)):
                return f"{host} is at {address}, which is not in webhooks.allow"
        return None

    def _lists(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def is_public(address: Address) -> bool:
    """Whether an address belongs to the open internet: nothing of this machine, this network or its provider."""
    if isinstance(address, IPv6Address):
        tunnel = any(address in network for network in _TUNNELS)
        return address.is_global and address in _UNICAST and not tunnel
    special = address.is_multicast or address.is_reserved or address in _PROTOCOLS
    return address.is_global and not special


def _address(text: str) -> Address | None:
    """Return an address as it is routed: an IPv4 one that is written as IPv6 is the IPv4 one."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
