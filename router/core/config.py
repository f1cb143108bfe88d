"""The whole configuration as frozen values: units converted, bounds checked, defaults filled in.

`router.settings` makes these from the file and the environment; nothing after it sees a percent sign or a "5m".
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from router.core.payloads import NOTHING, Selection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from router.core.freeze import FreezeWindow
    from router.core.rollout import Spec
    from router.core.traffic import Route

KIB = 2**10
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client connection, and one worker, may use. Times in seconds, sizes in bytes."""

    request_line_bytes: int = 8 * KIB
    header_bytes: int = 32 * KIB
    header_fields: int = 100
    body_bytes: int = 64 * MIB
    connections: int = 10_000
    pipelined: int = 16
    header_deadline_s: float = 10.0
    body_deadline_s: float = 30.0
    idle_s: float = 75.0
    write_stall_s: float = 30.0
    kept_body_bytes: int = 8 * MIB
    kept_bytes: int = 64 * MIB
    """`kept_*`: request bodies held for copies and rescues, each and in all of one worker."""
    body_rate_bytes: int = KIB
    """Bytes a second: a body that came so quickly within the last `body_deadline_s` gets this time again."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a server listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """The files, in PEM, by which clients of the gateway know it; `client_ca`: whose certificates clients must have."""

    cert: str
    key: str
    client_ca: str | None = None


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """The data plane of this machine."""

    listen: Listener = Listener("127.0.0.1", 8080)
    tls: ListenerTls | None = None
    workers: int = 1
    limits: Limits = Limits()
    trusted_proxies: tuple[str, ...] = ()
    override_networks: tuple[str, ...] = ()
    """Peers whose `x-turnout-variant` chooses the side of their request."""
    response_headers: bool = True
    """Whether answers carry x-turnout-variant and x-turnout-rescued."""
    dns_refresh_s: float = 5.0
    """How often the host names of backends are looked up."""
    drain_delay_s: float = 0.0
    """How long the gateways serve on after the first signal, while readiness is off already."""
    drain_deadline_s: float = 10.0
    """How long requests in flight may take from then on."""


STORE_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
"""How `store.url` may begin."""


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """`url` None means the embedded Valkey; `directory` holds its data and the last good states."""

    url: str | None = None
    directory: str = ".turnout"


@dataclass(frozen=True, slots=True)
class PairsConfig:
    """What the pair log keeps: `keep_bytes` in the store for each Route; predictions or not; which payloads."""

    keep_bytes: int = 64 * MIB
    predictions: bool = True
    payloads: Selection = NOTHING


@dataclass(frozen=True, slots=True)
class RecorderConfig:
    """The queue between the request path and the store, on each worker.

    `answer_bytes` is the longest answer that is compared; `answers_bytes` bounds all that are held to be compared,
    short ones apart.
    """

    answer_bytes: int = 8 * MIB
    answers_bytes: int = 32 * MIB
    queue_bytes: int = 16 * MIB
    interval_s: float = 0.05


@dataclass(frozen=True, slots=True)
class FeedbackConfig:
    """Joining true labels to pairs, in each control process.

    `index_bytes` of the newest pairs are kept in memory; a label that comes before its pair waits for `wait_s`.
    """

    index_bytes: int = 64 * MIB
    wait_s: float = 60.0


@dataclass(frozen=True, slots=True)
class TokenConfig:
    """One bearer token: `hash` as printed by `turnout token`, never the token itself."""

    name: str
    role: str
    hash: str


@dataclass(frozen=True, slots=True)
class LogConfig:
    """`format` is `console`, `json`, or `auto` (console on a terminal)."""

    level: str = "info"
    format: str = "auto"


@dataclass(frozen=True, slots=True)
class TracingConfig:
    """Where spans go: `endpoint` is the receiver's URL for OTLP over HTTP.

    `sample_bp` of the traces that begin here are recorded. `queue_bytes` of spans may wait in each worker, and in their
    parent; a batch that was not taken within `timeout_s` is given up.
    """

    endpoint: str
    sample_bp: int = 100
    service: str = "turnout"
    queue_bytes: int = 4 * MIB
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class WebhookSpec:
    """One webhook: `type` is a `router.core.moments.Moment`; without `routes` it is for all of them."""

    name: str
    type: str
    url: str
    routes: tuple[str, ...] = ()
    timeout_s: float = 5.0

    def is_for(self, route: str) -> bool:
        """Whether this Route concerns it."""
        return not self.routes or route in self.routes


@dataclass(frozen=True, slots=True)
class WebhooksConfig:
    """Whom control asks and tells, and within which bounds.

    `allow` are host names, addresses and networks. The secret is named, never held: by the environment variable
    `secret_env` or the file `secret_file`. A gate is asked again after `interval_s`; news is given up after
    `max_age_s`, and `queue_bytes` of it may wait for each webhook.
    """

    hooks: tuple[WebhookSpec, ...] = ()
    allow: tuple[str, ...] = ()
    secret_env: str | None = None
    secret_file: str | None = None
    interval_s: float = 10.0
    max_age_s: float = 3_600.0
    queue_bytes: int = MIB


@dataclass(frozen=True, slots=True)
class TurnoutConfig:
    """Everything one process of Turnout is told. `rollouts` are the file's `rollout:` blocks by Route name.

    `freeze` are the windows of each Route: those of the whole file, then its own.
    `digest` identifies the content of the file (hex), so that replicas with different files are seen.
    """

    routes: "Mapping[str, Route]"
    rollouts: "Mapping[str, Spec]" = field(default_factory=dict)
    freeze: "Mapping[str, Sequence[FreezeWindow]]" = field(default_factory=dict)
    gateway: GatewayConfig = GatewayConfig()
    ops: Listener = Listener("127.0.0.1", 8082)
    admin: Listener = Listener("127.0.0.1", 8081)
    store: StoreConfig = StoreConfig()
    pairs: PairsConfig = PairsConfig()
    recorder: RecorderConfig = RecorderConfig()
    feedback: FeedbackConfig = FeedbackConfig()
    tokens: tuple[TokenConfig, ...] = ()
    log: LogConfig = LogConfig()
    webhooks: WebhooksConfig = WebhooksConfig()
    tracing: TracingConfig | None = None
    """None: nothing is traced."""
    digest: str = ""
