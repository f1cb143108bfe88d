"""Long answers: compared as short ones are, in a process that may die, hang or run out of memory (OV9)."""

import asyncio
import os
import resource
import signal
import sys
from pathlib import Path

import pytest

from model_adapters.comparators.json_rules import JsonRules
from model_adapters.comparators.label import Label
from model_adapters.open_inference import OpenInference
from router.core.config import KIB, MIB, RecorderConfig
from router.core.observations import Comparison, Pair
from router.core.options import PluginUse
from router.core.traffic import Role
from router.gateway import large_answers
from router.gateway.comparing import Half, compare
from router.gateway.comparing_wire import LENGTH, question, read_answer
from router.gateway.large_answers import WAITING, LargeAnswers
from router.gateway.side import SMALL_BYTES, Answers, Side
from router.plugins import load_adapters, load_comparators
from tests.gateway.bench import COMPARE, Bench, Gateway, route_of, started, until
from tests.gateway.processes import dial, worker
from tests.gateway.upstreams import answering, chunked, ok

SHADOW = (0, 10_000)
WITHIN_S = 20.0
"""For what needs a comparing process: an interpreter that stands back starts in 0.2 s, on a busy machine in seconds."""


def tensor(rows: int, label: int = 7) -> bytes:
    """Return an open_inference answer of so many rows with one label each, eight bytes a row."""
    data = b",".join([b"%7d" % label] * rows)
    return b'{"outputs":[{"name":"label","shape":[%d],"datatype":"INT64","data":[%b]}]}' % (rows, data)


async def shadowed(bench: Bench, stable: bytes, candidate: bytes, **config: object) -> Gateway:
    """Return a gateway at shadow 100 % in front of two variants with one answer each."""
    variants = [await bench.upstream(answering(one)) for one in (stable, candidate)]
    route = route_of(*variants, adapter="open_inference")
    return await bench.gateway(route, states=[started(*SHADOW)], **config)  # type: ignore[arg-type]


async def ask(bench: Bench, number: int = 1) -> None:
    """Send `number` requests."""
    client = await bench.client()
    for _ in range(number):
        assert (await client.ask("POST", "/", b"x")).status == 200


def pid_of(gateway: Gateway) -> int | None:
    """Return the comparing process of a worker."""
    return gateway.worker.recorder.large.pid


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has asked about yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def oom_score(pid: int) -> int:
    """Return how much rather than others the kernel ends a process when memory runs out."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_ov9_long_answers_are_compared_as_short_ones_are(bench: Bench) -> None:
    """Ten thousand rows of which one differs, framed by chunks: both labels, both digests, and which row it is."""
    body = tensor(10_000)
    other = body.replace(b"      7]", b"      8]")
    gateway = await shadowed(bench, ok(body), chunked(other[:1_000], other[1_000:50_000], other[50_000:]))
    await ask(bench)
    (pair,) = await gateway.pairs(1, within_s=WITHIN_S)
    assert pair.comparison.same is False
    assert pair.comparison.reason == "row 9999: 7 != 8 (1 of 10000 rows differ)"
    assert pair.comparison.distance == pytest.approx(1e-4)
    assert (pair.stable.body_bytes, pair.candidate.body_bytes) == (len(body), len(body))
    assert pair.stable.digest != pair.candidate.digest
    assert pair.stable.label is not None
    assert pair.stable.label.startswith("7,7,7,")
    assert gateway.held() == {}


async def test_a_comparator_with_options_keeps_to_them_on_the_loop_and_in_the_process(bench: Bench) -> None:
    """One that is slow for its length has short answers compared by the process, too."""
    rules = (("abs", 1), ("ignore", ("$.id",)))
    for padding in (10, JsonRules.loop_bytes):
        stable, candidate = [b'{"id":%d,"n":%d,"x":"%b"}' % (n, n, b"x" * padding) for n in (1, 2)]
        variants = [await bench.upstream(answering(ok(body))) for body in (stable, candidate)]
        route = route_of(variants[0], variants[1], comparator="json", comparator_options=rules)
        gateway = await bench.gateway(route, states=[started(*SHADOW)], comparators=load_comparators())
        client = await bench.client(gateway)
        assert (await client.ask("POST", "/", b"x")).status == 200
        (pair,) = await gateway.pairs(1, within_s=WITHIN_S)
        assert Comparison("json", same=True, distance=0.0) == pair.comparison
        assert (pid_of(gateway) is not None) is (padding > 10)


async def test_an_adapter_with_options_keeps_to_them_on_the_loop_and_in_the_process(bench: Bench) -> None:
    """Short answers and long ones are read by the same paths."""
    paths = (("label", "$.answer.name"), ("score", "$.answer.sure"))
    for padding in (10, SMALL_BYTES):
        bodies = [b'{"answer":{"name":"%b","sure":0.5},"x":"%b"}' % (name, b"x" * padding) for name in (b"cat", b"dog")]
        variants = [await bench.upstream(answering(ok(body))) for body in bodies]
        route = route_of(variants[0], variants[1], adapter="json", adapter_options=paths)
        gateway = await bench.gateway(route, states=[started(*SHADOW)], adapters=load_adapters())
        client = await bench.client(gateway)
        assert (await client.ask("POST", "/", b"x")).status == 200
        (pair,) = await gateway.pairs(1, within_s=WITHIN_S)
        assert (pair.stable.label, pair.candidate.label, pair.stable.score) == ("cat", "dog", 0.5)
        assert pair.comparison.same is False
        assert (pid_of(gateway) is not None) is (padding > 10)


async def test_an_adapter_that_is_slow_for_its_length_has_short_answers_read_by_the_process(bench: Bench) -> None:
    """A path that searches is never followed on the loop, however short the answers are."""
    variants = [await bench.upstream(answering(ok(b'{"label":"cat"}'))) for _ in range(2)]
    route = route_of(variants[0], variants[1], adapter="json", adapter_options=(("label", "$..label"),))
    gateway = await bench.gateway(route, states=[started(*SHADOW)], adapters=load_adapters())
    client = await bench.client(gateway)
    assert (await client.ask("POST", "/", b"x")).status == 200
    (pair,) = await gateway.pairs(1, within_s=WITHIN_S)
    assert (pair.stable.label, pair.comparison.same) == ("cat", True)
    assert pid_of(gateway) is not None


HALVES = {
    "labels": Half(200, [b"content-type: application/json"], [tensor(3_000)], ""),
    "other labels": Half(200, [], [tensor(3_000, 8)], ""),
    "no json": Half(200, [], [b"\xff" * 20_000], ""),
    "an error": Half(503, ["x: é".encode("latin-1")], [b"x" * 20_000], ""),
    "nothing": Half(0, [], None, "no answer of candidate: timeout"),
}


@pytest.mark.slow
async def test_ov9_the_process_says_what_the_loop_would_have_said() -> None:
    """Every pair of five kinds of answers, one after the other."""
    process = await large_answers._Process.start(COMPARE)  # noqa: SLF001 - its own test
    try:
        for stable in HALVES.values():
            for candidate in HALVES.values():
                found = await process.ask(question(PluginUse("open_inference"), PluginUse("label"), stable, candidate))
                assert read_answer(found) == compare(OpenInference(), Label(), stable, candidate)
    finally:
        await process.end()


async def test_ov9_there_is_no_process_until_a_long_answer_comes_and_it_stands_back(bench: Bench) -> None:
    """It starts at the first one, with lower priority, 512 MiB and no core file; it ends with its worker, or before."""
    answers = [ok(tensor(10)), ok(tensor(10)), ok(tensor(2_000))]
    variants = [await bench.upstream(answering(*answers)) for _ in range(2)]
    route = route_of(*variants, adapter="open_inference")
    gateway = await bench.gateway(route, states=[started(*SHADOW)])
    client = await bench.client()
    for number in range(2):
        await client.ask("POST", "/", b"x")
        await gateway.pairs(number + 1)
    assert pid_of(gateway) is None
    await client.ask("POST", "/", b"x")
    pairs = await gateway.pairs(3, within_s=WITHIN_S)
    assert {pair.comparison.same for pair in pairs} == {True}
    pid = pid_of(gateway)
    assert pid is not None
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 10
    assert oom_score(pid) == 500
    assert resource.prlimit(pid, resource.RLIMIT_AS) == (512 * MIB, 512 * MIB)
    assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    await gateway.worker.drain(1.0)
    bench.gateways.clear()
    assert gone(pid)


@pytest.mark.slow
async def test_ov9_a_process_with_nothing_to_do_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next long answer starts another one."""
    monkeypatch.setattr(large_answers, "IDLE_S", 0.2)
    gateway = await shadowed(bench, ok(tensor(2_000)), ok(tensor(2_000)))
    await ask(bench)
    await gateway.pairs(1, within_s=WITHIN_S)
    await until(lambda: pid_of(gateway) is None, "the process ends")
    await ask(bench)
    pairs = await gateway.pairs(2, within_s=WITHIN_S)
    assert {pair.comparison.same for pair in pairs} == {True}


# -- whatever happens to it --------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_ov9_a_process_that_dies_costs_its_own_pairs_and_is_started_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed over a pair: that pair says so, pairs of the pause after it too, and then all is well."""
    monkeypatch.setattr(large_answers, "BACKOFF_S", (0.3,))
    gateway = await shadowed(bench, ok(tensor(2_000)), ok(tensor(2_000)))
    await ask(bench)
    await gateway.pairs(1, within_s=WITHIN_S)
    first = pid_of(gateway)
    assert first is not None
    os.kill(first, signal.SIGSTOP)  # so that it has the pair, and does not answer before it dies
    await ask(bench)
    await until(lambda: gateway.worker.recorder.large, "the pair is with the process")
    os.kill(first, signal.SIGKILL)
    await until(lambda: gateway.dropped("comparison", "crashed"), "the end is seen")
    await ask(bench)
    pairs = await gateway.pairs(3)
    assert [pair.comparison.reason for pair in pairs] == ["", "size: crashed", "size: down"]
    assert (gateway.dropped("comparison", "crashed"), gateway.dropped("comparison", "down")) == (1, 1)
    assert {(pair.stable.status, pair.candidate.status) for pair in pairs} == {(200, 200)}
    await asyncio.sleep(0.3)  # the pause
    await ask(bench)
    assert (await gateway.pairs(4, within_s=WITHIN_S))[-1].comparison.same is True
    assert pid_of(gateway) not in (None, first)


@pytest.mark.slow
async def test_ov9_a_process_that_hangs_is_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time that one pair has: counted as late, and nobody else waited."""
    monkeypatch.setattr(large_answers, "BACKOFF_S", (0.0,))
    gateway = await shadowed(bench, ok(tensor(2_000)), ok(tensor(2_000)))
    await ask(bench)
    await gateway.pairs(1, within_s=WITHIN_S)
    first = pid_of(gateway)
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    monkeypatch.setattr(large_answers, "COMPARE_S", 0.5)
    await ask(bench)
    (_, pair) = await gateway.pairs(2)
    assert (pair.comparison.same, pair.comparison.reason) == (None, "size: late")
    assert gateway.dropped("comparison", "late") == 1
    await until(lambda: gone(first), "the process is gone")


@pytest.mark.slow
async def test_ov9_an_answer_that_would_take_all_memory_is_not_compared(bench: Bench) -> None:
    """Four million rows in 8 MB: the process reaches its bound, says so, and goes on."""
    rows = 4_190_000
    data = b",".join([b"1"] * rows)
    body = b'{"outputs":[{"name":"label","shape":[%d],"data":[%b]}]}' % (rows, data)
    gateway = await shadowed(bench, ok(body), ok(body.replace(b"[1,", b"[2,")))  # equal ones are read only once
    await ask(bench)
    (pair,) = await gateway.pairs(1, within_s=WITHIN_S)
    assert pair.comparison.same is None
    asked, _, why = pair.comparison.reason.partition(" takes ")  # which of the two is too much depends on the machine
    assert asked in {"size: to read the answer of stable", "size: to read the answer of candidate"}
    assert why == "more memory than the comparing process may have"
    assert "" not in {pair.stable.digest, pair.candidate.digest}
    assert pid_of(gateway) is not None


@pytest.mark.parametrize("command", [("/nowhere/at/all",), (sys.executable, "-c", "print('no')")], ids=["none", "no"])
async def test_ov9_a_process_that_cannot_be_started_costs_only_comparisons(
    bench: Bench, command: tuple[str, ...]
) -> None:
    """The pairs come, without a verdict; no further start is tried for a while."""
    gateway = await shadowed(bench, ok(tensor(2_000)), ok(tensor(2_000)), compare_command=command)
    await ask(bench, 3)
    pairs = await gateway.pairs(3, within_s=WITHIN_S)
    assert {pair.comparison.reason for pair in pairs} <= {"size: crashed", "size: down"}
    assert gateway.dropped("comparison", "crashed") == 1
    assert gateway.dropped("comparison", "down") == 2
    assert gateway.held() == {}


@pytest.mark.parametrize(
    "text",
    [
        b"", b"null", b"[]", b"{}", b"\xff", b"[" * 16_000,
        b'{"comparator":"label","same":true,"distance":1%b,"reason":"","readings":[]}' % (b"0" * 400),
        b'{"comparator":"label","same":true,"distance":"x","reason":"","readings":[]}',
        b'{"comparator":"label","same":true,"distance":null,"reason":"","readings":[["","",null],["","x"]]}',
    ],
)  # fmt: skip
def test_ov9_nonsense_is_no_answer(text: bytes) -> None:
    """Whatever a process says that has read hostile bytes is an answer or a ValueError."""
    with pytest.raises(ValueError, match="not an answer"):
        read_answer(text)


@pytest.mark.slow
async def test_ov9_the_process_does_not_outlive_a_killed_worker(bench: Bench) -> None:
    """SIGKILL of the worker: its comparing process is gone, although it is stopped."""
    body = ok(tensor(2_000))
    stable, candidate = [await bench.upstream(answering(body)) for _ in range(2)]
    async with worker(stable, candidate.port, in_the_end_free=False, mirror_bp=10_000) as process:
        client = await dial(bench, process.port)
        assert (await client.ask("POST", "/", b"x")).status == 200
        await until(lambda: children(process.pid), "the process starts")
        (child,) = children(process.pid)
        nice = os.getpriority(os.PRIO_PROCESS, 0) + 10
        await until(lambda: os.getpriority(os.PRIO_PROCESS, child) == nice, "it is past its first steps")
        os.kill(child, signal.SIGSTOP)  # so that it cannot end by itself
        os.kill(process.pid, signal.SIGKILL)
        await until(lambda: gone(child), "it is gone")


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_ov9_long_answers_are_bounded_and_short_ones_always_fit() -> None:
    """One by its length, all by their sum; what is let go makes room, once."""
    answers = Answers(longest_bytes=100 * KIB, limit_bytes=150 * KIB)
    long, second, third = [Side(Role.STABLE, answers) for _ in range(3)]
    for _ in range(10):
        long.add(b"x" * 10 * KIB)
        second.add(b"x" * 10 * KIB)
    assert (b"".join(long.body or []), second.body, second.missing) == (b"x" * 100 * KIB, None, "size: no_room")
    assert answers.held_bytes == 100 * KIB
    long.add(b"x")
    assert (long.body, long.missing, long.body_bytes) == (None, "size: too_long", 100 * KIB + 1)
    assert answers.drops == {"no_room": 1, "too_long": 1}
    assert answers.held_bytes == 0
    third.add(b"x" * 100 * KIB)
    short = Side(Role.CANDIDATE, answers)
    for _ in range(SMALL_BYTES):
        short.add(b"x")
    assert answers.held_bytes == 100 * KIB
    assert short.body == [b"x" * SMALL_BYTES]
    for _ in range(2):
        third.let_go("")
        long.let_go("")
    assert answers.held_bytes == 0


async def test_ov9_only_so_many_pairs_wait(bench: Bench) -> None:
    """The queue of pairs is bounded; what does not fit is told and counted at once."""
    del bench
    large = LargeAnswers(COMPARE, lambda: 0.0)
    told: list[str] = []
    half = HALVES["labels"]
    for _ in range(WAITING + 3):
        job = large_answers.Job(
            PluginUse("open_inference"),
            PluginUse("label"),
            half,
            half,
            lambda found: told.append(found.comparison.reason),
        )
        large.put(job)
    assert told == ["size: waiting"] * 3
    assert large.drops == {"waiting": 3}


async def test_ov9_answers_beyond_the_settings_are_not_compared(bench: Bench) -> None:
    """`recorder.answer` and `recorder.answers`: the client has its answer, the pair its sizes and the reason."""
    body = tensor(10_000)
    config = RecorderConfig(answer_bytes=len(body) - 1, answers_bytes=2 * len(body))
    gateway = await shadowed(bench, ok(body), ok(body), recorder=config)
    await ask(bench, 3)
    pairs: list[Pair] = await gateway.pairs(3)
    assert {(pair.comparison.same, pair.comparison.reason) for pair in pairs} == {(None, "size: too_long")}
    assert {(pair.stable.body_bytes, pair.candidate.body_bytes) for pair in pairs} == {(len(body), len(body))}
    assert gateway.dropped("answer", "too_long") == 6
    assert pid_of(gateway) is None
    assert gateway.held() == {}


def test_ov9_a_question_holds_the_bodies_themselves() -> None:
    """Eight MiB are not copied to be asked about."""
    body = bytearray(b"x" * 100)
    head, first = question(PluginUse("a"), PluginUse("c"), Half(200, [b"x: \xe9"], [body], ""), HALVES["nothing"])
    assert first is body
    assert LENGTH.unpack(head[: LENGTH.size])[0] == len(head) - LENGTH.size
