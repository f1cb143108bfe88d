"""SE11: whatever clients make up, a worker's metrics and memory stay as they are."""

from collections.abc import Callable, Iterator

import pytest

from tests.e2e.harness import Admin, Turnouts, config_for, rss_mib
from tests.e2e.load import ask_all
from tests.e2e.model_server import ModelServer
from tests.e2e.wire import fetch, request

WARM_UP = 4_000
"""Requests after which pools, buffers and the bitmaps of keys are there."""

SERIES = 5_000
GROWTH_MIB = 10.0


def made_up(numbers: range) -> Iterator[bytes]:
    """Yield requests none of whose parts has been there before: path, query, host, fields, key, id, tenant, body."""
    for number in numbers:
        one = f"{number:07x}"
        fields = {
            f"x-{one}": one, "x-user-id": f"user-{one}", "x-request-id": f"id-{one}", "cookie": f"{one}={one}",
            "user-agent": f"agent/{one}", "x-tenant": f"tenant-{one}",
            "traceparent": f"00-{number + 1:032x}-{number + 1:016x}-01",
        }  # fmt: skip
        raw = request("POST", f"/v2/models/digits/{one}?{one}={one}", one.encode(), fields)
        yield raw.replace(b"host: localhost", f"host: {one}.test".encode())


async def series(port: int) -> set[str]:
    """Return the names of all series at `/metrics`, with their labels."""
    text = (await fetch(port, request("GET", "/metrics"))).body.decode()
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


class Forgetful(ModelServer):
    """A model server that remembers nothing of what it has seen."""

    def __init__(self, label: int) -> None:
        super().__init__(label)
        self.on_request = lambda _: self.seen.clear()


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [20_000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])], ids=["20k", "100k"]
)
async def test_se11_made_up_names_make_no_series_and_take_no_memory(
    turnouts: Turnouts, figure: Callable[[str], None], number: int
) -> None:
    """Distinct paths, hosts, keys, tenants at 50 % canary, a tenth copied: no new series or slice, RSS + 10 MiB."""
    async with Forgetful(1).running() as stable, Forgetful(2).running() as candidate:
        steps = [{"weight": "50%", "mirror": "10%", "bake": "7d"}]
        gates = [{"metric": "error_rate", "max_increase": "5pp", "slices": "each"}]
        rollout = {
            "candidate": "v2", "policy": "canary", "steps": steps, "gates": gates, "breaker": {"fleet": "local"},
        }  # fmt: skip
        config = config_for(
            stable, candidate, rollout=rollout, adapter="opaque", mirror_safe=True, comparator="digest",
            slices=["header:x-tenant"],
        )  # fmt: skip
        config["recorder"] = {"queue": "1MiB"}  # what waits for the store is bounded elsewhere
        serve = await turnouts.start(config)
        admin = Admin(serve.port("admin"))
        await admin.until_routed()
        (worker,) = serve.workers()
        await ask_all(serve.port("gateway"), made_up(range(WARM_UP)), clients=16)
        pages = serve.port("ops"), serve.port("admin")
        before_mib, before = rss_mib(worker), [await series(page) for page in pages]
        answered = 0
        for start in range(WARM_UP, WARM_UP + number, 2_000):
            answers = await ask_all(serve.port("gateway"), made_up(range(start, start + 2_000)), clients=16)
            answered += sum(answer.status == 200 for answer in answers)
        slices = {one["slice"] for one in (await admin.get("/evidence"))["counters"]}
        after_mib, after = rss_mib(worker), [await series(page) for page in pages]
    new = after[0] - before[0] | after[1] - before[1]
    figure(
        f"SE11: {number} made-up requests, {answered} answered 200, {sum(map(len, after))} series, "
        f"RSS {before_mib:.1f} -> {after_mib:.1f} MiB"
    )
    assert answered == number
    assert sum(map(len, after)) <= SERIES
    assert after_mib - before_mib <= GROWTH_MIB
    assert not [
        one for one in new if any(f"{part:07x}" in one for part in (WARM_UP, WARM_UP + 1, WARM_UP + number - 1))
    ]
    assert len(new) < 100
    assert slices == {"", "tenant=other"}
