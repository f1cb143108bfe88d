"""Pairs as bytes: one header for a batch, one list for each pair.

`encode_pairs` runs in the gateway's worker beside live traffic. Measured 2026-11-22 on a shared 2-core machine
(Python 3.11, orjson 3.13): 0.5 us and 212 bytes a pair with predictions, in batches of 50 (tests/store/bench_store.py).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import orjson

from router.core.observations import Comparison, Generation, Outcome, Pair, PairSide, Payload
from router.core.timestamps import rfc3339
from router.core.traffic import KEY_CELLS, NO_KEY, Role
from router.store import fields as f

Value = TypeVar("Value")

VERSION = 1

_SIDE = 7
_STABLE, _CANDIDATE, _COMPARISON, _SLICES = 5, 5 + _SIDE, 5 + 2 * _SIDE, 9 + 2 * _SIDE
_COLUMNS = _SLICES + 1
"""Columns of a row: five of the pair, seven of each side, four of the comparison, the slices. Newer ones go behind."""

_KEY_CELL = _COLUMNS
"""Newer: an older gateway's rows end before it."""

_PAYLOAD = _KEY_CELL + 1
"""Newer still, and null unless the operator asked for payloads: three JSON texts or nulls."""

_GENERATIONS = _PAYLOAD + 1
"""The newest: of stable and of candidate how the answer was written, or null. A row ends before nulls only."""


SideColumns: TypeAlias = tuple[Outcome, int, float, int, str, str | None, float | None]
"""One side of a row: the fields of a PairSide in their order."""

_NONE_WROTE = (None, None)

Row: TypeAlias = tuple[object, ...]
"""One pair of a batch. The gateway makes it with no Pair before it: building one, and taking it apart, cost 4 us."""


def row_of(  # noqa: PLR0913, PLR0917 - the fields of a Pair
    pair_id: str,
    request_id: str,
    exposure: int,
    assigned_at_s: float,
    served: str,
    stable: SideColumns,
    candidate: SideColumns,
    comparison: Comparison,
    slices: Sequence[tuple[str, str]],
    key_cell: int | None,
    payload: Payload | None,
    generations: tuple[Generation | None, Generation | None] = _NONE_WROTE,
) -> Row:
    """Return the row of a pair with these fields."""
    row = (
        pair_id, request_id, exposure, assigned_at_s, served, *stable, *candidate,
        comparison.comparator, comparison.same, comparison.distance, comparison.reason, slices, key_cell,
    )  # fmt: skip
    kept = None if payload is None else (payload.request, payload.stable, payload.candidate)
    if generations != _NONE_WROTE:
        return (*row, kept, [one and tuple(one) for one in generations])
    return row if kept is None else (*row, kept)


def encode_rows(rows: Sequence[Row]) -> bytes:
    """Return rows as one part of a batch, in the given order."""
    try:
        return orjson.dumps(rows)[1:-1]
    except TypeError:
        # A lone surrogate in some text (a model can answer with one) must not cost the other pairs.
        return orjson.dumps(_without_surrogates(rows))[1:-1]


def join_rows(route: str, rollout: str, parts: Sequence[bytes]) -> bytes:
    """Return the batch of one Route and one rollout that is made of these parts; none give no bytes."""
    if not parts:
        return b""
    head = orjson.dumps({"v": VERSION, "route": route, "rollout": rollout})
    return b'%b,"pairs":[%b]}' % (head[:-1], b",".join(parts))


def encode_pairs(pairs: Sequence[Pair]) -> bytes:
    """Return one batch of one Route and one rollout, in the given order; no pairs give no bytes.

    Raises ValueError when the pairs are of several Routes or rollouts.
    """
    if not pairs:
        return b""
    route, rollout = pairs[0].route, pairs[0].rollout
    for pair in pairs:
        if pair.route != route or pair.rollout != rollout:
            raise ValueError(
                f"pairs of ({route}, {rollout}) and ({pair.route}, {pair.rollout}) in one batch; make one for each"
            )
    return join_rows(route, rollout, [encode_rows([_row(pair) for pair in pairs])])


def _row(pair: Pair) -> Row:
    return row_of(
        pair.pair_id, pair.request_id, pair.exposure, pair.assigned_at_s, pair.served,
        _columns(pair.stable), _columns(pair.candidate), pair.comparison, pair.slices, pair.key_cell, pair.payload,
        (pair.stable.generation, pair.candidate.generation),
    )  # fmt: skip


def _columns(side: PairSide) -> SideColumns:
    return side.outcome, side.status, side.latency_ms, side.body_bytes, side.digest, side.label, side.score


def decode_pairs(raw: bytes) -> list[Pair]:
    """Return the pairs of one batch in the order they were given; raises UnreadableRecordError."""
    if not raw:
        return []
    batch = f.Fields.parse(raw, "pairs", VERSION, longest=None)
    route, rollout = batch.text("route"), batch.text("rollout")
    pairs = []
    for index, row in enumerate(f.items(batch.get("pairs"), "pairs.pairs")):
        try:
            pairs.append(_pair(route, rollout, f.row(row, "row", _COLUMNS)))
        except f.UnreadableRecordError as error:
            raise f.UnreadableRecordError(f"pairs[{index}].{error}") from None
    return pairs


def pair_to_json(pair: Pair, *, payload: bool = False) -> dict[str, object]:
    """Return the public Pair object of design.md section 8; `assigned_at` is UTC in RFC 3339 form.

    With `payload` also the field of that name: null, or what is kept of `request`, `stable` and `candidate`.
    """
    found = _pair_to_json(pair)
    if payload:
        found["payload"] = None if pair.payload is None else _payload_to_json(pair.payload)
    return found


def _payload_to_json(payload: Payload) -> dict[str, object]:
    return {name: _json(getattr(payload, name)) for name in ("request", "stable", "candidate")}


def _json(text: str | None) -> object:
    """Return the value written in `text`; nobody but the store has said that it is JSON.

    None also for one that could be written by itself, and no longer within a list of pairs: orjson has a limit.
    """
    try:
        value = None if text is None else orjson.loads(text)
        orjson.dumps([[[[value]]]])
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    return value


def _pair_to_json(pair: Pair) -> dict[str, object]:
    return {
        "v": VERSION,
        "pair_id": pair.pair_id,
        "request_id": pair.request_id,
        "route": pair.route,
        "rollout": pair.rollout,
        "exposure": pair.exposure,
        "assigned_at": rfc3339(pair.assigned_at_s),
        "served": str(pair.served),
        "stable": _side_to_json(pair.stable),
        "candidate": _side_to_json(pair.candidate),
        "comparison": {
            "comparator": pair.comparison.comparator,
            "same": pair.comparison.same,
            "distance": pair.comparison.distance,
            "reason": pair.comparison.reason,
        },
        "slices": dict(pair.slices),
    }


def _side_to_json(side: PairSide) -> dict[str, object]:
    generation = {} if side.generation is None else {"generation": side.generation._asdict()}
    return {
        "outcome": str(side.outcome),
        "status": side.status,
        "latency_ms": side.latency_ms,
        "bytes": side.body_bytes,
        "digest": side.digest,
        "prediction": {"label": side.label, "score": side.score},
        **generation,
    }


def _pair(route: str, rollout: str, row: Sequence[object]) -> Pair:
    wrote = [_optional(_generation, one, "generation") for one in _generations(row)]
    return Pair(
        pair_id=f.text(row[0], "pair_id"),
        request_id=f.text(row[1], "request_id"),
        route=route,
        rollout=rollout,
        exposure=f.whole(row[2], "exposure"),
        assigned_at_s=f.number(row[3], "assigned_at_s"),
        served=str(f.choice(Role, row[4], "served")),
        stable=_side(row[_STABLE:_CANDIDATE], wrote[0]),
        candidate=_side(row[_CANDIDATE:_COMPARISON], wrote[1]),
        comparison=_comparison(row[_COMPARISON:_SLICES]),
        slices=tuple(_slice(item) for item in f.items(row[_SLICES], "slices")),
        key_cell=_optional(_cell, row[_KEY_CELL], "key_cell") if len(row) > _KEY_CELL else None,
        payload=_optional(_payload, row[_PAYLOAD], "payload") if len(row) > _PAYLOAD else None,
    )


def _generations(row: Sequence[object]) -> Sequence[object]:
    found = row[_GENERATIONS] if len(row) > _GENERATIONS else None
    return _NONE_WROTE if found is None else f.row(found, "generations", 2)


def _generation(value: object, where: str) -> Generation:
    first_token_ms, tokens, finish = f.row(value, where, 3)[:3]
    return Generation(
        _optional(f.number, first_token_ms, where), _optional(f.whole, tokens, where), _optional(f.text, finish, where)
    )


def _side(row: Sequence[object], generation: Generation | None) -> PairSide:
    return PairSide(
        outcome=f.choice(Outcome, row[0], "outcome"),
        status=f.whole(row[1], "status", 0, 999),
        latency_ms=f.number(row[2], "latency_ms"),
        body_bytes=f.whole(row[3], "body_bytes"),
        digest=f.text(row[4], "digest"),
        label=_optional(f.text, row[5], "label"),
        score=_optional(f.number, row[6], "score"),
        generation=generation,
    )


def _comparison(row: Sequence[object]) -> Comparison:
    return Comparison(
        comparator=f.text(row[0], "comparator"),
        same=_optional(f.flag, row[1], "same"),
        distance=_optional(f.number, row[2], "distance"),
        reason=f.text(row[3], "reason"),
    )


def _payload(value: object, where: str) -> Payload:
    return Payload(*(_optional(f.text, one, where) for one in f.row(value, where, 3)[:3]))


def _slice(item: object) -> tuple[str, str]:
    name, value = f.row(item, "slices", 2)[:2]
    return f.text(name, "slices"), f.text(value, "slices")


def _cell(value: object, where: str) -> int:
    return f.whole(value, where, NO_KEY, KEY_CELLS - 1)


def _optional(read: Callable[[object, str], Value], value: object, where: str) -> Value | None:
    return None if value is None else read(value, where)


def _without_surrogates(value: object) -> object:
    """Return `value` with text that UTF-8 cannot hold replaced by question marks, at any depth."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {name: _without_surrogates(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in value]
    return value
