"""What goes over the wire: bodies that are read, and answers. Shares in basis points, times in RFC 3339, UTC."""

from datetime import datetime
from typing import Annotated, TypeGuard

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator

from router.core.labels import LabelValue, label_texts
from router.settings.rollout_blocks import StepBlock
from router.settings.units import Share
from router.telemetry import logs

REASON_CHARS = 500


def one_line(text: str) -> str:
    """Return `text` unless something in it could break or forge a line of a log or a terminal."""
    if logs.escape(text) != text:
        raise ValueError("text without control characters, line breaks or direction marks")
    return text


Reason = Annotated[
    str,
    Field(max_length=REASON_CHARS, description="Why, for the record; one line."),
    AfterValidator(one_line),
]


class Body(BaseModel):
    """A body that is read: unknown fields are errors, nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ActionBody(Body):
    """What every action takes."""

    reason: Reason = ""


class PromoteBody(ActionBody):
    """`full` makes the candidate stable at once, by the operator's word instead of the judge's."""

    full: bool = False


class ChangeBody(ActionBody):
    """What shall be different about a running rollout; what is left out stays as it is."""

    weight: Annotated[Share | None, Field(description="The candidate's share of live answers.")] = None
    mirror: Annotated[Share | None, Field(description="Share of requests copied to the other variant.")] = None
    policy: Annotated[str | None, Field(max_length=64, description="Go on under this policy, at its first step.")] = (
        None
    )
    steps: Annotated[
        list[StepBlock], Field(max_length=100, description="Steps as in a rollout block; none: the policy's own.")
    ] = []


LABEL_CHARS = 1_024
BATCH_ROWS = 1_000
LABELS_A_CALL = 1_000


def read_label(value: object) -> tuple[str, ...]:
    """Return the label of each row; raises ValueError for anything but texts, integers and booleans."""
    rows = value if isinstance(value, list) else [value]
    labels = [row for row in rows if _is_label(row)]
    if not len(labels) == len(rows) or not 1 <= len(rows) <= BATCH_ROWS:
        raise ValueError(
            f"text of at most {LABEL_CHARS:,} characters, a 64-bit integer, true or false, or a list of 1 to "
            f"{BATCH_ROWS:,} of these for a batch"
        )
    return label_texts(labels)


def _is_label(value: object) -> TypeGuard[LabelValue]:
    if isinstance(value, str):
        return len(value) <= LABEL_CHARS and not any("\ud800" <= char <= "\udfff" for char in value)
    return isinstance(value, int) and -(2**63) <= value < 2**64


def read_time(value: object) -> float:
    """Return a wall-clock second written in RFC 3339; raises ValueError."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) and "T" in value else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError("a time with its offset, such as 2026-01-31T12:00:00Z")
    return at.timestamp()


class LabelBody(Body):
    """What was true of one request."""

    request_id: Annotated[
        str, Field(pattern=r"^[\x21-\x7e]{1,128}$", description="The x-request-id of the request or its answer.")
    ]
    label: Annotated[
        tuple[str, ...],
        PlainValidator(read_label, json_schema_input_type=LabelValue | list[LabelValue]),
        Field(description="The true label, as the model would write it; a list for a batch, one for each row."),
    ]
    observed_at: Annotated[
        float | None,
        PlainValidator(read_time, json_schema_input_type=str),
        Field(description="When the truth became known, in RFC 3339; left out: now."),
    ] = None


LabelBodies = Annotated[list[LabelBody], Field(min_length=1, max_length=LABELS_A_CALL)]


class Answer(BaseModel):
    """An answer."""

    model_config = ConfigDict(frozen=True)


class ExposureView(Answer):
    """A period of constant policy and shares; `id` is the revision that opened it."""

    id: int
    weight_bp: int
    mirror_bp: int
    since: str


class StepView(Answer):
    """One planned level and what must hold before it is left."""

    weight_bp: int
    mirror_bp: int
    bake_s: float
    min_requests: int
    min_pairs: int
    approval: bool
    gates: list[str]


class CountsView(Answer):
    """How much evidence the present exposure holds."""

    requests_stable: int
    requests_candidate: int
    pairs: int


class GateView(Answer):
    """What one gate says: pass, fail, inconclusive or error, one sentence, and every number behind it.

    `estimate` is what the gate limits, within `low`..`high`; FAIL from `log_e_harm` >= `harm_at` on, PASS from
    `log_e_proof` >= `proof_at` on (natural logarithms). `more_requests` is what it still needs, null if unknown.
    `slice` is the slice it is about, null for all requests; `proves` is false where it looks for harm only.
    """

    gate: str
    verdict: str
    sentence: str
    rule: str
    enforced: bool
    estimate: float | None
    low: float | None
    high: float | None
    margin: float
    tolerance: float
    log_e_harm: float
    harm_at: float
    log_e_proof: float
    proof_at: float
    counts: dict[str, int]
    more_requests: int | None
    slice: str | None
    proves: bool


class JudgementView(Answer):
    """All gates together; `invalid` says why the evidence cannot be relied on, `harm` why no step may follow, or null.

    `log_e` is the logarithm of all evidence of harm, `rollback` from `rollback_at` on; `formula` is empty while
    nothing is judged.
    """

    rollback: bool
    promote: bool
    invalid: str | None
    harm: str | None
    reason: str
    log_e: float
    rollback_at: float
    formula: str
    counts: CountsView
    gates: list[GateView]


class ReplicaView(Answer):
    """One live gateway worker: the revision it routes by (0: none yet), since when, and its last sign of life."""

    id: str
    host: str
    pid: int
    revision: int
    applied_at: str | None
    seen: str


class RolloutView(Answer):
    """Where a Route's rollout stands. `step` counts from 0 within `steps`; a Route without a rollout is `idle`.

    `waits_for` says why control does not move it on just now; null where it would, or where nothing is under way.
    `halted`: a breaker has taken the weight away and paused; resume goes on with the step's own shares.
    `slices` have a place of their own, `free_places` are still to be given to values with much traffic.
    """

    route: str
    id: str
    revision: int
    epoch: int
    phase: str
    reason: str
    halted: bool
    policy: str
    step: int
    steps: list[StepView]
    exposure: ExposureView
    stable: str
    candidate: str
    judgement: JudgementView
    waits_for: str | None
    slices: list[str]
    free_places: int
    replicas: list[ReplicaView]


class RouteSummary(Answer):
    """One line about a Route."""

    name: str
    adapter: str
    variants: list[str]
    stable: str
    candidate: str
    phase: str
    policy: str
    weight_bp: int
    mirror_bp: int
    revision: int
    drift: str | None


class VariantView(Answer):
    """One version of the model under a Route."""

    name: str
    urls: list[str]
    model: str | None
    version: str | None
    path: str | None
    health: str | None


class MatchView(Answer):
    """What a Route answers to; all that is set must hold."""

    path_prefix: str
    host: str | None
    headers: dict[str, str]


class PendingView(Answer):
    """The file's rollout block that has not started yet, and why."""

    candidate: str
    policy: str
    why: str


class RouteView(Answer):
    """A Route as the file defines it, its rollout, and where file and store differ (`drift`)."""

    name: str
    adapter: str
    match: MatchView
    mirror_safe: bool
    variants: list[VariantView]
    file_stable: str
    drift: str | None
    pending: PendingView | None
    rollout: RolloutView


class DecisionView(Answer):
    """One line of the ledger: what was decided, by whom, on what, and what it changed."""

    at: str
    route: str
    rollout: str
    revision: int
    epoch: int
    kind: str
    reason: str
    actor: str
    phase_before: str
    phase_after: str
    weight_bp_before: int
    weight_bp_after: int
    mirror_bp_before: int
    mirror_bp_after: int
    policy: str
    judgement: JudgementView


class ChangeView(Answer):
    """A decision that changed the shares: when, by whom, why, and to what."""

    at: str
    revision: int
    kind: str
    actor: str
    reason: str
    weight_bp: int
    mirror_bp: int


class NextView(Answer):
    """What control does in its next turn."""

    kind: str
    reason: str


class ExplanationView(Answer):
    """Why a rollout stands where it stands, and what would make it move.

    `changes` are the last changes of its shares, newest first; the first set the present ones. `waits_for` is why
    control does not move it on now, `next` what it does otherwise; both are null where nothing is under way. `missing`
    is everything that must come about before it moves by itself, `limits` what ends the waiting, `operator` the
    commands that are possible now. `decides` says whether this control process is the one that decides; where it is
    not, silence is not known to it and counts as none.
    """

    route: str
    rollout: str
    revision: int
    phase: str
    reason: str
    policy: str
    step: int
    steps: int
    stable: str
    candidate: str
    exposure: ExposureView
    changes: list[ChangeView]
    judgement: JudgementView
    waits_for: str | None
    next: NextView | None
    missing: list[str]
    limits: list[str]
    operator: list[str]
    decides: bool


class CounterView(Answer):
    """One cumulative counter, added up over all gateway workers."""

    exposure: int
    metric: str
    slice: str
    variant: str
    cell: str
    value: int


class EvidenceView(Answer):
    """The counters of the present rollout, of all its exposures; `counts` are those of the present exposure."""

    route: str
    rollout: str
    exposure: int
    counts: CountsView
    counters: list[CounterView]


class FeedbackView(Answer):
    """How many labels of one call ended how; together they are all of them.

    `accepted` were counted; `waiting` will be when their pair arrives, or are given up as unknown; `double` were
    counted before; `late` ones are of a rollout that has ended; `unknown` of no pair; `unusable` of a pair without
    stable's prediction, or of an id that several routes saw; for `refused` there was no room.
    """

    accepted: int
    waiting: int
    double: int
    late: int
    unknown: int
    unusable: int
    refused: int


class HealthView(Answer):
    """The process answers."""

    status: str


class ReloadView(Answer):
    """The file is good and a reload was asked for; `digest` is what heartbeats will say once it is in force."""

    status: str
    digest: str


class ReadyView(Answer):
    """The store answers and the loop turns; `epoch` is null while another control process decides."""

    status: str
    epoch: int | None
