"""Where one request goes: Routes, Variants, hash buckets, and the one rule that splits the traffic.

The split is a pure function of the rollout id and a key, so every worker, every replica and every restart puts the
same user on the same side. Raising the weight only ever adds users.
"""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from router.core.rollout import FULL_BP

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from router.core.options import Options
    from router.core.rollout import Exposure, RolloutState
    from router.core.slices import SliceSource

SERVE = b"serve"
MIRROR = b"mirror"


class Role(StrEnum):
    """Which of the two Variants of a rollout: trusted now, or on trial."""

    STABLE = "stable"
    CANDIDATE = "candidate"

    @property
    def other(self) -> "Role":
        """The other one."""
        return _OTHER[self]


# A member by its attribute takes 80 ns in Python 3.11, by the name of a module 8: the request path uses these.
STABLE, CANDIDATE = Role.STABLE, Role.CANDIDATE
_OTHER = {STABLE: CANDIDATE, CANDIDATE: STABLE}


def bucket_of(key: bytes, rollout_id: str, purpose: bytes) -> int:
    """Return the bucket 0..9999 of `key` within one rollout, for `purpose` SERVE or MIRROR.

    Keyed BLAKE2b (RFC 7693), so nobody can search for a key that lands in the canary without knowing the rollout id,
    and the two purposes are independent. 2**64 mod 10000 leaves a bias below 1e-15, which no test of traffic can see.
    `rollout_id` must be at most 64 bytes of UTF-8.
    """
    return draw_of(key, rollout_id, purpose) % FULL_BP


def draw_of(key: bytes, rollout_id: str, purpose: bytes) -> int:
    """Return the 64 bits of which `bucket_of` is the remainder."""
    digest = hashlib.blake2b(key, digest_size=8, key=rollout_id.encode(), person=purpose).digest()
    return int.from_bytes(digest, "big")


KEY_CELLS = 16 * FULL_BP
"""Cells into which affinity keys are put to count each once (statistics.md rule 4)."""

NO_KEY = -1
"""The cell of a request without an affinity key: a unit by itself."""


def key_cell(draw: int) -> int:
    """Return the cell 0..159999 of a key: its bucket times 16, and four more bits of its serving draw.

    All keys of one cell are on the same side at every weight. Two keys in one cell count as one.
    """
    return draw % FULL_BP * 16 + draw // FULL_BP % 16


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who answers the client, and whether the other variant gets a copy."""

    serve: Role
    copy: bool


_ASSIGNMENTS = {(serve, copy): Assignment(serve, copy) for serve in Role for copy in (False, True)}


def assign(exposure: "Exposure", serve_bucket: int, mirror_bucket: int) -> Assignment:
    """Return who serves (candidate iff serve_bucket < weight_bp) and whether to copy (mirror_bucket < mirror_bp)."""
    serve = CANDIDATE if serve_bucket < exposure.weight_bp else STABLE
    return _ASSIGNMENTS[serve, mirror_bucket < exposure.mirror_bp]


@dataclass(frozen=True, slots=True)
class Backend:
    """One address of a Variant."""

    host: str
    port: int
    tls: bool = False

    @property
    def authority(self) -> str:
        """`host:port` as it goes into the Host field; the scheme's default port is left out."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return shown if self.port == (443 if self.tls else 80) else f"{shown}:{self.port}"


@dataclass(frozen=True, slots=True)
class TlsSpec:
    """How a Variant's TLS is checked: files in PEM; `verify` False only for tests."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class EjectionSpec:
    """When one of several backends is left out: after so many failures of live requests in a row; 0 means never.

    It is left out for `base_s`, longer when it happens again, and never more than `max_share_bp` of a Variant's.
    """

    consecutive: int = 5
    base_s: float = 30.0
    max_share_bp: int = 5_000


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """How often each worker asks each backend for its health page, and how many answers alike change its mind."""

    interval_s: float = 5.0
    timeout_s: float = 2.0
    fall: int = 3
    rise: int = 2


@dataclass(frozen=True, slots=True)
class Variant:
    """One version of the model under a Route.

    `model`, `version` and `path` are what the adapter's `retarget` writes into a request; None leaves requests as they
    come.
    `host` is the Host field to send: None means the backend's own, `preserve` the client's. `max_in_flight` bounds live
    requests on one worker, `max_queue` those that wait for one of these places (0: nobody waits).
    """

    name: str
    backends: tuple[Backend, ...]
    model: str | None = None
    path: str | None = None
    health: str | None = None
    host: str | None = None
    tls: TlsSpec = TlsSpec()
    max_in_flight: int = 1_000
    ejection: EjectionSpec = EjectionSpec()
    probe: ProbeSpec | None = None
    max_queue: int = 1_000
    version: str | None = None

    @property
    def retargets(self) -> bool:
        """Whether requests to it are readdressed."""
        return self.model is not None or self.path is not None or self.version is not None


@dataclass(frozen=True, slots=True)
class Match:
    """What a Route answers to; all that is set must hold. `path_prefix` matches whole path segments."""

    path_prefix: str = "/"
    host: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


class AffinityKind(StrEnum):
    """Where an affinity key is read from."""

    HEADER = "header"
    COOKIE = "cookie"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class AffinitySource:
    """One place to look for the affinity key; a Route has an ordered list, the first that is present wins."""

    kind: AffinityKind
    name: str


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`total_s` runs from the last request byte to the last answer byte, waiting for a place (`queue_s`) included."""

    connect_s: float = 1.0
    total_s: float = 30.0
    queue_s: float = 1.0


WITHHELD = ("authorization", "cookie", "idempotency-key", "proxy-authorization")
"""Request fields that a copy does not carry unless the operator allows it (design.md section 8, Headers).

Whoever sees the copies is no party to what these say: a variant on trial could act in the client's name, or take the
client's one right to have the operation done. Which other fields are credentials only the operator knows.
"""


@dataclass(frozen=True, slots=True)
class MirrorLimits:
    """Bounds of the copies of one Route on one worker; what does not fit is dropped and counted.

    `withheld` are the request fields, lower-case names, that copies do not carry.
    """

    in_flight: int = 200
    body_bytes: int = 64 * 2**20
    timeout_s: float = 30.0
    withheld: tuple[str, ...] = WITHHELD


@dataclass(frozen=True, slots=True)
class RescueSpec:
    """Whether stable answers for a candidate that failed before its first byte, and within which budget."""

    enabled: bool = True
    first_byte_s: float = 5.0
    budget_bp: int = 2_000


@dataclass(frozen=True, slots=True)
class Route:
    """What clients address: a match, one adapter, and the Variants behind it.

    `stable` names the stable Variant of a Route that the store has never seen; afterwards the store's state
    decides. `mirror_safe` says that a request may be sent twice.
    """

    name: str
    match: Match
    adapter: str
    variants: "Mapping[str, Variant]"
    stable: str
    affinity: tuple[AffinitySource, ...] = ()
    timeouts: Timeouts = Timeouts()
    mirror_safe: bool = False
    mirror: MirrorLimits = MirrorLimits()
    rescue: RescueSpec = RescueSpec()
    comparator: str | None = None
    comparator_options: "Options" = ()
    adapter_options: "Options" = ()
    slices: "tuple[SliceSource, ...]" = ()
    max_slices: int = 5
    """Values of one source that have a slice of their own."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One Route together with where it stands."""

    route: Route
    state: "RolloutState"


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All Routes with their states, indexed for matching; replaced whole, never changed."""

    entries: tuple[Entry, ...]
    _by_prefix: "Mapping[str, tuple[Entry, ...]]" = field(repr=False)
    _longest: int = field(repr=False)
    """Characters of the longest prefix: no more of a path is looked at, however long a client makes it."""

    @classmethod
    def of(cls, entries: "Iterable[Entry]") -> "RouteTable":
        """Index `entries`: under one prefix the most specific match (more conditions) is tried first."""
        kept = tuple(entries)
        index: dict[str, list[Entry]] = {}
        for entry in kept:
            index.setdefault(_normal_prefix(entry.route.match.path_prefix), []).append(entry)
        by_prefix = {prefix: tuple(sorted(found, key=_specificity)) for prefix, found in index.items()}
        return cls(kept, by_prefix, max(map(len, by_prefix), default=0))

    def find(self, path: str, host: str, headers: "Mapping[str, str]") -> Entry | None:
        """Return the entry whose Route matches, longest prefix first, or None.

        `path` is without query, `host` lower-case without port, `headers` has lower-case names. Cost grows with the
        number of segments in the longest prefix, not with the path or the number of Routes.
        """
        prefix = path.rstrip("/")
        if len(prefix) > self._longest:
            prefix = prefix[: max(prefix.rfind("/", 0, self._longest + 1), 0)]
        while True:
            for entry in self._by_prefix.get(prefix, ()):
                if _conditions_hold(entry.route.match, host, headers):
                    return entry
            if not prefix:
                return None
            prefix = prefix[: prefix.rfind("/")] if "/" in prefix else ""


def _normal_prefix(path_prefix: str) -> str:
    return path_prefix.rstrip("/")


def _specificity(entry: Entry) -> tuple[bool, int]:
    match = entry.route.match
    return (match.host is None, -len(match.headers))


def _conditions_hold(match: Match, host: str, headers: "Mapping[str, str]") -> bool:
    if match.host is not None and match.host != host:
        return False
    return all(headers.get(name) == value for name, value in match.headers)
