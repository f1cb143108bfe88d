"""The store on a Redis or Valkey server: every port of `router.core.ports.Store`."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from router.core.basis import Basis
from router.core.decisions import DecisionRecord
from router.core.errors import StaleEpochError, UnreadableStateError
from router.core.labels import LabelCount, LabelledPair, LabelResult
from router.core.observations import AFFINITY, CORRECT, CounterKey, Pair
from router.core.ports import Appended, Heartbeat, Notice, PairPage, PastPage, RecordBatch
from router.core.rollout import RolloutState
from router.store import codec, keys, scripts
from router.store.addresses import StoreAddress, StoreKind, parse_address
from router.store.basis_codec import encode_basis
from router.store.cluster import ClusterConnections
from router.store.connections import Connections, Link
from router.store.retention import (
    BASES_BYTES,
    BASIS_BYTES,
    CLASSES_KEPT,
    ENTRY_BYTES,
    EVIDENCE_KEPT_S,
    HEARTBEAT_KEPT_S,
    LABELS_KEPT,
    SAMPLES_BYTES,
    decisions_kept,
)
from router.store.sentinel import SentinelConnections
from router.store.skipping import Reading, Record, Skipping
from router.store.stored_states import decode_states
from router.store.subscription import subscribe
from router.telemetry import logs

TIMEOUT_S = 0.25
"""How long the server may take to answer one call. RD2 asks for 250 ms; on one machine it takes 0.2 ms."""

CONNECT_S = 0.2
"""How long a call may take before that to get a connection, TLS and login included. Both together stay below 0.5 s."""

CONNECTIONS = 8
"""How many calls of one process run at once; more wait for their turn within CONNECT_S."""

BATCHES_AT_ONCE = 16
"""Batches of pairs read in one go, at most: a few MiB, so that a read stays within its deadline."""

PAGE_BATCHES = 2
"""Batches in one page of `pairs_after`: up to 1,024 pairs, some 10 ms of reading between two turns of the loop."""

DECISIONS_AT_ONCE = 500
"""Decisions read in one go, at most, for the same reason."""

BASES_AT_ONCE = 4
"""Bases of decisions read in one go: the largest have 1.8 MiB each."""

BOOTS_AT_ONCE = 32
"""Evidence hashes read in one go, for the same reason."""

FIELD_BYTES = 1024
"""Longest name and value of a counter that are read. Chosen: ours are under 300 bytes."""

NOTHING = (None, None)
"""Revision and body of a state that was never written."""

_REVISION = re.compile(rb"\d{1,16}")


def _single(address: StoreAddress, *, timeout_s: float, connect_s: float, size: int) -> Link:
    return Connections(address.server, timeout_s=timeout_s, connect_s=connect_s, size=size)


LINKS: Mapping[StoreKind, Callable[..., Link]] = {
    StoreKind.SINGLE: _single,
    StoreKind.SENTINEL: SentinelConnections,
    StoreKind.CLUSTER: ClusterConnections,
}


class RedisStore:
    """States, pairs, evidence and who is alive, by URL (docs/store.md has its forms). For one event loop.

    Nothing connects before the first call. Each call is tried once and ends within `connect_s` + `timeout_s`, else
    StoreUnavailableError; a cancelled call gives its connection up. Raises ConfigError for a URL that cannot be used.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, connect_s: float = CONNECT_S) -> None:
        address = parse_address(url)
        kind = LINKS[address.kind]
        self._connections = kind(address, timeout_s=timeout_s, connect_s=connect_s, size=CONNECTIONS)
        self._log = logs.get("store")
        self._skipping = Skipping(self._log)
        # The same few hundred counters go out and come in each second; their names are translated once.
        self._field_of = lru_cache(maxsize=8192)(CounterKey.to_field)
        self._counter_of = lru_cache(maxsize=8192)(_counter_of)

    def __repr__(self) -> str:
        return f"<RedisStore {self._connections!r}>"

    @property
    def unreadable(self) -> Mapping[str, int]:
        """How many entries were skipped as unreadable, by what they should have been, each time they were met."""
        return self._skipping.counts

    async def ping(self) -> None:
        """Raise StoreUnavailableError unless the store answers."""
        await self._connections.ask("PING")

    async def close(self) -> None:
        """Let go of all connections; later calls raise StoreUnavailableError."""
        await self._connections.close()

    async def read_states(self, routes: Sequence[str]) -> Mapping[str, RolloutState]:
        """Return the stored states; Routes the store has never seen are absent.

        One that cannot be read is UnreadableStateError, never an absent one: its caller keeps what it has.
        """
        replies = await self._all([("HMGET", keys.state(route), "revision", "body") for route in routes])
        found = zip(routes, replies, strict=True)
        try:
            return decode_states({route: body or b"" for route, (number, body) in found if (number, body) != NOTHING})
        except UnreadableStateError as error:
            self._skipping.counts["states"] += len(error.why)
            raise

    async def revisions(self, routes: Sequence[str]) -> Mapping[str, int]:
        """Return the stored revisions; absent are Routes never seen, and those whose revision is no number."""
        replies = await self._all([("HGET", keys.state(route), "revision") for route in routes])
        found = zip(routes, replies, strict=True)
        return {route: int(reply) for route, reply in found if reply is not None and _REVISION.fullmatch(reply)}

    async def compare_and_set(self, state: RolloutState, expected_revision: int, record: DecisionRecord | None) -> bool:
        """Write `state` if the stored revision is `expected_revision`, with record and notice: all or nothing.

        False when somebody else was first. Raises StaleEpochError when the stored epoch is higher than the state's,
        ValueError when the state itself could not be read back.
        """
        line = codec.encode_decision(record) if record else b""
        written = await self._connections.ask(
            "EVAL", scripts.COMPARE_AND_SET, 3,
            keys.state(state.route), keys.decisions(state.route), keys.bases(state.route),
            expected_revision, state.revision, state.epoch, codec.encode_state(state),
            line, decisions_kept(len(line)),
            keys.NOTICES, codec.encode_notice(Notice(state.route, state.revision)),
            self._packed(record), BASES_BYTES, ENTRY_BYTES,
        )  # fmt: skip
        if written == -1:
            raise StaleEpochError(
                f"the store holds a newer epoch for route {state.route} than {state.epoch}: "
                "another control process decides now, this one must stop"
            )
        return bool(written)

    def _packed(self, record: DecisionRecord | None) -> bytes:
        """Return the basis of a decision; nothing for one so large that it would push out all others."""
        packed = encode_basis(record.basis) if record and record.basis else b""
        if record and len(packed) > BASIS_BYTES:
            self._log.warning(
                "basis too large to keep", route=record.route, revision=record.revision, bytes=len(packed)
            )
            return b""
        return packed

    async def decisions(self, route: str, limit: int) -> list[DecisionRecord]:
        """Return the newest records, newest first; unreadable ones are skipped and logged."""
        key = keys.decisions(route)
        skips = self._skipping.reading("decisions", key)

        def read(entry: list[Any]) -> DecisionRecord | None:
            return skips.read(codec.decode_decision, _field(entry, b"r"))

        found = await self._newest(key, limit, DECISIONS_AT_ONCE, read)
        skips.done()
        return found

    async def bases(self, route: str, limit: int) -> Mapping[int, bytes]:
        """Return the newest `limit` packed bases by the revision of the decision that followed; older ones are gone."""
        found: dict[int, bytes] = {}
        for revision, packed in await self._newest(keys.bases(route), limit, BASES_AT_ONCE, _packed_basis):
            found.setdefault(revision, packed)
        return found

    async def add_sample(self, basis: Basis) -> None:
        """Keep what a rollout's evidence was at one moment; the oldest make room, one above BASIS_BYTES is not kept."""
        packed, state = encode_basis(basis), basis.state
        if len(packed) <= BASIS_BYTES:
            await self._connections.ask(
                "EVAL", scripts.ADD_SAMPLE, 1, keys.samples(state.route, state.id),
                packed, state.revision, SAMPLES_BYTES, ENTRY_BYTES, EVIDENCE_KEPT_S,
            )  # fmt: skip

    async def samples(self, route: str, rollout: str) -> list[bytes]:
        """Return the kept samples, oldest first."""
        key, after = keys.samples(route, rollout), b"-"
        found: list[bytes] = []
        while entries := await self._connections.ask("XRANGE", key, after, "+", "COUNT", BASES_AT_ONCE):
            found += [packed for entry in entries if (packed := _field(entry, b"p")) is not None]
            after = b"(" + entries[-1][0]
        return found

    def notices(self) -> AsyncIterator[Notice]:
        """Yield a Notice for each change, and an empty one twice a second while the line is alive.

        The first is empty and says that the subscription stands: states read after it miss nothing. Ends by raising
        StoreUnavailableError within 3 s of silence.
        """
        return subscribe(self._connections, self._skipping)

    async def append(self, batch: RecordBatch, keep_bytes: int) -> Appended:
        """Add the pairs and counters of one batch, once, however often it is called.

        Pairs are trimmed, oldest first, so that all payloads and ENTRY_BYTES for each batch fit `keep_bytes`.
        """
        counters = (part for key, value in batch.counters.items() for part in (self._field_of(key), value))
        trimmed, gap = await self._connections.ask(
            "EVAL", scripts.APPEND, 4,
            keys.evidence(batch.route, batch.rollout, batch.boot), keys.boots(batch.route, batch.rollout),
            keys.pairs(batch.route), keys.pairs_account(batch.route),
            keys.SEQUENCE, batch.sequence, batch.boot, EVIDENCE_KEPT_S,
            batch.pairs, batch.payload, keep_bytes, ENTRY_BYTES,
            *counters,
        )  # fmt: skip
        return Appended(int(trimmed), bool(gap))

    async def pairs(self, route: str, limit: int) -> list[Pair]:
        """Return the newest pairs, newest first, each pair_id once. Unreadable entries are skipped and logged."""
        found: dict[str, Pair] = {}
        page, batches = PastPage((), "", more=limit > 0), 1
        while page.more and len(found) < limit:
            page = await self.pairs_before(route, page.cursor, batches)
            for _, pair in page.pairs:
                found.setdefault(pair.pair_id, pair)
            batches *= 2
        return list(found.values())[:limit]

    async def pairs_before(self, route: str, cursor: str, batches: int) -> PastPage:
        """Return the newest pairs behind `cursor`, of at most BATCHES_AT_ONCE batches; unreadable ones are skipped.

        A cursor is the id of a batch and the place of a pair in it. Between two batches others get their turn.
        """
        key = keys.pairs(route)
        begun, _, place = cursor.partition(".")
        count = min(batches, BATCHES_AT_ONCE) + bool(begun)  # the batch that was begun comes again
        entries = await self._connections.ask("XREVRANGE", key, begun or "+", "-", "COUNT", count)
        skips = self._skipping.reading("pairs", key)
        found: list[tuple[str, Pair]] = []
        for entry in entries:
            batch = entry[0].decode()
            left = int(place) if batch == begun else None  # another one stands there if that was trimmed
            if left != 0:
                pairs = (skips.read(codec.decode_pairs, _field(entry, b"p")) or [])[:left]
                found += [(f"{batch}.{index}", pairs[index]) for index in reversed(range(len(pairs)))]
                await asyncio.sleep(0)
        skips.done()
        return PastPage(found, f"{entries[-1][0].decode()}.0" if entries else cursor, more=len(entries) == count)

    async def pairs_after(self, route: str, cursor: str) -> PairPage:
        """Return the oldest pairs behind `cursor`, at most PAGE_BATCHES of them; unreadable ones are skipped."""
        key = keys.pairs(route)
        after = f"({cursor}" if cursor else "-"
        entries = await self._connections.ask("XRANGE", key, after, "+", "COUNT", PAGE_BATCHES)
        skips = self._skipping.reading("pairs", key)
        found = [pair for entry in entries for pair in skips.read(codec.decode_pairs, _field(entry, b"p")) or []]
        skips.done()
        return PairPage(found, entries[-1][0].decode() if entries else cursor, more=len(entries) == PAGE_BATCHES)

    async def count_labels(
        self,
        route: str,
        rollout: str,
        exposures: Sequence[int],
        labels: Sequence[LabelledPair],
        named: Collection[str],
    ) -> LabelCount:
        """Count each label in the evidence of the rollout, once for each request id; all of them or none."""
        touched = [
            keys.labels(route, rollout), keys.evidence(route, rollout, keys.LABELS_BOOT), keys.boots(route, rollout),
            keys.classes(route, rollout), *(keys.seen(route, rollout, one, CORRECT) for one in exposures),
        ]  # fmt: skip
        places = {exposure: place for place, exposure in enumerate(exposures, start=1)}
        reply = await self._connections.ask(
            "EVAL", scripts.COUNT_LABELS, len(touched), *touched,
            keys.LABELS_BOOT, EVIDENCE_KEPT_S, LABELS_KEPT, CLASSES_KEPT, *exposures,
            *(part for label in labels for part in self._label_arguments(label, places, named)),
        )  # fmt: skip
        return LabelCount(tuple(_LABEL_RESULTS[code] for code in reply[1:]), reply[0])

    def _label_arguments(
        self, label: LabelledPair, places: Mapping[int, int], named: Collection[str]
    ) -> Iterator[str | bytes | int]:
        """Yield what COUNT_LABELS takes for one label."""
        correct, classes = list(label.correct()), list(label.classes(named))
        # A digest has one size, whatever a client calls its requests; 96 bits never meet by chance.
        yield blake2b(label.request_id.encode(), digest_size=12).digest()
        yield label.truth
        yield places[label.exposure]
        yield "" if label.key_cell is None else label.key_cell
        yield len(correct)
        for counter in correct:
            yield from self._fields_of(counter)
        yield len(classes)
        for name, counter in classes:
            yield name
            yield int(name in named)
            yield from self._fields_of(counter)

    def _fields_of(self, counter: CounterKey) -> tuple[str, str]:
        """Return the fields of a counter and of its twin by key, to which the script adds the last exposure."""
        keyed = counter._replace(metric=AFFINITY + counter.metric, cell=f"{counter.cell}/")
        return self._field_of(counter), self._field_of(keyed)

    async def mark_seen(
        self, route: str, rollout: str, exposures: Sequence[int], metric: str, cells: Sequence[int]
    ) -> list[int | None]:
        """Mark cells of keys in the last exposure; return where each was seen last, 0 for nowhere, None for there."""
        newest_first = list(reversed(exposures))
        bitmaps = [keys.seen(route, rollout, exposure, metric) for exposure in newest_first]
        steps = await self._connections.ask(
            "EVAL", scripts.MARK_SEEN, len(bitmaps), *bitmaps, EVIDENCE_KEPT_S, *cells
        )  # fmt: skip
        return [None if step < 0 else newest_first[step] if step else 0 for step in steps]

    async def evidence(self, route: str, rollout: str) -> Mapping[str, Mapping[CounterKey, int]]:
        """Return the counters of each boot that wrote any in the last 30 days."""
        names = await self._connections.ask("SMEMBERS", keys.boots(route, rollout))
        boots = sorted(name.decode("utf-8", "replace") for name in names)
        skips = self._skipping.reading("evidence", f"evidence of {route}")
        evidence: dict[str, Mapping[CounterKey, int]] = {}
        for start in range(0, len(boots), BOOTS_AT_ONCE):
            some = boots[start : start + BOOTS_AT_ONCE]
            hashes = await self._all([("HGETALL", keys.evidence(route, rollout, boot)) for boot in some])
            evidence |= {boot: self._counters(flat, skips) for boot, flat in zip(some, hashes, strict=True) if flat}
        skips.done()
        return evidence

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Record a sign of life, and forget processes that were silent for a day before it."""
        await self._connections.ask(
            "EVAL", scripts.BEAT, 2, keys.REPLICAS, keys.REPLICAS_SEEN,
            heartbeat.boot, codec.encode_heartbeat(heartbeat), heartbeat.at_s, heartbeat.at_s - HEARTBEAT_KEPT_S,
        )  # fmt: skip

    async def forget(self, boot: str) -> None:
        """Remove a process that ended orderly."""
        await self._all([("HDEL", keys.REPLICAS, boot), ("ZREM", keys.REPLICAS_SEEN, boot)])

    async def heartbeats(self) -> list[Heartbeat]:
        """Return all recorded processes, sorted by boot; unreadable ones are skipped and logged."""
        bodies = await self._connections.ask("HVALS", keys.REPLICAS)
        skips = self._skipping.reading("heartbeats", keys.REPLICAS)
        found = [skips.read(codec.decode_heartbeat, body) for body in bodies]
        skips.done()
        return sorted((one for one in found if one is not None), key=lambda one: one.boot)

    async def acquire_lease(self, holder: str, ttl_s: float, min_epoch: int) -> int | None:
        """Take or renew the right to decide; return the epoch, or None when another holds it.

        A renewal keeps its epoch unless `min_epoch` is above it. Time is the server's.
        """
        epoch = await self._connections.ask(
            "EVAL", scripts.ACQUIRE_LEASE, 1, keys.LEASE, holder, round(ttl_s * 1000), min_epoch
        )
        return None if epoch is None else int(epoch)

    async def release_lease(self, holder: str) -> None:
        """Give the lease back if `holder` has it; the next holder gets a higher epoch."""
        await self._connections.ask("EVAL", scripts.RELEASE_LEASE, 1, keys.LEASE, holder)

    async def _newest(
        self, key: str, limit: int, at_once: int, read: Callable[[list[Any]], Record | None]
    ) -> list[Record]:
        """Return up to `limit` of what `read` makes of a stream's entries, newest first; where it is None, none."""
        found: list[Record] = []
        before = b"+"
        while len(found) < limit:
            count = min(limit - len(found), at_once)
            entries = await self._connections.ask("XREVRANGE", key, before, "-", "COUNT", count)
            found += [record for entry in entries if (record := read(entry)) is not None]
            if len(entries) < count:
                break
            before = b"(" + entries[-1][0]
        return found

    async def _all(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        return await self._connections.ask_all(commands) if commands else []

    def _counters(self, flat: list[bytes], skips: Reading) -> Mapping[CounterKey, int]:
        """Return the counters of one evidence hash, given as field, value, field, value."""
        counters = {}
        for field, value in zip(flat[::2], flat[1::2], strict=True):
            if len(field) > FIELD_BYTES or len(value) > FIELD_BYTES:
                skips.count(ValueError(f"a counter of {len(field)} and {len(value)} bytes"))
            elif field != keys.SEQUENCE.encode():
                try:
                    counters[self._counter_of(field)] = int(value)
                except ValueError as error:
                    skips.count(error)
        return counters


_LABEL_RESULTS: Mapping[int, LabelResult] = {
    1: LabelResult.ACCEPTED, 0: LabelResult.DOUBLE, -1: LabelResult.FULL,
}  # fmt: skip


def _counter_of(field: bytes) -> CounterKey:
    """Return the counter named by a hash field; raises ValueError."""
    return CounterKey.from_field(field.decode())


def _packed_basis(entry: list[Any]) -> tuple[int, bytes] | None:
    """Return a basis and the revision of its decision, None for a foreign entry."""
    revision, packed = _field(entry, b"r"), _field(entry, b"p")
    return None if revision is None or packed is None or not revision.isdigit() else (int(revision), packed)


def _field(entry: list[Any], name: bytes) -> bytes | None:
    """Return one field of a stream entry `[id, [name, value, ...]]`."""
    flat = entry[1]
    return next((value for at, value in zip(flat[::2], flat[1::2], strict=False) if at == name), None)
