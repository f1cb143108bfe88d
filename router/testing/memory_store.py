"""The store without a server: the same ports, in memory, for fast tests and for authors of plug-ins."""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from router.core.basis import Basis
from router.core.decisions import DecisionRecord
from router.core.errors import StaleEpochError, StoreUnavailableError, UnreadableStateError
from router.core.labels import LabelCount, LabelledPair, LabelResult
from router.core.observations import AFFINITY, CORRECT, CounterKey, Pair
from router.core.ports import Appended, Heartbeat, Notice, PairPage, PastPage, RecordBatch
from router.core.rollout import RolloutState
from router.core.traffic import NO_KEY
from router.store import codec
from router.store.basis_codec import encode_basis
from router.store.keys import LABELS_BOOT
from router.store.retention import (
    BASES_BYTES,
    CLASSES_KEPT,
    ENTRY_BYTES,
    HEARTBEAT_KEPT_S,
    LABELS_KEPT,
    SAMPLES_BYTES,
    decisions_kept,
)
from router.store.stored_states import decode_states

BEAT_S = 0.5
"""Pause between two empty notices, as on the real line."""

PAGE_BATCHES = 2
"""Batches in one page of pairs."""

QUEUED = 1_000
"""Notices kept for a consumer that does not read; what is beyond is found by its poll."""


@dataclass(slots=True)
class _Lease:
    holder: str = ""
    epoch: int = 0
    expires_s: float = 0.0


@dataclass(slots=True, repr=False)
class MemoryServer:
    """What several MemoryStores share, as processes share one Redis. `clock` (seconds) drives the lease.

    `cut()` makes every call fail and every notice line break, until `mend()`.
    """

    clock: Callable[[], float] = time.monotonic
    up: bool = True
    states: dict[str, bytes] = field(default_factory=dict)
    records: dict[str, deque[bytes]] = field(default_factory=dict)
    bases: dict[str, dict[int, bytes]] = field(default_factory=dict)
    samples: dict[tuple[str, str], deque[bytes]] = field(default_factory=dict)
    batches: dict[str, deque[tuple[bytes, int]]] = field(default_factory=dict)
    evidence: dict[tuple[str, str], dict[str, dict[CounterKey, int]]] = field(default_factory=dict)
    sequences: dict[tuple[str, str, str], int] = field(default_factory=dict)
    seen: dict[tuple[str, str, int, str], set[int]] = field(default_factory=dict)
    trimmed: Counter[str] = field(default_factory=Counter)
    labels: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    classes: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    heartbeats: dict[str, bytes] = field(default_factory=dict)
    lease: _Lease = field(default_factory=_Lease)
    lines: set["asyncio.Queue[Notice]"] = field(default_factory=set)

    def __repr__(self) -> str:
        return f"<MemoryServer: {'up' if self.up else 'cut off'}, {len(self.states)} states, {len(self.lines)} lines>"

    def cut(self) -> None:
        """Be unreachable."""
        self.up = False
        self.tell(Notice("", 0))  # wakes the lines, which see that it is over

    def mend(self) -> None:
        """Be reachable again, with all data."""
        self.up = True

    def tell(self, notice: Notice) -> None:
        """Hand `notice` to every line that has room."""
        for line in self.lines:
            if not line.full():
                line.put_nowait(notice)


class MemoryStore:
    """One process's view of a MemoryServer; without one it has its own. Methods as in `router.core.ports.Store`."""

    def __init__(self, server: MemoryServer | None = None) -> None:
        self.server = MemoryServer() if server is None else server
        self._closed = False

    def __repr__(self) -> str:
        return f"<MemoryStore {'closed ' if self._closed else ''}on {self.server!r}>"

    @property
    def unreadable(self) -> Mapping[str, int]:
        """Nothing: only tests write here."""
        return {}

    async def ping(self) -> None:
        """Raise StoreUnavailableError unless the server is up."""
        await self._reach()

    async def close(self) -> None:
        """Refuse all later calls."""
        self._closed = True

    async def read_states(self, routes: Sequence[str]) -> Mapping[str, RolloutState]:
        """Return the stored states; others are absent."""
        states = (await self._reach()).states
        return decode_states({route: states[route] for route in routes if route in states})

    async def revisions(self, routes: Sequence[str]) -> Mapping[str, int]:
        """Return the stored revisions; others, and unreadable ones, are absent."""
        try:
            states = await self.read_states(routes)
        except UnreadableStateError as error:
            states = error.states
        return {route: state.revision for route, state in states.items()}

    async def compare_and_set(self, state: RolloutState, expected_revision: int, record: DecisionRecord | None) -> bool:
        """Write the state, record and notice if the stored revision is the expected one."""
        body = codec.encode_state(state)
        server = await self._reach()
        stored = codec.decode_state(server.states[state.route]) if state.route in server.states else None
        if stored and stored.epoch > state.epoch:
            raise StaleEpochError(f"route {state.route} has epoch {stored.epoch}, this write has {state.epoch}")
        if (stored.revision if stored else 0) != expected_revision:
            return False
        server.states[state.route] = body
        if record:
            kept, line = server.records.setdefault(state.route, deque()), codec.encode_decision(record)
            kept.appendleft(line)
            while len(kept) > decisions_kept(len(line)):
                kept.pop()
            if record.basis:
                bases = server.bases.setdefault(state.route, {})
                bases[state.revision] = encode_basis(record.basis)
                while sum(len(packed) + ENTRY_BYTES for packed in bases.values()) > BASES_BYTES:
                    del bases[next(iter(bases))]
        server.tell(Notice(state.route, state.revision))
        return True

    async def decisions(self, route: str, limit: int) -> list[DecisionRecord]:
        """Return the newest records, newest first."""
        records = (await self._reach()).records.get(route, ())
        return [codec.decode_decision(raw) for raw in islice(records, limit)]

    async def bases(self, route: str, limit: int) -> Mapping[int, bytes]:
        """Return what the newest decisions followed from, by revision."""
        bases = (await self._reach()).bases.get(route, {})
        return dict(islice(reversed(bases.items()), limit))

    async def add_sample(self, basis: Basis) -> None:
        """Keep what a rollout's evidence was at one moment."""
        kept = (await self._reach()).samples.setdefault((basis.state.route, basis.state.id), deque())
        kept.append(encode_basis(basis))
        while sum(len(packed) + ENTRY_BYTES for packed in kept) > SAMPLES_BYTES:
            kept.popleft()

    async def samples(self, route: str, rollout: str) -> list[bytes]:
        """Return the kept samples, oldest first."""
        return list((await self._reach()).samples.get((route, rollout), ()))

    async def notices(self) -> AsyncIterator[Notice]:
        """Yield an empty Notice at once and twice a second, and one for each new revision; raises when cut off."""
        server = await self._reach()
        line: asyncio.Queue[Notice] = asyncio.Queue(QUEUED)
        server.lines.add(line)
        try:
            notice = Notice("", 0)
            while True:
                yield notice
                try:
                    async with asyncio.timeout(BEAT_S):
                        notice = await line.get()
                except TimeoutError:
                    notice = Notice("", 0)
                await self._reach()
        finally:
            server.lines.discard(line)

    async def append(self, batch: RecordBatch, keep_bytes: int) -> Appended:
        """Add pairs and counters once."""
        server = await self._reach()
        source = (batch.route, batch.rollout, batch.boot)
        last = server.sequences.get(source, 0)
        if batch.sequence <= last:
            return Appended()
        gap = batch.sequence > last + 1
        server.sequences[source] = batch.sequence
        boots = server.evidence.setdefault((batch.route, batch.rollout), {})
        boots.setdefault(batch.boot, {}).update(batch.counters)
        if not batch.pairs:
            return Appended(0, gap)
        kept = server.batches.setdefault(batch.route, deque())
        kept.append((batch.payload, batch.pairs))
        trimmed, held = 0, sum(len(payload) + ENTRY_BYTES for payload, _ in kept)
        while kept and held > keep_bytes:
            payload, pairs = kept.popleft()
            server.trimmed[batch.route] += 1
            held -= len(payload) + ENTRY_BYTES
            trimmed += pairs
        return Appended(trimmed, gap)

    async def pairs(self, route: str, limit: int) -> list[Pair]:
        """Return the newest pairs, newest first, each pair_id once."""
        found: dict[str, Pair] = {}
        for payload, _ in reversed((await self._reach()).batches.get(route, ())):
            try:
                batch = codec.decode_pairs(payload)
            except codec.UnreadableRecordError:
                continue  # as the real one does, which also logs it
            for pair in reversed(batch):
                found.setdefault(pair.pair_id, pair)
        return list(found.values())[:limit]

    async def pairs_after(self, route: str, cursor: str) -> PairPage:
        """Return the oldest pairs behind `cursor`, at most PAGE_BATCHES of them; unreadable ones are skipped."""
        server = await self._reach()
        kept, trimmed = server.batches.get(route, deque()), server.trimmed[route]
        start = max(int(cursor or 0) - trimmed, 0)
        found: list[Pair] = []
        page = list(islice(kept, start, start + PAGE_BATCHES))
        for payload, _ in page:
            with contextlib.suppress(codec.UnreadableRecordError):
                found += codec.decode_pairs(payload)
        return PairPage(found, str(trimmed + start + len(page)), more=len(page) == PAGE_BATCHES)

    async def pairs_before(self, route: str, cursor: str, batches: int) -> PastPage:
        """Return the newest pairs behind `cursor`, of at most `batches` batches; unreadable ones are skipped."""
        server = await self._reach()
        kept, trimmed = server.batches.get(route, deque()), server.trimmed[route]
        newest = trimmed + len(kept) - 1
        begun, place = (int(part) for part in cursor.replace("-0.", " ").split()) if cursor else (newest + 1, 0)
        found: list[tuple[str, Pair]] = []
        last = max(begun - batches, trimmed)
        for number in range(min(begun, newest), last - 1, -1):
            with contextlib.suppress(codec.UnreadableRecordError):
                pairs = codec.decode_pairs(kept[number - trimmed][0])[: place if number == begun else None]
                found += [(f"{number}-0.{index}", pairs[index]) for index in reversed(range(len(pairs)))]
        return PastPage(found, f"{last}-0.0", more=last > trimmed)

    async def count_labels(
        self,
        route: str,
        rollout: str,
        exposures: Sequence[int],
        labels: Sequence[LabelledPair],
        named: Collection[str],
    ) -> LabelCount:
        """Count each label in the evidence of the rollout, once for each request id."""
        server = await self._reach()
        known = server.labels.setdefault((route, rollout), {})
        classes = server.classes.setdefault((route, rollout), set())
        counters = Counter(server.evidence.setdefault((route, rollout), {}).get(LABELS_BOOT, {}))
        results, uncounted = [], 0
        for label in labels:
            if label.request_id in known:
                results.append(LabelResult.DOUBLE)
                continue
            if len(known) >= LABELS_KEPT:
                results.append(LabelResult.FULL)
                continue
            results.append(LabelResult.ACCEPTED)
            known[label.request_id] = label.truth
            last = self._last_of(route, rollout, exposures, label)
            counted = list(label.correct())
            for name, counter in label.classes(named):
                if name not in classes and name not in named and len(classes) >= CLASSES_KEPT:
                    uncounted += 1
                    continue
                classes.add(name)
                counted.append(counter)
            for counter in counted:
                counters[counter] += 1
                if last is not None:
                    by_key = counter._replace(metric=AFFINITY + counter.metric, cell=f"{counter.cell}/{last}")
                    counters[by_key] += 1
        server.evidence[route, rollout][LABELS_BOOT] = dict(counters)
        return LabelCount(tuple(results), uncounted)

    def _last_of(self, route: str, rollout: str, exposures: Sequence[int], label: LabelledPair) -> int | None:
        """Return the exposure in which the label's key was counted last before, 0 for none, None if it is not new."""
        if label.key_cell is None or label.key_cell == NO_KEY:
            return None if label.key_cell is None else 0
        bitmaps = {one: self.server.seen.setdefault((route, rollout, one, CORRECT), set()) for one in exposures}
        last = max((one for one in exposures if label.key_cell in bitmaps[one]), default=0)
        if last >= label.exposure:
            return None
        bitmaps[label.exposure].add(label.key_cell)
        return last

    async def mark_seen(
        self, route: str, rollout: str, exposures: Sequence[int], metric: str, cells: Sequence[int]
    ) -> list[int | None]:
        """Mark cells of keys in the last exposure; return where each was seen last, 0 for nowhere, None for there."""
        server = await self._reach()
        *before, last = exposures
        found: list[int | None] = []
        for cell in cells:
            seen = server.seen.setdefault((route, rollout, last, metric), set())
            if cell in seen:
                found.append(None)
                continue
            seen.add(cell)
            earlier = (one for one in reversed(before) if cell in server.seen.get((route, rollout, one, metric), ()))
            found.append(next(earlier, 0))
        return found

    async def evidence(self, route: str, rollout: str) -> Mapping[str, Mapping[CounterKey, int]]:
        """Return the counters of each boot."""
        boots = (await self._reach()).evidence.get((route, rollout), {})
        return {boot: dict(counters) for boot, counters in sorted(boots.items())}

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Record a sign of life, and forget processes that were silent for a day before it."""
        heartbeats = (await self._reach()).heartbeats
        heartbeats[heartbeat.boot] = codec.encode_heartbeat(heartbeat)
        for boot, raw in list(heartbeats.items()):
            if codec.decode_heartbeat(raw).at_s < heartbeat.at_s - HEARTBEAT_KEPT_S:
                del heartbeats[boot]

    async def forget(self, boot: str) -> None:
        """Remove a process that ended orderly."""
        (await self._reach()).heartbeats.pop(boot, None)

    async def heartbeats(self) -> list[Heartbeat]:
        """Return all recorded processes, sorted by boot."""
        heartbeats = (await self._reach()).heartbeats
        return [codec.decode_heartbeat(raw) for _, raw in sorted(heartbeats.items())]

    async def acquire_lease(self, holder: str, ttl_s: float, min_epoch: int) -> int | None:
        """Take or renew the lease; return its epoch, or None when another holds it."""
        server = await self._reach()
        lease, now_s = server.lease, server.clock()
        if lease.holder not in ("", holder) and lease.expires_s > now_s:
            return None
        renewed = lease.holder == holder and lease.epoch >= min_epoch
        epoch = lease.epoch if renewed else max(lease.epoch, min_epoch) + 1
        server.lease = _Lease(holder, epoch, now_s + ttl_s)
        return epoch

    async def release_lease(self, holder: str) -> None:
        """Give the lease back; its epoch stays, so that the next one is higher."""
        server = await self._reach()
        if server.lease.holder == holder:
            server.lease = _Lease("", server.lease.epoch, 0.0)

    async def _reach(self) -> MemoryServer:
        """Return the server if it can be reached, after giving other tasks their turn as a real line would."""
        await asyncio.sleep(0)
        if self._closed:
            raise StoreUnavailableError("this MemoryStore is closed, make a new one")
        if not self.server.up:
            raise StoreUnavailableError("the MemoryServer is cut off until mend() is called")
        return self.server
