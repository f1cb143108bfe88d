"""The live routes: each Route's pools and counters, and the state it is routed by.

A `LiveRoute` lasts as long as the worker; a `Standing` is one state of it, made anew for each revision and never
changed, so that a request that began under one keeps it to the end.
"""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from router.core.levels import Levels, levels_of, thresholds_of
from router.core.ports import SlowPlugin, StreamReader
from router.core.rollout import FULL_BP, idle_state
from router.core.traffic import (
    CANDIDATE,
    MIRROR,
    NO_KEY,
    SERVE,
    AffinityKind,
    AffinitySource,
    Assignment,
    Entry,
    Role,
    RouteTable,
    assign,
    bucket_of,
    draw_of,
    key_cell,
)
from router.gateway import heads
from router.gateway.breaker import Breaker, Trip
from router.gateway.endpoints import Endpoints
from router.gateway.pool import Dialing, Pool
from router.gateway.rescue import Rescues
from router.gateway.rota import Rota
from router.gateway.side import SMALL_BYTES
from router.gateway.slicing import Popularity, Slicing
from router.gateway.tally import FoldedTally, Tally, VariantCounts
from router.gateway.upstream import tls_context
from router.gateway.waiting import WaitingLine

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from router.core.ports import Comparator, ModelAdapter
    from router.core.rollout import RolloutState
    from router.core.slices import Popular
    from router.core.traffic import Route, Variant
    from router.gateway.mirror import Copy
    from router.gateway.upstream import UpstreamConnection


_SIDES = {role.value.encode(): role for role in Role}


class LiveVariant:
    """One Variant with its two pools, so that copies can never take a live request's place, and the line before it."""

    __slots__ = ("_host_line", "copies", "counts", "endpoints", "line", "live", "retargets", "tls", "variant")

    def __init__(self, loop: "asyncio.AbstractEventLoop", route: "Route", variant: "Variant") -> None:
        self.variant = variant
        self.endpoints = Endpoints(variant)
        self.tls = tls_context(variant.tls) if any(backend.tls for backend in variant.backends) else None
        dialing = Dialing(route.timeouts.connect_s, self.tls)
        self.live = Pool(loop, self.endpoints, dialing, variant.max_in_flight, live=True)
        self.line = WaitingLine(loop, self.live, variant.max_queue, route.timeouts.queue_s)
        self.copies = Pool(loop, self.endpoints, dialing, route.mirror.in_flight, live=False)
        self.counts = VariantCounts()
        self.retargets = variant.retargets
        self._host_line = b"host: %b\r\n" % variant.host.encode() if variant.host else b""

    def host_line(self, connection: "UpstreamConnection", client_host: bytes) -> bytes:
        """Return the Host field for a request on `connection`."""
        if self.variant.host == "preserve":
            return b"host: %b\r\n" % client_host
        return self._host_line or connection.host_line


class LiveRoute:
    """One Route of this worker. `copies` are those in flight, oldest first, `copy_bytes` the bodies they hold.

    `withheld` are the request fields, in lower case, that copies do not carry. `loop_bytes` is the longest answer
    that the event loop itself compares. `stream_reader` is the adapter, if it reads answers while they pass.

    `breaker` watches the candidate while it serves; `trip` holds from its trip until the fleet's state knows of it.
    """

    __slots__ = (
        "adapter",
        "breaker",
        "comparator",
        "copies",
        "copy_bytes",
        "copy_drops",
        "lines",
        "loop_bytes",
        "mirror_safe",
        "pairs",
        "popularity",
        "rescues",
        "route",
        "stream_reader",
        "trip",
        "variants",
        "withheld",
    )

    def __init__(
        self, loop: "asyncio.AbstractEventLoop", route: "Route", adapter: "ModelAdapter", comparator: "Comparator"
    ) -> None:
        self.route = route
        self.adapter = adapter
        self.comparator = comparator
        self.stream_reader = adapter if isinstance(adapter, StreamReader) else None
        slow = [plugin.loop_bytes for plugin in (adapter, comparator) if isinstance(plugin, SlowPlugin)]
        self.loop_bytes = min([SMALL_BYTES, *slow])
        self.mirror_safe = route.mirror_safe
        self.withheld = frozenset(name.encode() for name in route.mirror.withheld)
        self.variants = {name: LiveVariant(loop, route, variant) for name, variant in route.variants.items()}
        self.lines = tuple(variant.line for variant in self.variants.values())
        self.copies: dict[Copy, None] = {}
        self.copy_bytes = 0
        self.copy_drops: dict[str, int] = {}
        self.pairs: dict[str, int] = {}
        self.popularity = Popularity("")
        self.rescues = Rescues(route.rescue.budget_bp)
        self.breaker: Breaker | None = None
        self.trip: Trip | None = None

    @property
    def started(self) -> int:
        """How many requests it has had, whichever variant they were assigned to."""
        return sum([variant.counts.started for variant in self.variants.values()])

    def slicing_of(self, state: "RolloutState") -> Slicing | None:
        """Return what counts by slice under a state, None where its rollout has no slices."""
        if not self.route.slices or not state.slices:
            return None
        if self.popularity.rollout != state.id:
            self.popularity = Popularity(state.id)
        self.popularity.follow(state.slices)
        levels = {name: _levels_of(state, name) for name in _cut_by_latency(state)}
        return Slicing(self.route.slices, state.slices, self.popularity, levels)

    def drop_copy(self, reason: str) -> None:
        """Count a request whose copy was not made."""
        self.copy_drops[reason] = self.copy_drops.get(reason, 0) + 1

    def pools(self) -> "Iterable[Pool]":
        """All pools."""
        for variant in self.variants.values():
            yield variant.live
            yield variant.copies


class Standing:
    """One revision of a Route, ready to route by. `candidate` is None unless a rollout is under way.

    `rescues` says that stable answers where the candidate failed, `keeps_bodies` that such a request's body is kept for
    it. `first_byte_s` after a request's end it is asked whether the answer has begun; `extra_s` later is the deadline.

    With a tripped breaker the candidate serves nobody here whatever the state says, and its live requests are no
    longer split as the exposure says: they are left out of `live_tally`, while `tally` goes on with the pairs.

    `judged` False is for requests whose side was chosen, not drawn: they are no evidence, trip nothing, are not copied,
    and nobody rescues them, since who asks for the candidate wants to see what the candidate does.
    """

    __slots__ = (
        "_fixed", "breaker", "candidate", "exposure", "extra_s", "first_byte_s", "first_failures", "keeps_bodies",
        "keyed", "live", "live_tally", "rescues", "rollout_id", "slicing", "stable", "state", "tally",
        "tripped",
    )  # fmt: skip

    def __init__(self, live: LiveRoute, state: "RolloutState", tally: Tally | None, *, judged: bool = True) -> None:
        self.live = live
        self.state = state
        self.tripped = live.trip is not None and state.active
        self.breaker = live.breaker if judged and not self.tripped else None
        self.exposure = replace(state.exposure, weight_bp=0) if self.tripped else state.exposure
        self.rollout_id = state.id
        self.stable = live.variants[state.stable]
        self.candidate = live.variants.get(state.candidate) if state.active else None
        self.tally = tally if self.candidate is not None else None
        self.live_tally = None if self.tripped else self.tally
        self.slicing = None if self.tally is None else live.slicing_of(state)
        self.keyed = bool(live.route.affinity)
        exposure = self.exposure
        shares = (exposure.weight_bp, exposure.mirror_bp)
        drawn = self.keyed or any(0 < share < FULL_BP for share in shares)
        self._fixed = None if drawn or self.candidate is None else assign(exposure, 0, 0)
        """Where all requests go alike, if they do."""
        self.first_failures = self.tally is not None and self.keyed and _asks_for_first_failures(state)
        rescue, total_s = live.route.rescue, live.route.timeouts.total_s
        self.rescues = judged and self.candidate is not None and rescue.enabled
        self.keeps_bodies = self.rescues and (live.mirror_safe or self.stable.retargets)
        # Stable is asked at the same time as the candidate: what would have been cut there counts alike in both.
        self.first_byte_s = min(rescue.first_byte_s, total_s) if self.rescues and live.mirror_safe else total_s
        self.extra_s = total_s - self.first_byte_s

    def assign(self, head: heads.RequestHead, internal_id: bytes) -> tuple[Assignment | None, int]:
        """Return where a request goes, None when no rollout is under way and stable serves; and its key's cell.

        The serving bucket comes from the affinity key, else from the internal id; the mirror bucket always from the
        internal id. Shares of 0 % and 100 % need no hash: every bucket gives the same answer. Without an affinity key
        the cell is NO_KEY.
        """
        if self._fixed is not None or self.candidate is None:
            return self._fixed, NO_KEY
        exposure = self.exposure
        serve_bucket = mirror_bucket = 0
        cell = NO_KEY
        if self.keyed and (key := affinity_key(self.live.route.affinity, head)):
            draw = draw_of(key, self.rollout_id, SERVE)
            serve_bucket, cell = draw % FULL_BP, key_cell(draw)
        elif 0 < exposure.weight_bp < FULL_BP:
            serve_bucket = bucket_of(internal_id, self.rollout_id, SERVE)
        if 0 < exposure.mirror_bp < FULL_BP:
            mirror_bucket = bucket_of(internal_id, self.rollout_id, MIRROR)
        return assign(exposure, serve_bucket, mirror_bucket), cell

    def choose(self, override: bytes) -> "tuple[Standing, Assignment] | None":
        """Return by what a request goes that asks for a side, and to which; None when it names none.

        The candidate serves only where it serves anybody: weight 0, an abort and a tripped breaker beat the wish.
        """
        if override not in _SIDES:
            return None
        serves = self.candidate is not None and self.exposure.weight_bp > 0
        role = Role.CANDIDATE if serves and _SIDES[override] is Role.CANDIDATE else Role.STABLE
        return Standing(self.live, self.state, None, judged=False), Assignment(role, copy=False)

    def variant(self, role: Role) -> LiveVariant:
        """Return the variant in `role`; stable where there is no candidate."""
        return self.candidate if role is CANDIDATE and self.candidate is not None else self.stable


def affinity_key(sources: "tuple[AffinitySource, ...]", head: heads.RequestHead) -> bytes:
    """Return the first affinity key that the request carries, or b"" when it carries none."""
    for source in sources:
        name = source.name.encode()
        if source.kind is AffinityKind.QUERY:
            found = _parameter(head.target.partition(b"?")[2], b"&", name)
        else:
            wanted = b"cookie" if source.kind is AffinityKind.COOKIE else name.lower()
            line = next((line for lower, line in head.fields if lower == wanted), b"")
            found = line.partition(b":")[2].strip()
            if source.kind is AffinityKind.COOKIE:
                found = _parameter(found, b";", name)
        if found:
            return found
    return b""


def _parameter(text: bytes, separator: bytes, name: bytes) -> bytes:
    for part in text.split(separator):
        key, _, value = part.strip().partition(b"=")
        if key == name:
            return value
    return b""


class LiveTable:
    """All live routes, and the table of their present standings. `on_trip` is told when a breaker trips."""

    def __init__(self, lives: "Mapping[str, LiveRoute]", now_s: float, on_trip: "Callable[[Trip], None]") -> None:
        self.lives = lives
        self._on_trip = on_trip
        self.standings: dict[str, Standing] = {}
        self._tallies: dict[str, dict[str, dict[int, Tally | FoldedTally]]] = {name: {} for name in lives}
        self._turning: dict[str, list[Tally]] = {}
        self._rota = Rota(lives.items())
        for name, live in lives.items():
            self.adopt(idle_state(name, live.route.stable, now_s))

    def adopt(self, state: "RolloutState") -> bool:
        """Route by `state` from now on; False when it names a variant that this worker's configuration does not have.

        Counters of an earlier rollout of the Route are let go once a newer rollout begins. A trip holds until a state
        that knows of it.
        """
        live = self.lives[state.route]
        known = live.variants
        if state.stable not in known or (state.active and state.candidate not in known):
            return False
        rollouts = self._tallies[state.route]
        if state.id not in rollouts:
            rollouts.clear()
        tallies = rollouts.setdefault(state.id, {})
        exposure = state.exposure.id
        present = tallies.get(exposure)
        if not isinstance(present, Tally):  # new, or folded: a store that comes back older may open it again
            present = tallies[exposure] = Tally(exposure, _levels_of(state), live.route.timeouts.total_s, present)
        earlier = [tally for tally in tallies.values() if isinstance(tally, Tally) and tally is not present]
        for tally in earlier:
            tally.close()
        present.open()
        self._turning[state.route] = [present, *(tally for tally in earlier if not tally.settled)]
        if live.trip is not None and live.trip.settled_by(state):
            live.trip = None
        live.breaker = self._breaker_for(live, state)
        self.standings[state.route] = Standing(live, state, present)
        self._table = RouteTable.of(Entry(one.live.route, one.state) for one in self.standings.values())
        return True

    def _breaker_for(self, live: LiveRoute, state: "RolloutState") -> Breaker | None:
        """Return what watches the candidate: nothing where it does not serve, and a new one when it begins to."""
        if not state.active or not state.exposure.weight_bp or live.trip is not None:
            return None
        breaker = live.breaker
        if breaker is None or breaker.rollout != state.id:
            breaker = Breaker(state, partial(self._take_back, live))
        breaker.follow(state)
        return breaker

    def _take_back(self, live: LiveRoute, breaker: Breaker, reason: str) -> None:
        """A breaker has tripped: the next request goes to stable; requests in flight end where they are."""
        if breaker is not live.breaker:
            return  # of requests in flight since before the candidate's traffic was taken away
        name = live.route.name
        standing = self.standings[name]
        live.breaker = None
        live.trip = Trip(name, standing.rollout_id, standing.exposure.id, reason)
        self.standings[name] = Standing(live, standing.state, standing.tally)
        self._on_trip(live.trip)

    def find(self, head: heads.RequestHead) -> Standing | None:
        """Return the standing of the Route that a request matches, or None; once for a head and a table."""
        if head.table is not self._table:
            host = head.host.rpartition(b":")[0] if head.host.rpartition(b":")[2].isdigit() else head.host
            entry = self._table.find(head.path.decode("latin-1"), host.decode("latin-1").lower(), _Fields(head))
            head.table, head.route = self._table, entry.route.name if entry is not None else ""
        return self.standings.get(head.route)

    def turn(self, now: float) -> None:
        """Let time pass for what is counted by it."""
        for name, live in self._rota.turn():
            live.rescues.turn(now, live.started)
            for tally in self._turning[name]:
                tally.turn(now)

    def popular(self) -> "Mapping[str, Popular]":
        """Return what is to be told of values without a place in their rollout's slices, by Route."""
        sliced = [(name, one) for name, one in self.standings.items() if one.slicing is not None]
        found = [(name, one.live.popularity.told(one.state.slices)) for name, one in sliced]
        return {name: told for name, told in found if told is not None}

    def tallies(self, route: str, rollout: str) -> "Iterable[Tally | FoldedTally]":
        """All exposures of a rollout that this worker has counted."""
        return tuple(self._tallies[route].get(rollout, {}).values())

    def fold(self, route: str, rollout: str, tally: Tally, now: float) -> FoldedTally:
        """Keep no more than the values of a past exposure that has settled, and return them."""
        folded = self._tallies[route][rollout][tally.exposure] = tally.fold(now)
        self._turning[route] = [one for one in self._turning[route] if one is not tally]
        return folded


def _asks_for_first_failures(state: "RolloutState") -> bool:
    """Whether a gate allows no increase of errors at all: only such a gate counts each key's first failure."""
    gates = state.spec.gates if state.spec else ()
    return any(gate.metric == "error_rate" and gate.max_increase == 0 for gate in gates)


def _cut_by_latency(state: "RolloutState") -> set[str]:
    """Return the slices that a latency gate names."""
    gates = state.spec.gates if state.spec else ()
    return {gate.slice for gate in gates if gate.metric == "latency" and gate.slice is not None}


def _levels_of(state: "RolloutState", slice_: str | None = None) -> Levels:
    """Return where the latency gates of a slice, or of all requests, cut latencies in the present exposure."""
    gates = [
        gate
        for gate in (state.spec.gates if state.spec else ())
        if gate.metric == "latency" and (gate.slice or None) == slice_
    ]
    return levels_of(one for thresholds in thresholds_of(gates, state.exposure) for one in thresholds)


class _Fields(dict[str, str]):
    """Request fields by lower-case name, read only when a Route has conditions on them."""

    def __init__(self, head: heads.RequestHead) -> None:
        self._head = head

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        wanted = name.encode()
        line = next((line for lower, line in self._head.fields if lower == wanted), None)
        return line.partition(b":")[2].strip().decode("latin-1") if line is not None else default
