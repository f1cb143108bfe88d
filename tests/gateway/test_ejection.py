"""Several backends of one variant: failed connects go elsewhere, bad ones are left out, and never too many of them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import pytest

from router.core.traffic import Backend, EjectionSpec, ProbeSpec, RescueSpec, Timeouts, Variant
from router.gateway.pool import RETRIES_SAVED, RETRY_COST
from router.telemetry.metrics import Value
from tests.gateway.bench import Bench, Gateway, route_of, started, until
from tests.gateway.test_upstream_faults import closed_port
from tests.gateway.upstreams import Script, Upstream, Visit, closing, never, ok
from tests.stopwatch import Stopwatch

Figure: TypeAlias = Callable[[str], None]


def metric(gateway: Gateway, name: str, upstream: Upstream | Backend, variant: str = "v1") -> Value:
    """Return one backend's series of a metric."""
    backend = upstream.backend if isinstance(upstream, Upstream) else upstream
    return gateway.worker.snapshot()[name]["r", variant, backend.authority]


def retries(gateway: Gateway, variant: str = "v1") -> Value:
    """Return turnout_connect_retries_total."""
    return gateway.worker.snapshot()["turnout_connect_retries_total"]["r", variant]


class Moody:
    """A server that answers 500 while it is `bad`, and else by the request's body."""

    def __init__(self) -> None:
        self.bad = False

    async def serve(self, visit: Visit) -> None:
        """Serve one connection."""
        async for received in visit.requests():
            await visit.send(ok(b"no", status="500 No") if self.bad else ok(received.body))


async def moody(bench: Bench, number: int) -> tuple[list[Moody], list[Upstream]]:
    """Return so many such servers."""
    moods = [Moody() for _ in range(number)]
    return moods, [await bench.upstream(mood.serve) for mood in moods]


def variant_of(upstreams: Sequence[Upstream | Backend], **settings: object) -> Variant:
    """Return a variant with these backends."""
    backends = tuple(one.backend if isinstance(one, Upstream) else one for one in upstreams)
    return Variant("v1", backends, **settings)  # type: ignore[arg-type]


async def test_up4_one_bad_backend_of_three_is_ejected_and_probed_back(bench: Bench, figure: Figure) -> None:
    """It gets five requests, then none; when it is well and its time over, one request brings it back."""
    moods, upstreams = await moody(bench, 3)
    gateway = await bench.gateway(route_of(variant_of(upstreams, ejection=EjectionSpec(base_s=0.3))))
    client = await bench.client()
    for _ in range(6):
        assert (await client.ask("POST", "/", b"x")).status == 200
    moods[0].bad = True
    watch = Stopwatch()
    statuses = []
    while metric(gateway, "turnout_backend_up", upstreams[0]):
        statuses.append((await client.ask("POST", "/", b"x")).status)
        assert len(statuses) <= 15, "not ejected"
    figure(f"UP4 ejected after (limit 1 s): {watch.elapsed_s * 1000:.1f} ms, {statuses.count(500)} errors")
    assert watch.elapsed_s < 1.0
    assert statuses.count(500) == 5
    seen = len(upstreams[0].requests)
    moods[0].bad = False
    assert [(await client.ask("POST", "/", b"x")).status for _ in range(10)] == [200] * 10
    assert len(upstreams[0].requests) == seen
    await until(lambda: gateway.worker.table.lives["r"].variants["v1"].endpoints.trial, "its time is over")
    assert [(await client.ask("POST", "/", b"x")).status for _ in range(4)] == [200] * 4
    assert len(upstreams[0].requests) >= seen + 2
    assert metric(gateway, "turnout_backend_up", upstreams[0]) == 1.0
    assert metric(gateway, "turnout_ejections_total", upstreams[0]) == 1
    assert gateway.outcomes() == {"http_error": 5, "ok": 5 + 16 + len(statuses) - 6}


async def test_up4_when_all_are_bad_only_half_are_ejected(bench: Bench) -> None:
    """Of three one; the others go on getting requests, and answer as soon as they are well: no outage of our making."""
    moods, upstreams = await moody(bench, 3)
    gateway = await bench.gateway(route_of(variant_of(upstreams)))
    client = await bench.client()
    for mood in moods:
        mood.bad = True
    assert {(await client.ask("POST", "/", b"x")).status for _ in range(60)} == {500}
    assert sum(metric(gateway, "turnout_backend_up", one) == 0.0 for one in upstreams) == 1
    for mood in moods:
        mood.bad = False
    assert {(await client.ask("POST", "/", b"x")).status for _ in range(10)} == {200}
    assert gateway.outcomes() == {"http_error": 60, "ok": 10}


async def test_up4_a_variant_of_one_backend_is_never_left_without(bench: Bench) -> None:
    """A hundred errors, and the next request still goes there."""
    (mood,), upstreams = await moody(bench, 1)
    gateway = await bench.gateway(route_of(variant_of(upstreams)))
    client = await bench.client()
    mood.bad = True
    assert {(await client.ask("POST", "/", b"x")).status for _ in range(100)} == {500}
    mood.bad = False
    assert (await client.ask("POST", "/", b"x")).status == 200
    assert metric(gateway, "turnout_ejections_total", upstreams[0]) == 0


async def test_ejection_hides_no_error_of_a_candidate_from_the_judge(bench: Bench) -> None:
    """Each 500 of the bad backend is counted against the candidate, rescued or not."""
    stable = await bench.upstream()
    moods, upstreams = await moody(bench, 2)
    moods[1].bad = True
    gateway = await bench.gateway(route_of(stable, variant_of(upstreams)), states=[started(10_000)])
    client = await bench.client()
    for _ in range(20):
        assert (await client.ask("POST", "/", b"x")).status == 200
    assert gateway.outcomes("v2") == {"ok": 15, "http_error": 5}


@pytest.mark.parametrize("fault", ["reset", "hang"])
async def test_resets_and_timeouts_eject_as_well(bench: Bench, fault: str) -> None:
    """Two in a row where two are asked for."""
    bad = await bench.upstream(closing(b"") if fault == "reset" else never)
    good = await bench.upstream()
    variant = variant_of([bad, good], ejection=EjectionSpec(consecutive=2))
    gateway = await bench.gateway(route_of(variant, timeouts=Timeouts(total_s=0.2)))
    client = await bench.client()
    status = 502 if fault == "reset" else 504
    assert [(await client.ask("POST", "/", b"x")).status for _ in range(4)] == [status, 200, status, 200]
    assert [(await client.ask("POST", "/", b"x")).status for _ in range(4)] == [200] * 4
    assert metric(gateway, "turnout_backend_up", bad) == 0.0


async def test_mi_a_hanging_shadow_ejects_nothing_from_live_traffic(bench: Bench) -> None:
    """Copies fail at one of two backends; both keep their turns, and copies may still use both."""
    stable, good = await bench.upstream(), await bench.upstream()
    bad = await bench.upstream(closing(b""))
    gateway = await bench.gateway(route_of(stable, variant_of([bad, good])), states=[started(0, 10_000)])
    client = await bench.client()
    for _ in range(20):
        assert (await client.ask("POST", "/", b"x")).status == 200
    await gateway.pairs(20)
    assert metric(gateway, "turnout_backend_up", bad, "v2") == 1.0
    assert (len(bad.requests), len(good.requests)) == (10, 10)


# -- connects -----------------------------------------------------------------------------------------------------


async def test_a_refused_connect_is_tried_at_another_backend(bench: Bench) -> None:
    """One of three refuses: no client notices, also with a POST; after five it is left out."""
    down = Backend("127.0.0.1", closed_port())
    upstreams = [await bench.upstream() for _ in range(2)]
    gateway = await bench.gateway(route_of(variant_of([down, *upstreams])))
    client = await bench.client()
    for number in range(30):
        body = b"%d" % number
        assert (await client.ask("POST", "/", body)).body == body
    assert sorted(one.body for upstream in upstreams for one in upstream.requests) == sorted(
        b"%d" % number for number in range(30)
    )
    assert (retries(gateway), metric(gateway, "turnout_backend_up", down)) == (5, 0.0)
    assert gateway.outcomes() == {"ok": 30}


async def test_a_connect_into_a_black_hole_is_tried_elsewhere_after_its_deadline(bench: Bench, full_port: int) -> None:
    """`timeouts.connect` 0.2 s: the answer comes after 0.2 s, and not an error."""
    good = await bench.upstream()
    variant = variant_of([Backend("127.0.0.1", full_port), good])
    await bench.gateway(route_of(variant, timeouts=Timeouts(connect_s=0.2)))
    client = await bench.client()
    watch = Stopwatch()
    assert (await client.ask("POST", "/", b"x")).status == 200
    assert watch.passed_s >= 0.19
    assert watch.elapsed_s < 0.35


async def test_several_black_holes_cost_two_connect_deadlines_at_most(bench: Bench, full_port: int) -> None:
    """Four of four: the 502 comes after 0.4 s where `timeouts.connect` is 0.2 s, not after 0.8 s."""
    holes = [Backend("127.0.0.1", full_port) for _ in range(4)]
    gateway = await bench.gateway(route_of(variant_of(holes), timeouts=Timeouts(connect_s=0.2)))
    client = await bench.client()
    watch = Stopwatch()
    assert (await client.ask("POST", "/", b"x")).status == 502
    assert watch.passed_s >= 0.39
    assert watch.elapsed_s < 0.58
    assert retries(gateway) == 1


async def test_an_abandoned_request_is_not_tried_elsewhere(bench: Bench, full_port: int) -> None:
    """The client has left while its connect hung: the other backend hears nothing."""
    good = await bench.upstream()
    variant = variant_of([Backend("127.0.0.1", full_port), good])
    gateway = await bench.gateway(route_of(variant, timeouts=Timeouts(connect_s=0.2)))
    client = await bench.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
    await until(lambda: gateway.held().get("in_flight"), "the request is under way")
    client.abort()
    await until(lambda: not gateway.held(), "the connect has ended")
    assert (good.visits, retries(gateway)) == ([], 0)


async def test_ov7_attempts_stay_below_one_point_two_for_each_request(bench: Bench, figure: Figure) -> None:
    """All of four backends refuse, 1,000 POSTs: 502 each, once, and connects / requests <= 1.2."""
    downs = [Backend("127.0.0.1", closed_port()) for _ in range(4)]
    gateway = await bench.gateway(route_of(variant_of(downs)))
    clients = [await bench.client() for _ in range(10)]

    async def ask(number: int) -> set[int]:
        return {(await clients[number].ask("POST", "/", b"x")).status for _ in range(100)}

    assert await asyncio.gather(*[ask(number) for number in range(10)]) == [{502}] * 10
    again = retries(gateway)
    assert isinstance(again, (int, float))
    figure(f"OV7 attempts / requests (limit 1.2): {1 + again / 1_000:.3f}")
    assert RETRIES_SAVED <= again <= min(200, RETRIES_SAVED + 1_000 / RETRY_COST)
    assert gateway.outcomes() == {"connect_failed": 1_000}


async def test_ov7_a_post_that_was_sent_is_sent_nowhere_else(bench: Bench) -> None:
    """The backend closes without an answer: 502, and the other backend never sees that body."""
    bad, good = await bench.upstream(closing(b"")), await bench.upstream()
    gateway = await bench.gateway(route_of(variant_of([bad, good], ejection=EjectionSpec(consecutive=0))))
    client = await bench.client()
    statuses = [(await client.ask("POST", "/", b"%d" % number)).status for number in range(10)]
    assert statuses == [502, 200] * 5
    assert [one.body for one in good.requests] == [b"1", b"3", b"5", b"7", b"9"]
    assert (retries(gateway), gateway.outcomes()) == (0, {"reset": 5, "ok": 5})


async def test_dp6_a_get_that_was_sent_is_sent_nowhere_else_either(bench: Bench) -> None:
    """It may cost as much as a POST; races with a closing backend are met by not keeping connections long."""
    bad, good = await bench.upstream(closing(b"")), await bench.upstream()
    await bench.gateway(route_of(variant_of([bad, good])))
    client = await bench.client()
    assert [(await client.ask("GET", f"/{number}")).status for number in range(2)] == [502, 200]
    assert [one.target for one in good.requests] == ["/1"]


# -- probes -------------------------------------------------------------------------------------------------------


class Health:
    """A server with a health page; `status` is what that says."""

    def __init__(self) -> None:
        self.status = "200 OK"
        self.hosts: set[str | None] = set()
        self.served = 0

    async def serve(self, visit: Visit) -> None:
        """Serve one connection."""
        async for received in visit.requests():
            if received.target == "/ready":
                self.hosts.add(received.field("host"))
                await visit.send(ok(b"", status=self.status))
            else:
                self.served += 1
                await visit.send(ok(received.body))


@pytest.mark.parametrize("status", ["503 Not Now", "302 Found"])
async def test_a_backend_whose_health_page_says_no_gets_no_requests(bench: Bench, status: str) -> None:
    """Until it says yes again; only 2xx is yes."""
    pages = [Health(), Health()]
    upstreams = [await bench.upstream(page.serve) for page in pages]
    variant = variant_of(upstreams, health="/ready", host="models.test", probe=ProbeSpec(interval_s=0.05))
    gateway = await bench.gateway(route_of(variant))
    client = await bench.client()
    pages[0].status = status
    await until(lambda: metric(gateway, "turnout_backend_up", upstreams[0]) == 0.0, "it is left out")
    for _ in range(6):
        await client.ask("POST", "/", b"x")
    assert (pages[0].served, pages[1].served) == (0, 6)
    pages[0].status = "204 No Content"
    await until(lambda: metric(gateway, "turnout_backend_up", upstreams[0]) == 1.0, "it is taken back")
    for _ in range(6):
        await client.ask("POST", "/", b"x")
    assert pages[0].served == 3
    assert pages[0].hosts == {"models.test"}


USELESS: Mapping[str, Script] = {
    "silence": never,
    "a hang-up": closing(b""),
    "another protocol": closing(b"SSH-2.0-x\r\n"),
    "a line without end": closing(b"HTTP/1.1 2" + b"0" * 9_000),
}


@pytest.mark.parametrize("script", USELESS.values(), ids=USELESS)
async def test_a_server_that_gives_no_answer_to_a_probe_is_ill(bench: Bench, script: Script) -> None:
    """It is left out like one that says no, and no probe is left behind."""
    ill, good = await bench.upstream(script), await bench.upstream(Health().serve)
    probe = ProbeSpec(interval_s=0.05, timeout_s=0.1)
    gateway = await bench.gateway(route_of(variant_of([ill, good], health="/ready", probe=probe)))
    await until(lambda: metric(gateway, "turnout_backend_up", ill) == 0.0, "it is left out")
    assert metric(gateway, "turnout_backend_up", good) == 1.0


async def test_without_probe_nobody_asks_the_health_page(bench: Bench) -> None:
    """`health` alone is for the start of a rollout."""
    upstream = await bench.upstream()
    gateway = await bench.gateway(route_of(variant_of([upstream], health="/ready")))
    gateway.worker.backends.turn(asyncio.get_running_loop().time() + 3_600)
    assert upstream.visits == []


# -- both down ------------------------------------------------------------------------------------------------------


async def test_up7_with_both_variants_refusing_errors_are_quick_and_quiet(
    bench: Bench, figure: Figure, capsys: pytest.CaptureFixture[str]
) -> None:
    """300 requests at weight 50 %: 502 or 503, p99 <= 50 ms, and at most one line a second for each upstream."""
    downs = [variant_of([Backend("127.0.0.1", closed_port()) for _ in range(2)]) for _ in range(2)]
    await bench.gateway(route_of(*downs, rescue=RescueSpec(enabled=True)), states=[started(5_000)])
    client = await bench.client()
    capsys.readouterr()
    watch, took_ms = Stopwatch(), []
    for _ in range(300):
        one = Stopwatch()
        assert (await client.ask("POST", "/", b"x")).status in (502, 503)
        took_ms.append(one.elapsed_s * 1000)
    p99_ms = sorted(took_ms)[296]
    said = capsys.readouterr()
    lines = len((said.out + said.err).splitlines())
    figure(f"UP7 p99 (limit 50 ms): {p99_ms:.1f} ms, {lines} lines in {watch.passed_s:.1f} s")
    assert p99_ms <= 50
    assert lines <= 4 * (watch.passed_s + 1)
