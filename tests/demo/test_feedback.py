"""Labels come back late, in another order, once each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from router.demo.admin import Admin, Body, NotNowError
from router.demo.feedback import FASTEST_S, MOST, SLOWEST_S, Delay, Feedback
from router.demo.traffic import Label, Sample, Traffic


def labels(count: int) -> list[Label]:
    """Return so many labels of different requests."""
    return [Label(f"demo-3-{number}", number % 10) for number in range(count)]


def test_a_label_is_known_after_a_while_and_once() -> None:
    """None before the shortest delay, all after the longest, spread in between, in another order than they came."""
    delay, came = Delay(3), labels(1_000)
    delay.add(came, 100.0)
    assert delay.known(100.0 + FASTEST_S - 0.001) == []
    half = delay.known(100.0 + (FASTEST_S + SLOWEST_S) / 2)
    rest = delay.known(100.0 + SLOWEST_S)
    assert 400 < len(half) < 600  # 500 +- 16 at one standard error
    assert sorted([*half, *rest], key=lambda one: int(one.request_id[7:])) == came
    assert half != sorted(half, key=lambda one: int(one.request_id[7:]))
    assert len(delay) == 0


def test_the_seed_decides_how_long_each_label_takes() -> None:
    """Two runs with one seed send the same labels in the same order."""
    orders = []
    for seed in (3, 3, 4):
        delay = Delay(seed)
        delay.add(labels(50), 0.0)
        orders.append([one.request_id for one in delay.known(SLOWEST_S)])
    assert orders[0] == orders[1] != orders[2]


def test_a_batch_is_as_large_as_the_api_takes() -> None:
    """The rest comes with the next one."""
    delay = Delay(3)
    delay.add(labels(MOST + 5), 0.0)
    assert (len(delay.known(SLOWEST_S)), len(delay.known(SLOWEST_S))) == (MOST, 5)


class LabelAdmin(Admin):
    """Takes labels, but for the first time."""

    def __init__(self) -> None:
        self.calls: list[Sequence[Body]] = []

    async def feedback(self, labels: Sequence[Body]) -> Mapping[str, int]:
        """Refuse the first call, count the others as accepted."""
        self.calls.append(labels)
        if len(self.calls) == 1:
            raise NotNowError("503")
        return {"accepted": len(labels), "waiting": 0}


class AnsweredTraffic(Traffic):
    """Has sent nothing, and has three labels."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1/", [Sample(b"", 0)], 1.0, 1, 0)
        self._labels.extend(labels(3))


async def test_labels_are_sent_until_they_have_arrived() -> None:
    """By request id, as text; a call that was not answered is made again, and what was taken is counted."""
    admin = LabelAdmin()
    feedback = Feedback(admin, AnsweredTraffic(), seed=3)
    running = asyncio.create_task(feedback.run())
    async with asyncio.timeout(20.0):
        while feedback.counts.get("accepted", 0) < 3:  # noqa: ASYNC110 - counters wake nobody
            await asyncio.sleep(0.01)
    running.cancel()
    sent = {one["request_id"]: one["label"] for call in admin.calls for one in call}
    assert sent == {"demo-3-0": "0", "demo-3-1": "1", "demo-3-2": "2"}
    assert admin.calls[0] == admin.calls[1]
    assert all("observed_at" in one for call in admin.calls for one in call)
