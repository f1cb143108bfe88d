"""What a decision followed from: it comes back as it went, from any version, and stays small."""

import random
import time
import zlib
from dataclasses import fields, replace

import orjson
import pytest

from router.core.basis import Basis, Facts
from router.core.decisions import (
    CONTROL,
    DECISIONS,
    Actor,
    ActorKind,
    Decision,
    GivePlaces,
    Outside,
    Promote,
    SetExposure,
    SetPolicy,
    Start,
)
from router.core.observations import CUTS, CounterKey
from router.core.rollout import EXPOSURES, Phase, idle_state
from router.core.slices import Popular
from router.store import codec
from router.store.basis_codec import basis_to_json, decode_basis, encode_basis
from router.store.fields import UnreadableRecordError
from router.store.retention import BASES_BYTES, BASIS_BYTES
from router.testing.samples import sample_basis, sample_decision, sample_state

BASIS = sample_basis("digits")
OLGA = Actor(ActorKind.OPERATOR, "olga:2")


def every_decision() -> list[Decision]:
    """Return one of each kind, every field filled."""
    state = sample_state("digits")
    assert state.spec is not None
    special: list[Decision] = [
        Start(reason="go", actor=OLGA, rollout_id="a.1", spec=state.spec, steps=state.steps),
        SetPolicy(reason="go", actor=OLGA, policy="shadow", steps=state.steps),
        Start(reason="go", rollout_id="a.2", spec=state.spec, steps=state.steps, slices=("t=other", "t=none", "t=")),
        GivePlaces(reason="often", slices=("t=other", "t=none", "t=\u00fc|%7C")),
        SetExposure(reason="go", actor=OLGA, weight_bp=0),
        SetExposure(reason="go", mirror_bp=10_000),
        Promote(reason="go", actor=OLGA, full=True),
    ]
    named = {type(one) for one in special}
    return [*special, *(kind(reason="go", actor=CONTROL) for kind in DECISIONS if kind not in named)]  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "basis",
    [
        BASIS,
        replace(BASIS, counters=None, facts=None, proposals=tuple(every_decision())),
        replace(BASIS, counters={}, proposals=()),
        replace(BASIS, state=idle_state("digits", "v1", 1.5)),
        replace(BASIS, state=replace(BASIS.state, phase=Phase.PROMOTED)),
    ],
    ids=["control", "operator", "empty", "idle", "promoted"],
)
def test_a_basis_survives_its_codec(basis: Basis) -> None:
    """State, seconds, counters, proposals and facts come back as they went, to the last digit."""
    assert basis == decode_basis(encode_basis(basis))


def test_every_fact_is_recorded() -> None:
    """A fact that the loop decides by and the record forgets would make replays lie."""
    made: dict[object, object] = {
        float: 1.5, str | None: "said so", bool: True, int: 3,
        "Popular | None": Popular("a.1", {"t": 9}, {"t=acme": 3}),
    }  # fmt: skip
    facts = Facts(**{one.name: made[one.type] for one in fields(Facts)})  # type: ignore[arg-type]
    outside = Outside(**{one.name: made[one.type] for one in fields(Outside)})  # type: ignore[arg-type]
    found = decode_basis(encode_basis(replace(BASIS, facts=facts, outside=outside)))
    assert (facts, outside) == (found.facts, found.outside)


def test_an_exported_decision_comes_back_whole() -> None:
    """As the API tells it with evidence: the record, and what it followed from."""
    record = replace(sample_decision("digits"), basis=BASIS)
    exported = orjson.dumps(codec.export_decision(record, basis_to_json(BASIS)))
    assert record == codec.decode_decision(exported)


def test_a_record_of_before_there_were_bases_is_read_without_one() -> None:
    """CF7: it has no such field."""
    raw = codec.encode_decision(replace(sample_decision("digits"), basis=BASIS))
    assert b"basis" not in raw
    assert codec.decode_decision(raw).basis is None
    assert codec.decode_decision(orjson.dumps(codec.export_decision(sample_decision("digits"), None))).basis is None


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"null", zlib.compress(b"[]"), zlib.compress(b"{"), encode_basis(BASIS)[:-1], encode_basis(BASIS)[:40],
        zlib.compress(b'{"v":2}'), zlib.compress(b" " * (65 * 2**20)),
    ],
)  # fmt: skip
def test_foreign_bytes_are_refused(raw: bytes) -> None:
    """SE12: also what would unpack to more than fits."""
    with pytest.raises(UnreadableRecordError):
        decode_basis(raw)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("now_s", None), ("outside", None), ("keyed", 1), ("state", {}), ("counters", {"x": {}}),
        ("counters", {"1|a||b|": {"c": -1}}),
        ("counters", {"1|a||b|": 3}), ("proposals", [{"kind": "fly", "reason": "", "actor": "control"}]),
        ("proposals", [{"kind": "hold", "reason": "", "actor": "nobody"}]), ("facts", {"idle_s": "x"}), ("v", 2),
    ],
)  # fmt: skip
def test_no_wrong_value_gets_through(field: str, wrong: object) -> None:
    """Each is an error that says where it stands; also inside an exported record."""
    document = {**basis_to_json(BASIS), field: wrong}
    with pytest.raises(UnreadableRecordError):
        decode_basis(zlib.compress(orjson.dumps(document)))
    exported = {**codec.export_decision(sample_decision("digits"), None), "basis": document}
    with pytest.raises(UnreadableRecordError):
        codec.decode_decision(orjson.dumps(exported))


def counters_of(exposures: int, *, keyed: bool, buckets: int = 100) -> dict[CounterKey, int]:
    """Return random counters of a rollout with latency, labels of ten classes, and every kind of end."""
    drawn, found = random.Random(1), {}

    def count(exposure: int, metric: str, variant: str, *cells: str) -> None:
        for cell in cells:
            found[CounterKey(exposure, metric, "", variant, cell)] = drawn.randrange(10**5)

    levels = tuple(str(level) for level in range(7))
    codes = tuple(f"{label}:{code:03b}" for label in range(10) for code in range(8))
    ends = ("ok", "client_error", "http_error", "timeout", "cancelled", "shed")
    pairs = {
        "agreement": ("same", "different"), "pair_failure": ("fine/fine", "fine/fail", "fail/fine"),
        "correct": ("00", "01", "10", "11"), "label": codes,
    }  # fmt: skip
    for exposure in range(1, exposures + 1):
        lasts = range(exposure) if keyed else ()
        for variant in ("stable", "candidate"):
            count(exposure, "latency", variant, *(str(150 + bucket) for bucket in range(buckets)))
            for cut in CUTS:
                for metric, cells in {"started": ("all",), "outcome": ends, "level": levels}.items():
                    count(exposure, metric + cut, variant, *cells)
                    count(exposure, f"key:{metric}{cut}", variant, *(f"{cell}/{j}" for j in lasts for cell in cells))
        for metric, cells in pairs.items():
            count(exposure, metric, "pair", *cells)
            count(exposure, f"key:{metric}", "pair", *(f"{cell}/{j}" for j in lasts for cell in cells))
    return found


@pytest.mark.parametrize(
    ("exposures", "keyed", "buckets", "at_most_bytes"),
    [
        (5, False, 100, 2**15),
        (5, True, 100, 2**16),
        (EXPOSURES, False, 100, 2**18),
        (EXPOSURES, True, 600, BASIS_BYTES),
    ],
)
def test_a_basis_stays_small(exposures: int, keyed: bool, buckets: int, at_most_bytes: int) -> None:  # noqa: FBT001
    """A few KiB as a rule; the largest, after 50 exposures with each key counted, is far from what is kept."""
    counters = counters_of(exposures, keyed=keyed, buckets=buckets)
    began_s = time.perf_counter()
    packed = encode_basis(replace(BASIS, counters=counters))
    took_ms = (time.perf_counter() - began_s) * 1_000
    print(f"{exposures} exposures, keyed {keyed}: {len(counters):,} counters, {len(packed):,} bytes, {took_ms:.0f} ms")  # noqa: T201
    assert decode_basis(packed).counters == counters
    assert len(packed) < at_most_bytes
    assert 4 * len(packed) < BASES_BYTES
