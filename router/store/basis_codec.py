"""What a decision followed from, as bytes: compressed, because one rollout has thousands of counters."""

import zlib
from collections.abc import Mapping

import orjson

from router.core.basis import Ages, Basis, Facts
from router.core.decisions import (
    DECISIONS,
    Actor,
    Decision,
    GivePlaces,
    Outside,
    Promote,
    SetExposure,
    SetPolicy,
    Start,
)
from router.core.observations import CounterKey
from router.core.rollout import FULL_BP, Step
from router.store import fields as f
from router.store.fields import Fields, UnreadableRecordError
from router.store.popular_codec import popular_to_json, read_popular
from router.store.state_codec import decode_state, encode_state, read_spec, read_step, spec_to_json, step_to_json

VERSION = 1

LEVEL = 3
"""Measured on 310,000 counters: 0.16 s for 1.56 MB, where zlib's default takes 0.68 s for 1.43 MB."""

UNPACKED_BYTES = 64 * 2**20
"""Most bytes that are unpacked. Chosen: several times the largest basis there can be (docs/ledger.md)."""


def encode_basis(basis: Basis) -> bytes:
    """Return the basis, compressed."""
    return zlib.compress(orjson.dumps(basis_to_json(basis)), LEVEL)


def decode_basis(raw: bytes) -> Basis:
    """Return the basis in `raw`; raises UnreadableRecordError."""
    return read_basis(unpack_basis(raw))


def unpack_basis(raw: bytes) -> Fields:
    """Return the record in `raw`, unread but for its version; raises UnreadableRecordError."""
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(raw, UNPACKED_BYTES)
    except zlib.error as error:
        raise UnreadableRecordError(f"basis: not compressed as expected ({error})") from None
    if not unpacker.eof:
        raise UnreadableRecordError(f"basis: cut off, or longer than {UNPACKED_BYTES} bytes")
    return Fields.parse(unpacked, "basis", VERSION, longest=None)


def basis_to_json(basis: Basis) -> dict[str, object]:
    """Return the basis as it stands in an exported ledger."""
    counters = basis.counters
    return {
        "v": VERSION,
        "now_s": basis.now_s,
        "keyed": basis.keyed,
        "facts": None if basis.facts is None else _facts_to_json(basis.facts),
        "ages": None if basis.ages is None else [basis.ages.exposed_s, basis.ages.running_s],
        "outside": _outside_to_json(basis.outside),
        "proposals": [_proposal_to_json(one) for one in basis.proposals],
        "state": orjson.loads(encode_state(basis.state)),
        "counters": None if counters is None else _counters_to_json(counters),
    }


def read_basis(record: Fields) -> Basis:
    """Return the basis in `record`; raises UnreadableRecordError."""
    if record.whole("v", 1) > VERSION:
        f.fail(record.at("v"), record.get("v"), f"at most {VERSION}: a newer Turnout wrote this, update this one")
    return Basis(
        state=decode_state(orjson.dumps(record.record("state").values)),
        now_s=record.number("now_s"),
        counters=None if record.get("counters") is None else _counters(record.record("counters")),
        keyed=record.flag("keyed"),
        proposals=tuple(_proposal(one) for one in record.records("proposals")),
        facts=None if record.get("facts") is None else _facts(record.record("facts")),
        ages=None if record.get("ages") is None else _ages(record),
        outside=_outside(record.record("outside")),
    )


def _counters_to_json(counters: Mapping[CounterKey, int]) -> dict[str, dict[str, int]]:
    """Return cells by the rest of their names; sorted, so that neighbours are alike and compress to a few bytes."""
    rows: dict[tuple[int, str, str, str], dict[str, int]] = {}
    for key, value in counters.items():
        rows.setdefault(key[:4], {})[key[4]] = value
    return {CounterKey(*row, "").to_field(): dict(sorted(rows[row].items())) for row in sorted(rows)}


def _counters(record: Fields) -> Mapping[CounterKey, int]:
    try:
        rows = {CounterKey.from_field(name): record.record(name) for name in record.values}
    except ValueError as error:
        raise UnreadableRecordError(f"{record.where}: {error}"[:160]) from None
    return {
        CounterKey(*row[:4], cell): f.whole(value, cells.where)
        for row, cells in rows.items()
        for cell, value in cells.values.items()
    }


def _facts_to_json(facts: Facts) -> dict[str, object]:
    popular = None if facts.popular is None else popular_to_json(facts.popular)
    return {"idle_s": facts.idle_s, "lagging": facts.lagging, "popular": popular}


def _facts(record: Fields) -> Facts:
    popular = None if record.values.get("popular") is None else read_popular(record.record("popular"))
    return Facts(idle_s=record.number("idle_s"), lagging=record.text_or_none("lagging"), popular=popular)


def _ages(record: Fields) -> Ages:
    exposed_s, running_s, *_ = f.row(record.get("ages"), record.at("ages"), 2)
    return Ages(f.number(exposed_s, record.at("ages")), f.number(running_s, record.at("ages")))


def _outside_to_json(outside: Outside) -> dict[str, object]:
    return {"frozen": outside.frozen, "unconfirmed": outside.unconfirmed, "demanded": outside.demanded}


def _outside(record: Fields) -> Outside:
    return Outside(
        frozen=record.text_or_none("frozen"),
        unconfirmed=record.text_or_none("unconfirmed"),
        demanded=record.text_or_none("demanded"),
    )


def _proposal_to_json(decision: Decision) -> dict[str, object]:
    common = {"kind": decision.kind, "reason": decision.reason, "actor": str(decision.actor)}
    match decision:
        case Start():
            steps = [step_to_json(step) for step in decision.steps]
            return {**common, "rollout_id": decision.rollout_id, "spec": spec_to_json(decision.spec), "steps": steps,
                    "slices": decision.slices}  # fmt: skip
        case GivePlaces():
            return {**common, "slices": decision.slices}
        case SetPolicy():
            return {**common, "policy": decision.policy, "steps": [step_to_json(step) for step in decision.steps]}
        case SetExposure():
            return {**common, "weight_bp": decision.weight_bp, "mirror_bp": decision.mirror_bp}
        case Promote():
            return {**common, "full": decision.full}
        case _:
            return {**common}


def _proposal(record: Fields) -> Decision:
    kind = record.text("kind")
    found = next((one for one in DECISIONS if one.kind == kind), None)
    if found is None:
        f.fail(record.at("kind"), kind, "one of " + ", ".join(one.kind for one in DECISIONS))
    reason, actor = record.text("reason"), _actor(record)
    if issubclass(found, Start):
        rollout_id, spec = record.text("rollout_id"), read_spec(record.record("spec"))
        slices = _slices(record)
        return Start(reason=reason, actor=actor, rollout_id=rollout_id, spec=spec, steps=_steps(record), slices=slices)
    if issubclass(found, GivePlaces):
        return GivePlaces(reason=reason, actor=actor, slices=_slices(record))
    if issubclass(found, SetPolicy):
        return SetPolicy(reason=reason, actor=actor, policy=record.text("policy"), steps=_steps(record))
    if issubclass(found, SetExposure):
        weight_bp, mirror_bp = _share(record, "weight_bp"), _share(record, "mirror_bp")
        return SetExposure(reason=reason, actor=actor, weight_bp=weight_bp, mirror_bp=mirror_bp)
    if issubclass(found, Promote):
        return Promote(reason=reason, actor=actor, full=record.flag("full"))
    return found(reason=reason, actor=actor)


def _slices(record: Fields) -> tuple[str, ...]:
    return record.texts("slices") if "slices" in record.values else ()  # of before there were slices


def _steps(record: Fields) -> tuple[Step, ...]:
    return tuple(read_step(step) for step in record.records("steps"))


def _share(record: Fields, name: str) -> int | None:
    return None if record.get(name) is None else record.whole(name, 0, FULL_BP)


def _actor(record: Fields) -> Actor:
    try:
        return Actor.parse(record.text("actor"))
    except ValueError:
        f.fail(record.at("actor"), record.get("actor"), "a kind of actor, and a name")
