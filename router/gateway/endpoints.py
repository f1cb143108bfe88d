"""Which addresses of a variant take traffic: ejected ones and those that a probe found ill are left out.

Pure decisions; time is an argument. Only what happens to live requests ejects: a shadow that hangs under its copies
must not lose an address for live traffic. What becomes of a request counts against its variant all the same.
"""

from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from router.core.rollout import FULL_BP

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from router.core.traffic import Backend, TlsSpec, Variant

LONGEST_TIMES = 10
"""An ejection lasts at most so many times `base_s`. Envoy: 300 s where the base is 30 s."""

TRIAL_S = 1.0
"""When the next request is let through to an ejected address if the last one told nothing. Chosen."""

MOST_ADDRESSES = 128
"""So many addresses of one name are used, the lowest ones. Chosen: more are a mistake, and cost connections."""


class LeftOut(NamedTuple):
    """An address that gets no traffic, as a process tells the one that takes its place.

    `until_s` is when it is tried again, by the machine's monotonic clock, None if it is not ejected; `times` how often
    it was ejected in a row; `illness` what its probes say, "" if it is not ill.
    """

    route: str
    variant: str
    backend: "Backend"
    tls: "TlsSpec"
    address: str
    until_s: float | None
    times: int
    illness: str


class Endpoint:
    """One server of a Backend: an address, and others of the same server to be tried when it cannot be reached."""

    __slots__ = (
        "addresses", "back_at_s", "backend", "ejected", "failures", "ill", "illness", "probes", "times", "trying",
        "until_s",
    )  # fmt: skip

    def __init__(self, backend: "Backend", addresses: "Sequence[str]") -> None:
        self.backend = backend
        self.addresses = tuple(addresses)
        self.failures = 0
        """Failures of live requests since the last success."""
        self.ejected = False
        self.until_s = 0.0
        """When the next request is let through to it, if it is ejected."""
        self.times = 0
        """How often it was ejected in a row."""
        self.back_at_s = 0.0
        self.trying = False
        """Whether a request was let through to it to see whether it is well again."""
        self.ill = False
        """What the last probes say."""
        self.illness = ""
        """Why, in the words of the last probe that said so."""
        self.probes = 0
        """How many probes in a row said the opposite."""

    def __repr__(self) -> str:
        state = "ejected" if self.ejected else "ill" if self.ill else "serving"
        return f"<Endpoint {self.addresses[0]} of {self.backend.authority} {state}, {self.failures} failures>"

    def prefer(self, address: str) -> None:
        """Try this one of its addresses first from now on."""
        self.addresses = (address, *(one for one in self.addresses if one != address))


class Endpoints:
    """The endpoints of one Variant, shared by its pools. Not more than `ejection.max_share_bp` of them are ejected.

    `serving` are those that take turns; it is replaced, never changed, and only empty while no name was ever found.
    `trial` is an ejected one whose time is over: the next live request goes to it.
    """

    __slots__ = (
        "_ejected", "_probe", "_sets", "_spec", "_told", "doubted", "ejections", "everyone", "serving", "trial",
        "variant",
    )  # fmt: skip

    def __init__(self, variant: "Variant") -> None:
        self.variant = variant
        self.serving: tuple[Endpoint, ...] = ()
        self.everyone: tuple[Endpoint, ...] = ()
        self.trial: Endpoint | None = None
        self.doubted: set[str] = set()
        """Hosts that could not be reached: whoever finds names may look again, and clears this."""
        self.ejections = dict.fromkeys(variant.backends, 0)
        self._spec = variant.ejection
        self._probe = variant.probe
        self._ejected = 0
        self._told: dict[tuple[Backend, str], LeftOut] = {}
        self._sets: list[tuple[Endpoint, ...]] = [
            (Endpoint(backend, (backend.host,)),) if is_address(backend.host) else () for backend in variant.backends
        ]
        self._regroup()

    def __repr__(self) -> str:
        return f"<Endpoints of {self.variant.name}: {len(self.serving)} of {len(self.everyone)} serve>"

    def found(self, index: int, addresses: "Iterable[str]") -> None:
        """Take the addresses that the name of the backend `index` has now; what is known of those that stay is kept."""
        backend = self.variant.backends[index]
        known = {endpoint.addresses[0]: endpoint for endpoint in self._sets[index]}
        made = []
        for group in grouped(addresses):
            endpoint = next((known[one] for one in group if one in known), None)
            if endpoint is None or endpoint in made:
                endpoint = Endpoint(backend, group)
            elif set(endpoint.addresses) != set(group):
                endpoint.addresses = (endpoint.addresses[0], *(one for one in group if one != endpoint.addresses[0]))
            made.append(endpoint)
        self._sets[index] = tuple(made)
        self._regroup()

    def remember(self, told: "Iterable[LeftOut]") -> None:
        """Leave out what the process before this one did, once each name has addresses; as far as it is the same."""
        self._told = {(one.backend, one.address): one for one in told if one.tls == self.variant.tls}
        self._regroup()

    def left_out(self, route: str) -> "list[LeftOut]":
        """Return what to tell the process that takes the place of this one."""
        variant = self.variant
        return [
            LeftOut(route, variant.name, one.backend, variant.tls, one.addresses[0],
                    one.until_s if one.ejected else None, one.times, one.illness if one.ill else "")
            for one in self.everyone if one.ejected or one.ill
        ]  # fmt: skip

    def _recall(self, endpoint: Endpoint) -> None:
        told = self._told.get((endpoint.backend, endpoint.addresses[0]))
        if told is None:
            return
        if told.until_s is not None and self._spec.consecutive:
            endpoint.ejected, endpoint.until_s, endpoint.times = True, told.until_s, told.times
        if told.illness and self._probe is not None:
            endpoint.ill, endpoint.illness = True, told.illness

    def _regroup(self) -> None:
        self.everyone = tuple(endpoint for group in self._sets for endpoint in group)
        if self._told and all(self._sets):  # before, too few are there to leave any out
            for endpoint in self.everyone:
                self._recall(endpoint)
            self._told = {}
        if self.trial not in self.everyone:
            self.trial = None
        out = sorted((one for one in self.everyone if one.ejected), key=lambda one: one.until_s)
        self._ejected = len(out)
        for endpoint in out[: max(0, len(out) - self._most)]:  # fewer endpoints allow fewer ejections
            self._give_back(endpoint)
        self._choose()

    @property
    def _most(self) -> int:
        """How many may be ejected: one that is alone never is."""
        number = len(self.everyone)
        return max(0, min(number * self._spec.max_share_bp // FULL_BP, number - 1))

    def _choose(self) -> None:
        stay = tuple(one for one in self.everyone if not one.ejected)
        well = tuple(one for one in stay if not one.ill)
        # Where most are said to be ill, the probe is as likely wrong, and few could not carry the load of all.
        self.serving = well if 2 * len(well) >= len(self.everyone) else stay

    # -- what live requests tell ------------------------------------------------------------------------------------

    def failed(self, endpoint: Endpoint, now_s: float) -> None:
        """A live request got 5xx, no whole answer, none in time, or no connection."""
        endpoint.failures += 1
        if endpoint.ejected:
            if endpoint.trying:
                self._eject(endpoint, now_s)
        elif self._may_be_ejected(endpoint):
            self._ejected += 1
            if now_s - endpoint.back_at_s > self._spec.base_s * endpoint.times:
                endpoint.times = 0  # it was well for longer than it was out
            self._eject(endpoint, now_s)

    def _may_be_ejected(self, endpoint: Endpoint) -> bool:
        if not 0 < self._spec.consecutive <= endpoint.failures:
            return False
        return self._ejected < self._most and endpoint in self.everyone  # else its name has other addresses now

    def _eject(self, endpoint: Endpoint, now_s: float) -> None:
        endpoint.times = min(endpoint.times + 1, LONGEST_TIMES)
        endpoint.ejected = True
        endpoint.trying = False
        endpoint.until_s = now_s + self._spec.base_s * endpoint.times
        self.ejections[endpoint.backend] += 1
        self._choose()

    def answered(self, endpoint: Endpoint) -> None:
        """A live request got a whole answer; need not be called while the endpoint has no failures."""
        if not endpoint.ejected:
            endpoint.failures = 0
        elif endpoint.trying:
            self._give_back(endpoint)
            self._choose()

    def _give_back(self, endpoint: Endpoint) -> None:
        endpoint.ejected = endpoint.trying = False
        endpoint.failures = 0
        endpoint.back_at_s = endpoint.until_s  # of its trial, a moment ago
        self._ejected -= 1
        if self.trial is endpoint:
            self.trial = None

    def turn(self, now_s: float) -> None:
        """Let time pass: offer an ejected endpoint whose time is over, unless its probes say that it is ill."""
        if self._ejected and self.trial is None:
            for endpoint in self.everyone:
                if endpoint.ejected and now_s >= endpoint.until_s and not endpoint.ill:
                    self.trial = endpoint
                    return

    def begin_trial(self, endpoint: Endpoint, now_s: float) -> None:
        """The next live request goes to `endpoint`, the trial; if it tells nothing, another one may soon."""
        self.trial = None
        endpoint.trying = True
        endpoint.until_s = now_s + TRIAL_S

    # -- what probes tell -------------------------------------------------------------------------------------------

    def probed(self, endpoint: Endpoint, *, well: bool) -> None:
        """A probe was answered by 2xx, or was not."""
        if self._probe is None or well is not endpoint.ill:
            endpoint.probes = 0
            return
        endpoint.probes += 1
        if endpoint.probes >= (self._probe.rise if well else self._probe.fall):
            endpoint.probes = 0
            endpoint.ill = not well
            self._choose()

    def up(self) -> dict["Backend", float]:
        """Return the share of each backend's endpoints that take traffic; 0 where its name was never found."""
        return {
            backend: sum(one in self.serving for one in group) / len(group) if group else 0.0
            for backend, group in zip(self.variant.backends, self._sets, strict=True)
        }


def is_address(host: str) -> bool:
    """Whether `host` is an IP address, so that there is nothing to find."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def grouped(addresses: "Iterable[str]") -> "list[tuple[str, ...]]":
    """Return the servers behind a name's addresses, each with one address or, where it has both families, two.

    Which IPv4 address belongs to which IPv6 address cannot be known; it does not matter, since the second is only
    tried where the first cannot be reached. The family that comes first is preferred (RFC 6724 has sorted them),
    unless the other has more addresses. The order of addresses within a family is left aside: resolvers rotate it.
    """
    listed = list(dict.fromkeys(addresses))
    if not listed:
        return []
    families: dict[int, list[str]] = {}
    for address in listed:
        families.setdefault(ip_address(address.partition("%")[0]).version, []).append(address)
    first, *rest = sorted(families.values(), key=len, reverse=True)  # stable: the first family wins a tie
    first = sorted(first)[:MOST_ADDRESSES]
    if not rest:
        return [(one,) for one in first]
    other = sorted(rest[0])
    return [(one, other[place % len(other)]) for place, one in enumerate(first)]
