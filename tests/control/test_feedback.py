"""True labels joined to pairs: what waits, what counts, and that nothing counts twice. On memory and on Valkey."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from router.control import feedback as module
from router.control.feedback import Feedback, FeedbackResult, TrueLabel
from router.control.loop import ControlLoop
from router.control.states import States
from router.core.config import MIB, FeedbackConfig, TurnoutConfig
from router.core.errors import StoreUnavailableError
from router.core.labels import LabelCount
from router.core.observations import BOTH, PAIR, Pair
from router.core.ports import PairPage, RecordBatch, Store
from router.core.rollout import GateSpec, Phase, RolloutState, Spec, Step
from router.core.traffic import NO_KEY, AffinityKind, AffinitySource, Role
from router.store.codec import encode_pairs
from router.testing import MemoryServer, MemoryStore
from router.testing.samples import sample_pair
from tests.analysis.ledger import Ledger, paired
from tests.control.plant import Plant, order, route_named

SHADOW = Spec("v2", "canary", steps=(Step(mirror_bp=10_000, bake_s=3_600.0),))
BY_USER = (AffinitySource(AffinityKind.HEADER, "x-user"),)


def feedback_on(plant: Plant, store: Store | None = None, **config: Any) -> Feedback:  # noqa: ANN401 - fields
    """Return what another control process would have."""
    own = plant.new_store() if store is None else store
    states = States(own, plant.config.routes, plant.clock)
    return Feedback(own, states, plant.config.routes, FeedbackConfig(**config), monotonic=plant.clock)


async def begun(plant: Plant, spec: Spec = SHADOW) -> RolloutState:
    """Start a rollout of `digits`."""
    return await plant.commands.start("digits", spec, order())


def answered(state: RolloutState, number: int, stable: str = "7", candidate: str | None = "7", **changes: Any) -> Pair:  # noqa: ANN401 - fields
    """Return a pair of this rollout, in its present exposure unless changed."""
    made = replace(sample_pair(state.route, number), rollout=state.id, exposure=state.exposure.id, **changes)
    return replace(
        made, stable=replace(made.stable, label=stable), candidate=replace(made.candidate, label=candidate)
    )  # fmt: skip


class Gateway:
    """Writes pairs as a gateway worker does."""

    def __init__(self, store: Store, boot: str = "g1") -> None:
        self._store = store
        self._boot = boot
        self._sequence = 0

    async def write(self, *pairs: Pair) -> None:
        """Write one batch."""
        self._sequence += 1
        one = pairs[0]
        payload = encode_pairs(pairs)
        batch = RecordBatch(one.route, one.rollout, self._boot, self._sequence, len(pairs), payload, {})
        await self._store.append(batch, 64 * MIB)


def said(number: int, *labels: str) -> TrueLabel:
    """Return what was true of one request: 7 unless said otherwise."""
    return TrueLabel(f"request-{number}", labels or ("7",), 1_800_000_000.0)


async def taken(feedback: Feedback, labels: Iterable[TrueLabel]) -> dict[str, int]:
    """Hand labels over; return what became of them, without zeros."""
    return {result.value: number for result, number in (await feedback.take(list(labels))).items() if number}


async def counted(plant: Plant, state: RolloutState, metric: str = "correct") -> dict[tuple[int, str], int]:
    """Return one metric of the evidence, by (exposure, cell)."""
    evidence = await plant.states.evidence(state)
    return {(key.exposure, key.cell): n for key, n in evidence.counters.items() if key.metric == metric}


# -- what comes before its pair -------------------------------------------------------------------------------------


async def test_a_label_that_is_faster_than_its_pair_waits_for_it(plant: Plant) -> None:
    """It is counted when the pair has been written, and the metric knows it only then."""
    state, feedback = await begun(plant), feedback_on(plant)
    assert await taken(feedback, [said(1), said(2)]) == {"waiting": 2}
    await feedback.turn()
    assert (feedback.waiting, feedback.results) == (2, Counter())
    await Gateway(plant.store).write(answered(state, 1))
    await feedback.turn()
    assert (feedback.waiting, feedback.results) == (1, Counter({FeedbackResult.ACCEPTED: 1}))
    assert await counted(plant, state) == {(state.exposure.id, "11"): 1}
    assert sum(feedback.delays.value.counts) == 1


async def test_a_label_of_a_rollout_that_has_just_begun_is_not_late() -> None:
    """It begins after the states were read, and its first pair is read along with the last ones before it."""
    server = MemoryServer()
    plant = Plant(lambda: MemoryStore(server), TurnoutConfig(routes={"digits": route_named("digits")}))
    before = await begun(plant)

    class Overtaken(MemoryStore):
        """A store in which the next rollout begins while pairs are read."""

        async def pairs_after(self, route: str, cursor: str) -> PairPage:
            """Begin it, with one pair, and read."""
            if (await plant.states.read("digits")).id == before.id:
                await plant.commands.abort("digits", order())
                await Gateway(plant.store).write(answered(await plant.commands.retry("digits", order()), 1))
            return await super().pairs_after(route, cursor)

    assert await taken(feedback_on(plant, Overtaken(server)), [said(1)]) == {"accepted": 1}


async def test_a_label_whose_pair_never_comes_is_unknown_after_a_while(plant: Plant) -> None:
    """Not before the whole wait is over; a pair that comes later finds nothing."""
    state, feedback = await begun(plant), feedback_on(plant, wait_s=60.0)
    await taken(feedback, [said(1)])
    plant.clock.advance(59.9)
    await taken(feedback, [said(2)])
    await feedback.turn()
    assert feedback.waiting == 2
    plant.clock.advance(0.2)
    await feedback.turn()
    assert (feedback.waiting, feedback.results) == (1, Counter({FeedbackResult.UNKNOWN: 1}))
    await Gateway(plant.store).write(answered(state, 1), answered(state, 2))
    await feedback.turn()
    assert (feedback.waiting, feedback.results[FeedbackResult.ACCEPTED]) == (0, 1)


async def test_so_many_labels_may_wait_and_the_rest_is_refused(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ones that came first go on waiting; each refusal is counted with its reason."""
    monkeypatch.setattr(module, "WAITING", 3)
    feedback = feedback_on(plant)
    await begun(plant)
    assert await taken(feedback, map(said, range(5))) == {"waiting": 3, "refused": 2}
    assert await taken(feedback, [said(9)]) == {"refused": 1}
    assert (feedback.drops["label", "waiting_full"], feedback.results) == (3, Counter({FeedbackResult.REFUSED: 3}))


async def test_labels_wait_through_the_loss_of_the_store() -> None:
    """Nothing is given up while nobody could look; `run` goes on by itself."""
    server = MemoryServer()
    plant = Plant(lambda: MemoryStore(server), TurnoutConfig(routes={"digits": route_named("digits")}))
    state, feedback = await begun(plant), feedback_on(plant, wait_s=1.0)
    await taken(feedback, [said(1)])
    server.cut()
    plant.clock.advance(60.0)
    with pytest.raises(StoreUnavailableError):
        await feedback.turn()
    assert feedback.waiting == 1
    server.mend()
    await Gateway(plant.store).write(answered(state, 1))
    running = asyncio.create_task(feedback.run())
    async with asyncio.timeout(10):
        while not feedback.results[FeedbackResult.ACCEPTED]:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_without_labels_no_pair_is_read(plant: Plant) -> None:
    """Whoever has no labels pays nothing for those who do."""
    state, feedback = await begun(plant), feedback_on(plant)
    await Gateway(plant.store).write(answered(state, 1))
    running = asyncio.create_task(feedback.run())
    await asyncio.sleep(0)
    assert len(feedback.index) == 0
    assert not running.done()
    await taken(feedback, [said(1)])
    assert len(feedback.index) == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_long_log_is_read_in_pieces_and_gives_nothing_up_meanwhile(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that starts beside a full log answers at once; labels wait until it has read their pairs."""
    monkeypatch.setattr(module, "PAGES", 1)
    state, gateway = await begun(plant), Gateway(plant.store)
    for number in range(20):
        await gateway.write(answered(state, number))
    feedback = feedback_on(plant, wait_s=1.0)
    assert await taken(feedback, [said(0), said(19)]) == {"accepted": 1, "waiting": 1}
    plant.clock.advance(60.0)
    turns = 0
    while feedback.waiting:
        await feedback.turn()
        turns += 1
    assert feedback.results == Counter({FeedbackResult.ACCEPTED: 2})
    assert 2 <= turns <= 12


async def test_labels_older_than_the_index_are_unknown(plant: Plant) -> None:
    """It is bounded in bytes; what it let go is a metric."""
    state, feedback = await begun(plant), feedback_on(plant, index_bytes=1_000, wait_s=1.0)
    await Gateway(plant.store).write(*(answered(state, number) for number in range(10)))
    assert await taken(feedback, [said(0), said(9)]) == {"accepted": 1, "waiting": 1}
    plant.clock.advance(1.0)
    await feedback.turn()
    assert feedback.results == Counter({FeedbackResult.ACCEPTED: 1, FeedbackResult.UNKNOWN: 1})
    assert feedback.index.dropped == 8


# -- once -----------------------------------------------------------------------------------------------------------


async def test_two_processes_that_take_the_same_labels_at_once_count_each_once(plant: Plant) -> None:
    """Whatever is accepted by one is a double for the other; also beyond one call of the store."""
    state = await begun(plant)
    labels = [said(number) for number in range(600)]
    await Gateway(plant.store).write(*(answered(state, number) for number in range(600)))
    one, two = feedback_on(plant), feedback_on(plant)
    results = Counter[str]()
    for found in await asyncio.gather(taken(one, labels), taken(two, reversed(labels)), taken(one, labels[::2])):
        results.update(found)
    assert results == {"accepted": 600, "double": 900}
    assert await counted(plant, state) == {(state.exposure.id, "11"): 600}


class Dying(MemoryStore):
    """A store whose line breaks just after a write has happened: nobody hears of it."""

    async def count_labels(self, *arguments: Any) -> LabelCount:  # noqa: ANN401 - hands on what it gets
        """Count, and fail."""
        await super().count_labels(*arguments)
        raise StoreUnavailableError("the line broke")


async def test_a_call_that_was_carried_out_unheard_may_be_repeated(plant: Plant) -> None:
    """As after kill -9 between the write and the answer: what had been counted is a double."""
    server = MemoryServer()
    plant = Plant(lambda: MemoryStore(server), plant.config)
    state = await begun(plant)
    labels = [said(number) for number in range(500)]
    await Gateway(plant.store).write(*(answered(state, number) for number in range(500)))
    with pytest.raises(StoreUnavailableError):
        await feedback_on(plant, Dying(server)).take([*labels, said(999)])
    assert await taken(feedback_on(plant), labels) == {"double": 250, "accepted": 250}
    assert await counted(plant, state) == {(state.exposure.id, "11"): 500}


async def test_an_id_that_repeats_counts_once_and_with_its_first_pair(plant: Plant) -> None:
    """However many requests carry it, however many labels come, and whoever takes them."""
    state = await begun(plant)
    same = [answered(state, number, candidate=str(number), request_id="again") for number in (1, 7, 7)]
    await Gateway(plant.store).write(*same)
    again = TrueLabel("again", ("7",), 0.0)
    assert await taken(feedback_on(plant), [again] * 3) == {"accepted": 1, "double": 2}
    assert await taken(feedback_on(plant), [again]) == {"double": 1}
    assert await counted(plant, state) == {(state.exposure.id, "10"): 1}


async def test_a_rollout_takes_so_many_labels(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond that they are refused and counted; doubles are still told from new ones."""
    monkeypatch.setattr("router.store.redis.LABELS_KEPT", 3)
    monkeypatch.setattr("router.testing.memory_store.LABELS_KEPT", 3)
    state, feedback = await begun(plant), feedback_on(plant)
    await Gateway(plant.store).write(*(answered(state, number) for number in range(5)))
    assert await taken(feedback, map(said, range(5))) == {"accepted": 3, "refused": 2}
    assert await taken(feedback, [said(0), said(4)]) == {"double": 1, "refused": 1}
    assert feedback.drops["label", "labels_full"] == 3
    assert await counted(plant, state) == {(state.exposure.id, "11"): 3}


# -- what is counted ------------------------------------------------------------------------------------------------


@pytest.fixture
def by_user(plant: Plant) -> Plant:
    """The same plant, with a Route on which users stay on one side."""
    digits = replace(route_named("digits"), affinity=BY_USER)
    return Plant(plant.new_store, replace(plant.config, routes={**plant.config.routes, "digits": digits}))


async def test_labels_are_counted_as_the_reference_counts_them(by_user: Plant) -> None:
    """By pair and by user, in two exposures, each in that of its request: the ledger of the specification agrees."""
    plant = by_user
    first = await begun(plant, replace(SHADOW, steps=(*SHADOW.steps, Step(weight_bp=5_000, mirror_bp=10_000))))
    ledger, pairs, labels = Ledger(), [], []
    second = await plant.commands.promote("digits", order(), full=False)
    for number in range(200):
        state = first if number < 100 else second
        user, truth, stable = number % 23, str(number % 3), str(number % 3)
        candidate = None if number % 7 == 0 else str(number % 4)
        pairs.append(answered(state, number, stable, candidate, key_cell=user))
        labels.append(said(number, truth))
        request = ledger.start(1.0, state.exposure, Role.STABLE, key=str(user))
        ledger.label(request, truth, stable, candidate)
    await Gateway(plant.store).write(*pairs)
    assert await taken(feedback_on(plant), labels) == {"accepted": 200}
    found = (await plant.states.evidence(second)).counters
    metrics = {"correct", "label", "key:correct", "key:label"}
    assert dict(found) == {key: n for key, n in ledger.counters(1.0).items() if key.metric in metrics}


async def test_a_request_without_a_key_is_a_user_by_itself(by_user: Plant) -> None:
    """And a pair of an older gateway, which did not write the key, counts for no user."""
    state = await begun(by_user)
    cells = (NO_KEY, NO_KEY, None, 5, 5)
    pairs = [answered(state, number, key_cell=cell) for number, cell in enumerate(cells)]
    await Gateway(by_user.store).write(*pairs)
    await taken(feedback_on(by_user), [said(number) for number in range(len(cells))])
    assert await counted(by_user, state) == {(state.exposure.id, "11"): 5}
    assert await counted(by_user, state, "key:correct") == {(state.exposure.id, "11/0"): 3}


async def test_classes_that_gates_name_always_have_room(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client with many labels cannot crowd them out; what is not counted by class is a metric."""
    monkeypatch.setattr("router.store.redis.CLASSES_KEPT", 2)
    monkeypatch.setattr("router.testing.memory_store.CLASSES_KEPT", 2)
    gate = GateSpec("recall:8", "recall", max_increase=0.1, label="8", dry_run=True)
    state, feedback = await begun(plant, replace(SHADOW, gates=(gate,))), feedback_on(plant)
    pairs = [answered(state, number, str(number), str(number)) for number in range(10)]
    await Gateway(plant.store).write(*pairs)
    await taken(feedback, [said(number, str(number)) for number in range(10)])
    exposure = state.exposure.id
    assert await counted(plant, state, "label") == {(exposure, f"{name}:111"): 1 for name in (0, 1, 8)}
    assert await counted(plant, state) == {(exposure, "11"): 10}
    assert feedback.drops["class", "classes_full"] == 7


# -- what the judge makes of it -------------------------------------------------------------------------------------

GATES = (
    GateSpec("recall:8", "recall", max_increase=0.1, label="8"),
    GateSpec("accuracy", "accuracy", max_increase=0.1),
)


async def walked(plant: Plant, spec: Spec, labels: Sequence[tuple[str, str, str]]) -> tuple[RolloutState, str]:
    """Label pairs of the only step, turn the loop, and return the state and the newest reason of the ledger."""
    state = await begun(plant, spec)
    loop: ControlLoop = plant.loop()
    await Gateway(plant.store).write(
        *(answered(state, number, stable, candidate) for number, (_, stable, candidate) in enumerate(labels))
    )
    arrived = paired(state.exposure, PAIR, {BOTH: len(labels)})
    await plant.store.append(RecordBatch("digits", state.id, "g2", 1, 0, b"", arrived), MIB)
    truths = [said(number, truth) for number, (truth, _, _) in enumerate(labels)]
    assert await taken(loop.feedback, truths) == {"accepted": len(labels)}
    plant.clock.advance(3_600.0)
    for _ in range(3):
        await loop.turn()
    return await plant.states.read("digits"), (await plant.store.decisions("digits", 1))[0].reason


async def test_a_class_that_got_worse_rolls_back_and_is_named(plant: Plant) -> None:
    """Overall accuracy of 90 % against 100 % is within what the other gate allows."""
    digits = [str(number % 10) for number in range(400)]
    state, reason = await walked(
        plant, replace(SHADOW, gates=GATES), [(one, one, "3" if one == "8" else one) for one in digits]
    )
    assert state.phase is Phase.ROLLED_BACK
    assert "candidate is right in 0.00 % of 40 labelled pairs of class 8, stable in 100.00 %" in reason


async def test_an_equal_candidate_passes_by_its_labels(plant: Plant) -> None:
    """Proof that it is not worse by the margin, overall and of the class."""
    digits = [str(number % 10) for number in range(1_000)]
    spec = replace(SHADOW, policy="shadow", gates=GATES)
    state, reason = await walked(plant, spec, [(one, one, one) for one in digits])
    assert (state.phase, state.reason) == (Phase.PAUSED, "shadow_passed"), reason
