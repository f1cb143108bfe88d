"""The block of one route: what it answers to, its variants, and the bounds of what happens on it."""

from pathlib import Path as FilePath
from typing import Annotated

from pydantic import Field, model_validator

from router.core.traffic import (
    WITHHELD,
    Backend,
    EjectionSpec,
    Match,
    MirrorLimits,
    ProbeSpec,
    RescueSpec,
    Route,
    Timeouts,
    TlsSpec,
    Variant,
)
from router.settings.block import Block, written
from router.settings.forms import (
    Affinity,
    BackendUrl,
    HeaderName,
    HeaderValue,
    Host,
    HostField,
    Name,
    Path,
    Plugin,
    Slice,
)
from router.settings.freeze_block import FreezeBlock
from router.settings.rollout_blocks import RolloutBlock
from router.settings.units import Duration, Share, Size

Count = Annotated[int, Field(ge=1)]

FASTEST_PROBE_S = 0.1
"""Chosen: below it the probes of a few workers would be a load by themselves."""


class MatchBlock(Block):
    """What a route answers to; all that is set must hold. The longest path_prefix wins."""

    path_prefix: Path = Field("/", description="Whole path segments: /v2 matches /v2/models, not /v20.")
    host: Host | None = Field(None, description="Host of the request, without port.")
    headers: dict[HeaderName, HeaderValue] = Field({}, description="Header fields with exactly these values.")

    def value(self) -> Match:
        """Return the match with its prefix as written, host and header names in lower case."""
        return Match(self.path_prefix, self.host, tuple(sorted(self.headers.items())))


class TlsBlock(Block):
    """How the variant's TLS is checked; files in PEM, relative to this file."""

    ca: str | None = Field(None, description="Authorities to trust instead of the system's.")
    cert: str | None = Field(None, description="Our certificate, for servers that ask for one.")
    key: str | None = Field(None, description="The key of `cert`.")
    verify: bool = Field(default=True, description="Off only for tests: anybody could answer.")

    def value(self, beside: FilePath) -> TlsSpec:
        """Return the TLS settings with absolute paths."""
        ca, cert, key = (None if file is None else str(beside / file) for file in (self.ca, self.cert, self.key))
        return TlsSpec(ca, cert, key, self.verify)


class EjectionBlock(Block):
    """When one of several addresses of a variant is left out for a while."""

    consecutive: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        5, description="Failures of live requests in a row: 5xx, no connection, reset, time-out. 0: never."
    )
    base: Duration = written("30s", "For how long, times how often in a row; at most ten times as long.")
    max_share: Share = written("50%", "Most of the addresses that may be left out; one that is alone never is.")

    def value(self) -> EjectionSpec:
        """Return when a backend is ejected."""
        return EjectionSpec(self.consecutive, self.base, self.max_share)


class ProbeBlock(Block):
    """Active probes: a GET of `health` to each address, from each worker."""

    interval: Duration = written("5s", "Between two probes of one address, at least 100ms.")
    timeout: Duration = written("2s", "For the answer, connecting included.")
    fall: Count = Field(3, description="Probes in a row without a 2xx after which an address gets no traffic.")
    rise: Count = Field(2, description="Probes in a row with a 2xx after which it gets traffic again.")

    @model_validator(mode="after")
    def _not_too_often(self) -> "ProbeBlock":
        if self.interval < FASTEST_PROBE_S:
            raise ValueError(f"an `interval` of at least {FASTEST_PROBE_S * 1000:g}ms")
        return self

    def value(self) -> ProbeSpec:
        """Return how backends are probed."""
        return ProbeSpec(self.interval, self.timeout, self.fall, self.rise)


class VariantBlock(Block):
    """One version of the model: its address or addresses, and how requests to it are changed."""

    url: BackendUrl | None = Field(None, description="Scheme, host and port of its server.")
    urls: list[BackendUrl] = Field([], description="The same for several servers, taken in turn.")
    model: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="Name to write into requests, where the protocol has one."
    )
    version: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="Version to write into the path of requests, where the protocol has one there."
    )
    path: Path | None = Field(None, description="Path to send predictions to instead of the client's.")
    health: Path | None = Field(None, description="Path that answers 2xx to a GET when the server is ready.")
    host: HostField | None = Field(
        None, description="Host field to send: `preserve` for the client's; unset: the server's own."
    )
    tls: TlsBlock | None = Field(None, description="Only with https.")
    max_in_flight: Count = Field(1_000, description="Live requests at one time, of one worker.")
    ejection: EjectionBlock = Field(default_factory=EjectionBlock)
    probe: ProbeBlock | None = Field(None, description="Ask `health` all the time; unset: only before a rollout.")
    max_queue: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Live requests that wait for one of these places; unset: as many as `max_in_flight`."
    )

    @model_validator(mode="after")
    def _reachable(self) -> "VariantBlock":
        if (self.url is None) == (not self.urls):
            raise ValueError("either `url` or `urls`")
        secure = {backend.tls for backend in self.backends}
        if len(secure) > 1:
            raise ValueError("http or https in all `urls`, not both")
        if self.tls is not None and secure == {False}:
            raise ValueError("no `tls` for http servers, or https in their URLs")
        if self.tls is not None and (self.tls.cert is None) != (self.tls.key is None):
            raise ValueError("both `cert` and `key` in `tls`, or neither")
        if self.probe is not None and self.health is None:
            raise ValueError("`health`, the path to ask, with `probe`")
        return self

    @property
    def backends(self) -> tuple[Backend, ...]:
        """All addresses in the order of the file."""
        return (*([self.url] if self.url else []), *self.urls)

    def value(self, name: str, beside: FilePath) -> Variant:
        """Return the variant."""
        return Variant(
            name=name,
            backends=self.backends,
            model=self.model,
            path=self.path,
            health=self.health,
            host=self.host,
            tls=self.tls.value(beside) if self.tls else TlsSpec(),
            max_in_flight=self.max_in_flight,
            ejection=self.ejection.value(),
            probe=self.probe.value() if self.probe else None,
            max_queue=self.max_in_flight if self.max_queue is None else self.max_queue,
            version=self.version,
        )


class TimeoutsBlock(Block):
    """Deadlines of one request."""

    connect: Duration = written("1s", "For a new connection to a variant.")
    total: Duration = written("30s", "From the last request byte to the last answer byte.")
    queue: Duration = written("1s", "For one of a variant's `max_in_flight` places, when all are taken.")


class MirrorBlock(Block):
    """Bounds of the copies of one route on one worker; what does not fit is dropped and counted."""

    in_flight: Count = Field(200, description="Copies at one time.")
    bytes: Size = written("64MiB", "Request bodies held for copies, and 10 KiB for each copy.")
    timeout: Duration = written("30s", "For the answer to a copy.")
    credentials: list[HeaderName] = Field(
        [],
        description=f"More header fields that copies do not carry, such as x-api-key; never do {', '.join(WITHHELD)}.",
    )
    allow: list[HeaderName] = Field([], description="Of these header fields, those that copies carry all the same.")

    @model_validator(mode="after")
    def _allowed_are_credentials(self) -> "MirrorBlock":
        known = {*WITHHELD, *self.credentials}
        if strange := [name for name in self.allow if name not in known]:
            raise ValueError(
                f"in `allow` only what copies would not carry ({', '.join(sorted(known))}); there is {strange[0]}"
            )
        if both := set(self.credentials) & set(self.allow):
            raise ValueError(f"{min(both)} in `credentials` or in `allow`, not in both")
        return self

    @property
    def withheld(self) -> tuple[str, ...]:
        """Names of the header fields that copies do not carry, sorted."""
        return tuple(sorted({*WITHHELD, *self.credentials} - set(self.allow)))


class RescueBlock(Block):
    """Whether stable answers for a candidate that failed before its first byte."""

    enabled: bool = Field(default=True, description="Off: clients see the candidate's failures.")
    first_byte: Duration = written(
        "5s", "How long to wait for the candidate's first byte, from the request's last one."
    )
    budget: Share = written("20%", "Most rescues, as a share of the route's requests of the last 10 s; at least 10.")


class RouteBlock(Block):
    """What clients address: a match, one adapter, and the variants behind it."""

    match: MatchBlock = Field(default_factory=MatchBlock)
    adapter: Plugin = Field(
        description="Prediction protocol: a name of adapters.md or a plug-in's, or `{name: json, label: $.label}` with "
        "options."
    )
    affinity: list[Affinity] = Field(
        [], description="What keeps a user on one side, first present wins: header:NAME, cookie:NAME, query:NAME."
    )
    variants: dict[Name, VariantBlock] = Field(min_length=1, description="Versions of the model, by name.")
    stable: str = Field(description="Variant that is trusted when the store has never seen this route.")
    timeouts: TimeoutsBlock = Field(default_factory=TimeoutsBlock)
    mirror_safe: bool | None = Field(
        None, description="Whether a request may be sent twice; unset: what the adapter says of its protocol."
    )
    mirror: MirrorBlock = Field(default_factory=MirrorBlock)
    rescue: RescueBlock = Field(default_factory=RescueBlock)
    comparator: Plugin | None = Field(
        None,
        description="How answers are compared: a name, or `{name: numeric, abs: 0.01}` with options (comparing.md); "
        "unset: the adapter's choice.",
    )
    slices: Annotated[list[Slice], Field(max_length=4)] = Field(
        [], description="Groups of requests that gates may be asked of: header:NAME, json:PATH of the request's body."
    )
    max_slices: Annotated[int, Field(ge=1, le=10)] = Field(
        5, description="Values of one source that are counted by themselves; the others together are `other`."
    )
    freeze: list[FreezeBlock] = Field(
        [], description="Times in which its candidate gets no more traffic, beside those of the whole file."
    )
    rollout: RolloutBlock | None = Field(None, description="Started when the store has never seen this block.")

    @model_validator(mode="after")
    def _slices_differ(self) -> "RouteBlock":
        names = [source.name for source in self.slices]
        if double := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"one of `slices` called {double}; there are several")
        return self

    def value(self, name: str, beside: FilePath, *, mirror_safe: bool) -> Route:
        """Return the route; `mirror_safe` is what file and adapter say together."""
        return Route(
            name=name,
            match=self.match.value(),
            adapter=self.adapter.name,
            adapter_options=self.adapter.options,
            variants={key: variant.value(key, beside) for key, variant in self.variants.items()},
            stable=self.stable,
            affinity=tuple(self.affinity),
            timeouts=Timeouts(self.timeouts.connect, self.timeouts.total, self.timeouts.queue),
            mirror_safe=mirror_safe,
            mirror=MirrorLimits(
                in_flight=self.mirror.in_flight,
                body_bytes=self.mirror.bytes,
                timeout_s=self.mirror.timeout,
                withheld=self.mirror.withheld,
            ),
            rescue=RescueSpec(
                enabled=self.rescue.enabled,
                first_byte_s=self.rescue.first_byte,
                budget_bp=self.rescue.budget,
            ),
            slices=tuple(self.slices),
            max_slices=self.max_slices,
            comparator=self.comparator.name if self.comparator else None,
            comparator_options=self.comparator.options if self.comparator else (),
        )
