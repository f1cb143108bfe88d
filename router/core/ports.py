"""The seams: what a plug-in must offer, and what the shells ask of the store. Plain data on both sides.

Plug-ins (`RolloutPolicy`, `ModelAdapter`, `Comparator`) are found by entry point, the built-in ones too. The store's
ports are small so that each process depends only on what it uses; `router.testing.check_store` holds every
implementation to the same contract.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from router.core.basis import Basis
    from router.core.decisions import Decision, DecisionRecord, Judgement
    from router.core.inference import Answer, InferenceRequest, Prediction, RawAnswer, RawRequest, StreamEvent
    from router.core.labels import LabelCount, LabelledPair
    from router.core.observations import Comparison, CounterKey, Pair
    from router.core.rollout import RolloutState, Spec, Step
    from router.core.slices import Popular
    from router.core.traffic import Variant


@runtime_checkable
class RolloutPolicy(Protocol):
    """Plans the Steps of a rollout and sets order and pace. Pure; never decides safety (`guard` does)."""

    @property
    def name(self) -> str:
        """Name in the configuration."""

    def plan(self, spec: "Spec") -> "tuple[Step, ...]":
        """Return the steps to walk, at least one: the Spec's own if it has any, else the policy's default."""

    def decide(
        self, plan: "tuple[Step, ...]", state: "RolloutState", judgement: "Judgement", now_s: float
    ) -> "Decision":
        """Propose the next move; called every second while the rollout is progressing."""


@runtime_checkable
class ModelAdapter(Protocol):
    """Reads one prediction protocol: bytes in, values out, no I/O."""

    @property
    def name(self) -> str:
        """Name in the configuration."""

    @property
    def mirror_safe(self) -> bool:
        """Whether requests of this protocol may be sent twice unless the Route says otherwise."""

    @property
    def comparator(self) -> str:
        """Name of the comparator used unless the Route names one."""

    def read_request(self, raw: "RawRequest") -> "InferenceRequest":
        """Return what can be told of a request; off the live path. Raises UnreadableError."""

    def read_answer(self, raw: "RawAnswer") -> "Prediction | None":
        """Return the prediction of a 2xx answer, None if the protocol has none. Raises UnreadableError."""

    def retarget(self, raw: "RawRequest", variant: "Variant") -> "RawRequest":
        """Return `raw` readdressed to the variant's `model`, `version` and `path`, all else byte for byte as it was.

        Called only for variants that set one of them. Raises UnreadableError.
        """


@runtime_checkable
class ChecksVariants(Protocol):
    """Optional power of an adapter: refuse at start what its `retarget` could never do."""

    def check_variant(self, variant: "Variant") -> None:
        """Raise ConfigError whose `field` is a field of the variant."""


class AnswerStream(Protocol):
    """Reads one streamed answer while it passes. Holds a bounded amount of memory, whatever it is fed."""

    @property
    def held_bytes(self) -> int:
        """How much memory it holds now, about: what it keeps of the answer, and what is not complete yet."""

    def feed(self, data: bytes) -> "Sequence[StreamEvent]":
        """Return what these bytes completed, in order; they may be cut anywhere. Never raises.

        What cannot be read brings no event: from then on there are none, and `end` says why.
        """

    def end(self) -> "Prediction":
        """Return what the whole answer says: as `read_answer` of all bytes in one body. Called once, after the last.

        Raises UnreadableError, also when the answer was cut off.
        """


@runtime_checkable
class StreamReader(Protocol):
    """Optional power of an adapter: read answers that are streamed, such as server-sent events."""

    def open_stream(self, head: "RawAnswer") -> AnswerStream | None:
        """Return a reader of the answer with this head, whose `body` is empty; None when it is not a known stream."""


@runtime_checkable
class Comparator(Protocol):
    """Says how two answers to one request differ. Pure and total: bad input gives `same=None` with a reason."""

    @property
    def name(self) -> str:
        """Name in the configuration."""

    def compare(self, stable: "Answer", candidate: "Answer") -> "Comparison":
        """Compare two complete answers."""


@runtime_checkable
class SlowPlugin(Protocol):
    """Optional power of an adapter or a comparator: say up to which length of answers it is quick enough for a loop.

    Quick is 1 ms at worst. Longer answers go to the worker's comparing process, one pair at a time.
    """

    @property
    def loop_bytes(self) -> int:
        """Longest body; a plug-in without this power has the general limit of 4 KiB."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What a control process has measured of one Route by its monotonic clock.

    The exposure with the id `exposure` has lasted `exposed_s`; the rollout whose state says `started_s` (here a name,
    not a time) has run for `running_s`.
    """

    exposure: int
    exposed_s: float
    started_s: float
    running_s: float


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Sign of life of one process. `boot` names one process start and is never reused.

    `applied` maps a Route to the revision this process acts by and the wall-clock second it took effect; `watched` is
    what a control process has measured, `popular` what a gateway worker has counted of the values of a Route's slices
    while places are free.
    """

    boot: str
    kind: str
    host: str
    pid: int
    at_s: float
    config_digest: str
    applied: "Mapping[str, tuple[int, float]]"
    watched: "Mapping[str, Watched]" = field(default_factory=dict)
    popular: "Mapping[str, Popular]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """What one gateway worker hands to the store for one rollout in one write.

    `sequence` counts up within (boot, route, rollout), so a repeated write is recognised. `payload` is
    `router.store.codec.encode_pairs` of `pairs` pairs. `counters` are whole cumulative values, not increments.
    """

    route: str
    rollout: str
    boot: str
    sequence: int
    pairs: int
    payload: bytes
    counters: "Mapping[CounterKey, int]"


@dataclass(frozen=True, slots=True)
class PairPage:
    """Some pairs in the order in which they were written, and where the next ones begin.

    `more` says that the log held more when it was read.
    """

    pairs: "Sequence[Pair]"
    cursor: str
    more: bool


PAIR_CURSOR = r"[0-9]{1,15}-[0-9]{1,15}\.[0-9]{1,6}"
"""What a cursor of `pairs_before` looks like in every store, so that one which is none can be refused at the edge."""


@dataclass(frozen=True, slots=True)
class PastPage:
    """Some pairs, the newest first, each with the cursor behind which older ones begin; `cursor` is the last of them.

    `more` says that the log may hold older ones.
    """

    pairs: "Sequence[tuple[str, Pair]]"
    cursor: str
    more: bool


@dataclass(frozen=True, slots=True)
class Notice:
    """A Route has a new revision; `route` empty means "no news, but the line is alive"."""

    route: str
    revision: int


class StateStore(Protocol):
    """States and decisions. All methods raise StoreUnavailableError; a cancelled write may or may not have happened."""

    async def read_states(self, routes: "Sequence[str]") -> "Mapping[str, RolloutState]":
        """Return the stored states; Routes the store has never seen are absent.

        Raises UnreadableStateError, which holds the readable ones, when there are some that cannot be read.
        """

    async def revisions(self, routes: "Sequence[str]") -> "Mapping[str, int]":
        """Return the stored revisions only; cheap enough for a poll each second.

        Absent are Routes that the store has never seen, and may be those whose state cannot be read.
        """

    async def compare_and_set(
        self, state: "RolloutState", expected_revision: int, record: "DecisionRecord | None"
    ) -> bool:
        """Write `state`, append `record` and publish a Notice, all or nothing, if the revision is as expected.

        The record's basis is kept apart from it (`bases`). `expected_revision` 0 means that the store has never seen
        the Route. False when somebody else was first. Raises StaleEpochError when the stored epoch is higher than the
        state's.
        """

    async def decisions(self, route: str, limit: int) -> "list[DecisionRecord]":
        """Return the newest records, newest first, without their bases."""

    async def bases(self, route: str, limit: int) -> "Mapping[int, bytes]":
        """Return what the newest decisions followed from, by revision: `router.store.basis_codec` packs and reads it.

        At most `limit`, and none of decisions that have none, or whose basis had to make room.
        """

    async def add_sample(self, basis: "Basis") -> None:
        """Keep what a rollout's evidence was at one moment between decisions; the oldest make room."""

    async def samples(self, route: str, rollout: str) -> "list[bytes]":
        """Return the kept samples, oldest first, packed as `bases` are."""

    def notices(self) -> "AsyncIterator[Notice]":
        """Yield a Notice for each change, and an empty one at least once a second while the line is alive.

        Ends by raising StoreUnavailableError when the line is silent for 3 s; the caller reads all states anew and
        calls again.
        """


class Appended(NamedTuple):
    """What came of a batch: `trimmed` pairs, the oldest, had to go.

    `gap`: the store does not know the batch before this one, so it may have lost what was written earlier.
    """

    trimmed: int = 0
    gap: bool = False


class RecordStore(Protocol):
    """Pairs and evidence."""

    async def append(self, batch: RecordBatch, keep_bytes: int) -> Appended:
        """Add the pairs and counters of one batch, once, however often it is called.

        The oldest pairs are trimmed to stay within `keep_bytes`.
        """

    async def pairs(self, route: str, limit: int) -> "list[Pair]":
        """Return the newest pairs, newest first. Unreadable entries are skipped and counted in the log."""

    async def pairs_after(self, route: str, cursor: str) -> PairPage:
        """Return the oldest pairs behind `cursor`, a few batches at most; the empty cursor is the oldest of all.

        A pair may come twice if it was written twice. Unreadable entries are skipped and counted in the log.
        """

    async def pairs_before(self, route: str, cursor: str, batches: int) -> PastPage:
        """Return the newest pairs behind `cursor`, of at most `batches` batches; the empty cursor is the newest of all.

        A pair may come twice if it was written twice. Unreadable entries are skipped and counted in the log. What is
        written after the first page never comes.
        """

    async def count_labels(
        self,
        route: str,
        rollout: str,
        exposures: "Sequence[int]",
        labels: "Sequence[LabelledPair]",
        named: "Collection[str]",
    ) -> "LabelCount":
        """Count each label in the evidence of the rollout, once for each request id, whoever calls and how often.

        `exposures` are those of the rollout, oldest first, and hold each label's. A key counts at its first label in an
        exposure, unless a later exposure has it already. The classes `named` by gates are always counted, others until
        there are CLASSES_KEPT. All labels of a call are counted, or none.
        """

    async def mark_seen(
        self, route: str, rollout: str, exposures: "Sequence[int]", metric: str, cells: "Sequence[int]"
    ) -> "list[int | None]":
        """Mark cells of affinity keys as seen in the last of `exposures` (oldest first), for all replicas.

        Returns for each cell the exposure before the last in which it was seen last, 0 for none, and None if it had
        been marked in the last one already. A call that is repeated answers None: the marks of the first one stand.
        """

    async def evidence(self, route: str, rollout: str) -> "Mapping[str, Mapping[CounterKey, int]]":
        """Return the counters of each boot that wrote any."""


class FleetStore(Protocol):
    """Who is alive, and who decides."""

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Record a sign of life."""

    async def forget(self, boot: str) -> None:
        """Remove a process that ended orderly."""

    async def heartbeats(self) -> "list[Heartbeat]":
        """Return all recorded processes, also silent ones; the caller judges by `at_s`. Sorted by boot."""

    async def acquire_lease(self, holder: str, ttl_s: float, min_epoch: int) -> int | None:
        """Take or renew the right to decide; return the epoch, or None when another holds it.

        A new holder gets a new epoch, above every earlier one and above `min_epoch`; renewing keeps it
        unless `min_epoch` is above it (the store came back older than the states).
        """

    async def release_lease(self, holder: str) -> None:
        """Give the lease back if `holder` has it."""


class Store(StateStore, RecordStore, FleetStore, Protocol):
    """Everything; what `router.store` offers."""

    @property
    def unreadable(self) -> "Mapping[str, int]":
        """How many entries were skipped as unreadable, by what they should have been, each time they were met."""

    async def ping(self) -> None:
        """Raise StoreUnavailableError unless the store answers."""

    async def close(self) -> None:
        """Let go of all connections."""
