"""The blocks of the file that are not about routes: listeners, store, pair log, recorder, access, log."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from router.core.config import (
    FeedbackConfig,
    GatewayConfig,
    Limits,
    Listener,
    ListenerTls,
    LogConfig,
    PairsConfig,
    RecorderConfig,
    StoreConfig,
    TokenConfig,
)
from router.core.payloads import Selection
from router.settings.block import Block, written
from router.settings.forms import Host, Name, Network, PayloadPath, PayloadPaths, StoreUrl, TokenHash
from router.settings.units import Duration, DurationOrZero, Size


class LimitsBlock(Block):
    """What one client connection, and one worker, may use."""

    request_line: Size = written("8KiB", "Longest request line.")
    header_bytes: Size = written("32KiB", "All header fields of one request together.")
    header_fields: int = Field(100, ge=1, description="Header fields of one request.")
    body: Size = written("64MiB", "Longest request body.")
    connections: int = Field(10_000, ge=1, description="Client connections of one worker.")
    pipelined: int = Field(16, ge=1, description="Requests waiting on one client connection.")
    header_deadline: Duration = written("10s", "From the first byte of a request to its last header.")
    body_deadline: Duration = written(
        "30s", "From a request's last header to the end of its body, or to the next such time."
    )
    body_rate: Size = written("1KiB", "Least rate per second at which a body that takes longer gets this time again.")
    idle: Duration = written("75s", "How long a client connection may rest between requests.")
    write_stall: Duration = written("30s", "Longest wait for a client that does not read its answer.")
    kept_body: Size = written("8MiB", "Longest request body that is held for copies and rescues.")
    kept: Size = written("64MiB", "All request bodies held for copies and rescues in one worker.")

    def value(self) -> Limits:
        """Return the limits in seconds and bytes."""
        return Limits(
            request_line_bytes=self.request_line,
            header_bytes=self.header_bytes,
            header_fields=self.header_fields,
            body_bytes=self.body,
            connections=self.connections,
            pipelined=self.pipelined,
            header_deadline_s=self.header_deadline,
            body_deadline_s=self.body_deadline,
            body_rate_bytes=self.body_rate,
            idle_s=self.idle,
            write_stall_s=self.write_stall,
            kept_body_bytes=self.kept_body,
            kept_bytes=self.kept,
        )


class ListenerTlsBlock(Block):
    """TLS 1.2 and 1.3 towards clients; files in PEM, relative to this file. A reload reads the files anew."""

    cert: str = Field(description="Our certificate, then those between it and the authority.")
    key: str = Field(description="The key of `cert`, without a password.")
    client_ca: str | None = Field(None, description="Authorities of which each client must show a certificate.")

    def value(self, beside: Path) -> ListenerTls:
        """Return the files with absolute paths."""
        client_ca = None if self.client_ca is None else str(beside / self.client_ca)
        return ListenerTls(str(beside / self.cert), str(beside / self.key), client_ca)


class GatewayBlock(Block):
    """The data plane of this machine: where clients send their requests."""

    host: Host = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=256, description="Worker processes.")
    tls: ListenerTlsBlock | None = Field(None, description="Unset: plain HTTP.")
    limits: LimitsBlock = Field(default_factory=LimitsBlock)
    trusted_proxies: list[Network] = Field(
        [], description="Networks whose X-Forwarded-* fields are believed, as addresses or in CIDR form."
    )
    response_headers: bool = Field(
        default=True, description="Whether answers carry x-turnout-variant and x-turnout-rescued."
    )
    drain_delay: DurationOrZero = written(
        "0s", "How long to serve on after SIGTERM with readiness off, so that a load balancer looks elsewhere first."
    )
    drain_deadline: Duration = written(
        "10s",
        "How long requests in flight, streams too, may take once a worker is to end (SIGTERM after `drain_delay`, "
        "reload); then they are cut.",
    )
    dns_refresh: Duration = written(
        "5s", "Between two lookups of a backend's host name; the last addresses that were found stay in use."
    )

    def value(self, beside: Path, overrides: "OverridesBlock") -> GatewayConfig:
        """Return the gateway's part of the configuration, with absolute paths."""
        return GatewayConfig(
            listen=Listener(self.host, self.port),
            tls=self.tls.value(beside) if self.tls else None,
            workers=self.workers,
            limits=self.limits.value(),
            dns_refresh_s=self.dns_refresh,
            trusted_proxies=tuple(self.trusted_proxies),
            override_networks=tuple(overrides.networks),
            response_headers=self.response_headers,
            drain_delay_s=self.drain_delay,
            drain_deadline_s=self.drain_deadline,
        )


class OverridesBlock(Block):
    """Who may choose the side of a request by `x-turnout-variant: stable|candidate`. Nobody unless named here."""

    networks: list[Network] = Field(
        [],
        description="Peers, as addresses or in CIDR form. A proxy named here lets all of its clients choose.",
    )


class OpsBlock(Block):
    """Health and metrics of the gateways, served by their parent: /healthz, /readyz, /metrics."""

    host: Host = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8082, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")


class AdminBlock(Block):
    """The admin API and page. Any address but loopback needs tokens (block `auth`)."""

    host: Host = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8081, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")


class StoreBlock(Block):
    """Where states, evidence and pairs are kept."""

    url: StoreUrl | None = Field(
        None,
        description="One server, sentinels or a cluster: the forms are in store.md. Unset: an embedded Valkey.",
    )
    directory: str = Field(
        ".turnout",
        min_length=1,
        description="Data of the embedded store and the last good states; relative to this file.",
    )

    def value(self, beside: Path) -> StoreConfig:
        """Return the store's part, its directory absolute or relative to `beside`."""
        return StoreConfig(url=self.url, directory=str(beside / self.directory))


class PairsBlock(Block):
    """What the pair log keeps."""

    keep: Size = written("64MiB", "Bytes in the store for each route.")
    predictions: bool = Field(default=True, description="Whether pairs hold labels and scores.")
    payloads: PayloadPaths = Field(
        [],
        max_length=64,
        description="Fields of requests and answers to keep, such as `$.inputs[*].name`; unset or `false`: none. "
        "See privacy.md.",
    )
    redact: list[PayloadPath] = Field(
        [], max_length=64, description="Fields that are never kept, whatever `payloads` says."
    )

    def value(self) -> PairsConfig:
        """Return the pair log's part of the configuration."""
        selection = Selection(tuple(self.payloads), tuple(self.redact))
        return PairsConfig(keep_bytes=self.keep, predictions=self.predictions, payloads=selection)


class RecorderBlock(Block):
    """The queue between the request path and the store, on each worker."""

    queue: Size = written("16MiB", "What may wait for the store; the rest is dropped and counted.")
    answer: Size = written("8MiB", "Longest answer that is compared.")
    answers: Size = written("32MiB", "All answers over 4 KiB that are held to be compared; at least twice `answer`.")
    interval: Duration = written(
        "50ms", "Time between two turns: pairs read and counted. They are written every 0.2 s, counters every 0.5 s."
    )

    @model_validator(mode="after")
    def _room_for_a_pair(self) -> "RecorderBlock":
        if self.answers < 2 * self.answer:
            raise ValueError("`answers` at least twice `answer`: a pair has two of them")
        return self

    def value(self) -> RecorderConfig:
        """Return the recorder's part of the configuration."""
        return RecorderConfig(
            answer_bytes=self.answer,
            answers_bytes=self.answers,
            queue_bytes=self.queue,
            interval_s=self.interval,
        )


class FeedbackBlock(Block):
    """True labels that come back by `POST /v1/feedback`, in each control process."""

    index: Size = written("64MiB", "Memory for the newest pairs that labels can be joined to: some 180,000 pairs.")
    wait: Duration = written("60s", "How long a label waits for its pair before it counts as unknown.")

    def value(self) -> FeedbackConfig:
        """Return the part of the configuration that is about labels."""
        return FeedbackConfig(index_bytes=self.index, wait_s=self.wait)


class TokenBlock(Block):
    """One bearer token for the admin API."""

    name: Name = Field(description="Who uses it, for the record.")
    role: Literal["viewer", "operator", "admin"] = Field(description="What it may do.")
    hash: TokenHash = Field(description="As printed by `turnout token`; never the token itself.")

    def value(self) -> TokenConfig:
        """Return the token as the admin API compares it."""
        return TokenConfig(name=self.name, role=self.role, hash=self.hash)


class AuthBlock(Block):
    """Who may use the admin API."""

    tokens: list[TokenBlock] = Field([], description="Without any, only loopback may use the admin API.")

    def value(self) -> tuple[TokenConfig, ...]:
        """Return the tokens in the order of the file."""
        return tuple(token.value() for token in self.tokens)


class LogBlock(Block):
    """What the processes write to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is written.")
    format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else json.")

    def value(self) -> LogConfig:
        """Return the log's part of the configuration."""
        return LogConfig(level=self.level, format=self.format)
