"""Records as bytes: JSON with a major version `v`, written and read by explicit functions. The one door to them all.

Every `decode_*` checks types and ranges and raises UnreadableRecordError; it ignores fields it does not know and
refuses a newer major version. Adding a field keeps `v` (read it with a default); changing a meaning raises it.
This module is imported by gateway workers: no redis, no pydantic.
"""

from collections.abc import Mapping

import orjson

from router.core.decisions import Counts, DecisionRecord, GateResult, Judgement, Verdict
from router.core.ports import Heartbeat, Notice, Watched
from router.core.rollout import FULL_BP
from router.core.slices import Popular
from router.store import fields as f
from router.store.basis_codec import read_basis
from router.store.fields import RECORD_BYTES, Fields, UnreadableRecordError
from router.store.pair_codec import decode_pairs, encode_pairs, pair_to_json
from router.store.popular_codec import popular_to_json, read_popular
from router.store.state_codec import decode_state, encode_state

__all__ = [
    "UnreadableRecordError",
    "decode_decision",
    "decode_heartbeat",
    "decode_notice",
    "decode_pairs",
    "decode_state",
    "encode_decision",
    "encode_heartbeat",
    "encode_notice",
    "encode_pairs",
    "encode_state",
    "export_decision",
    "pair_to_json",
]

VERSION = 1


def encode_decision(record: DecisionRecord) -> bytes:
    """Return one line of the ledger, without its basis."""
    return orjson.dumps(
        {
            "v": VERSION,
            "at_s": record.at_s,
            "route": record.route,
            "rollout": record.rollout,
            "revision": record.revision,
            "epoch": record.epoch,
            "kind": record.kind,
            "reason": record.reason,
            "actor": record.actor,
            "phase_before": record.phase_before,
            "phase_after": record.phase_after,
            "weight_bp_before": record.weight_bp_before,
            "weight_bp_after": record.weight_bp_after,
            "mirror_bp_before": record.mirror_bp_before,
            "mirror_bp_after": record.mirror_bp_after,
            "policy": record.policy,
            "judgement": _judgement_to_json(record.judgement),
        }
    )


def export_decision(record: DecisionRecord, basis: Mapping[str, object] | None) -> dict[str, object]:
    """Return the line as it stands in an exported ledger; `basis` is what it followed from, as JSON, or None."""
    return {**orjson.loads(encode_decision(record)), "basis": basis}


def _decision(record: Fields) -> DecisionRecord:
    return DecisionRecord(
        at_s=record.number("at_s"),
        route=record.text("route"),
        rollout=record.text("rollout"),
        revision=record.whole("revision"),
        epoch=record.whole("epoch"),
        kind=record.text("kind"),
        reason=record.text("reason"),
        actor=record.text("actor"),
        phase_before=record.text("phase_before"),
        phase_after=record.text("phase_after"),
        weight_bp_before=record.whole("weight_bp_before", 0, FULL_BP),
        weight_bp_after=record.whole("weight_bp_after", 0, FULL_BP),
        mirror_bp_before=record.whole("mirror_bp_before", 0, FULL_BP),
        mirror_bp_after=record.whole("mirror_bp_after", 0, FULL_BP),
        policy=record.text("policy"),
        judgement=_judgement(record.record("judgement")),
        basis=None if record.values.get("basis") is None else read_basis(record.record("basis")),
    )


def decode_decision(raw: bytes | str, longest: int | None = RECORD_BYTES) -> DecisionRecord:
    """Return the line in `raw`, with its basis if that is there; raises UnreadableRecordError."""
    return _decision(Fields.parse(raw, "decision", VERSION, longest))


def _judgement_to_json(judgement: Judgement) -> dict[str, object]:
    counts = judgement.counts
    return {
        "rollback": judgement.rollback,
        "promote": judgement.promote,
        "invalid": judgement.invalid,
        "harm": judgement.harm,
        "reason": judgement.reason,
        "log_e": judgement.log_e,
        "rollback_at": judgement.rollback_at,
        "formula": judgement.formula,
        "counts": {
            "requests_stable": counts.requests_stable,
            "requests_candidate": counts.requests_candidate,
            "pairs": counts.pairs,
        },
        "gates": [_gate_to_json(gate) for gate in judgement.gates],
        "thresholds": judgement.thresholds,
        "exposed_s": judgement.exposed_s,
        "running_s": judgement.running_s,
    }


def _judgement(record: Fields) -> Judgement:
    counts = record.record("counts")
    return Judgement(
        rollback=record.flag("rollback"),
        promote=record.flag("promote"),
        invalid=record.text_or_none("invalid"),
        harm=record.text_or_none("harm"),
        reason=record.text("reason"),
        log_e=record.number("log_e"),
        rollback_at=record.number("rollback_at"),
        formula=record.text("formula"),
        counts=Counts(
            requests_stable=counts.whole("requests_stable"),
            requests_candidate=counts.whole("requests_candidate"),
            pairs=counts.whole("pairs"),
        ),
        gates=tuple(_gate(gate) for gate in record.records("gates")),
        thresholds=f.named_numbers(record, "thresholds"),
        exposed_s=record.number_or_none("exposed_s"),
        running_s=record.number_or_none("running_s"),
    )


def _gate_to_json(gate: GateResult) -> dict[str, object]:
    return {
        "gate": gate.gate,
        "verdict": gate.verdict,
        "sentence": gate.sentence,
        "rule": gate.rule,
        "enforced": gate.enforced,
        "estimate": gate.estimate,
        "low": gate.low,
        "high": gate.high,
        "margin": gate.margin,
        "tolerance": gate.tolerance,
        "log_e_harm": gate.log_e_harm,
        "harm_at": gate.harm_at,
        "log_e_proof": gate.log_e_proof,
        "proof_at": gate.proof_at,
        "counts": gate.counts,
        "more_requests": gate.more_requests,
        "slice": gate.slice,
        "proves": gate.proves,
    }


def _gate(record: Fields) -> GateResult:
    return GateResult(
        gate=record.text("gate"),
        verdict=record.choice("verdict", Verdict),
        sentence=record.text("sentence"),
        rule=record.text("rule"),
        enforced=record.flag("enforced"),
        estimate=record.number_or_none("estimate"),
        low=record.number_or_none("low"),
        high=record.number_or_none("high"),
        margin=record.number("margin"),
        tolerance=record.number("tolerance"),
        log_e_harm=record.number("log_e_harm"),
        harm_at=record.number("harm_at"),
        log_e_proof=record.number("log_e_proof"),
        proof_at=record.number("proof_at"),
        counts=tuple(_count(row, record.at("counts")) for row in f.items(record.get("counts"), record.at("counts"))),
        more_requests=None if record.get("more_requests") is None else record.whole("more_requests"),
        slice=record.text("slice") if "slice" in record.values else "",  # judgements of before there were slices
        proves=record.flag("proves") if "proves" in record.values else True,
    )


def _count(value: object, where: str) -> tuple[str, int]:
    name, number = f.row(value, where, 2)[:2]
    return f.text(name, where), f.whole(number, where)


def encode_heartbeat(heartbeat: Heartbeat) -> bytes:
    """Return the record of one sign of life."""
    record: dict[str, object] = {
        "v": VERSION,
        "boot": heartbeat.boot,
        "kind": heartbeat.kind,
        "host": heartbeat.host,
        "pid": heartbeat.pid,
        "at_s": heartbeat.at_s,
        "config_digest": heartbeat.config_digest,
        "applied": dict(heartbeat.applied),
    }
    if heartbeat.watched:  # of control only
        record["watched"] = {
            route: [one.exposure, one.exposed_s, one.started_s, one.running_s]
            for route, one in heartbeat.watched.items()
        }
    if heartbeat.popular:  # of gateways only
        record["popular"] = {route: popular_to_json(one) for route, one in heartbeat.popular.items()}
    return orjson.dumps(record)


def decode_heartbeat(raw: bytes | str) -> Heartbeat:
    """Return the sign of life in `raw`; raises UnreadableRecordError."""
    record = Fields.parse(raw, "heartbeat", VERSION)
    applied = record.record("applied")
    return Heartbeat(
        boot=record.text("boot"),
        kind=record.text("kind"),
        host=record.text("host"),
        pid=record.whole("pid"),
        at_s=record.number("at_s"),
        config_digest=record.text("config_digest"),
        applied=_applied(applied.values, applied.where),
        watched=_watched(record),
        popular=_popular(record),
    )


def _watched(record: Fields) -> dict[str, Watched]:
    if "watched" not in record.values:
        return {}
    where = record.at("watched")
    rows = {route: f.row(value, where, 4) for route, value in record.record("watched").values.items()}
    return {
        route: Watched(f.whole(row[0], where), *(f.number(value, where) for value in row[1:4]))
        for route, row in rows.items()
    }


def _popular(record: Fields) -> dict[str, Popular]:
    if "popular" not in record.values:
        return {}
    routes = record.record("popular")
    return {route: read_popular(routes.record(route)) for route in routes.values}


def _applied(values: Mapping[str, object], where: str) -> dict[str, tuple[int, float]]:
    rows = {route: f.row(value, where, 2) for route, value in values.items()}
    return {route: (f.whole(row[0], where), f.number(row[1], where)) for route, row in rows.items()}


def encode_notice(notice: Notice) -> bytes:
    """Return what is published when a Route has a new revision."""
    return orjson.dumps({"v": VERSION, "route": notice.route, "revision": notice.revision})


def decode_notice(raw: bytes | str) -> Notice:
    """Return the notice in `raw`; raises UnreadableRecordError."""
    record = Fields.parse(raw, "notice", VERSION)
    return Notice(record.text("route"), record.whole("revision"))
