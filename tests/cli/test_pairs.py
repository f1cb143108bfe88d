"""`turnout pairs` and `turnout diff` against a real Turnout whose store holds pairs of every kind, hostile ones too."""
# ruff: noqa: ANN401 - test folders are no packages, so the classes of conftest.py have no importable name

import asyncio
import csv
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router.cli.export import COLUMNS, cell
from router.core.observations import Comparison, Outcome, Pair, Payload
from router.core.ports import RecordBatch
from router.store.codec import encode_pairs
from router.store.redis import RedisStore
from router.testing.samples import sample_pair

Turnout = Callable[..., Any]

EVIL = "\x1b[2Jno\x9b31m\u202e\r\nforged"
BREAKS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What may stand in no line that a terminal gets."""

MANY = 4_000

SAME = Comparison("label", same=True, distance=0.0)
NOT = Comparison("label", same=None, reason="no answer of candidate: timeout")


def different(number: int, **changes: Any) -> Pair:
    """Return a pair whose answers differ."""
    return replace(sample_pair("digits", number, "odd"), **changes)


ODD = (
    different(1, slices=(("tenant", "acme"), ("region", "eu"))),
    different(2, slices=(("tenant", "umbrella"),), comparison=Comparison("label", same=False, distance=0.25)),
    different(3, comparison=NOT, candidate=replace(sample_pair("d").candidate, outcome=Outcome.TIMEOUT, status=0)),
    different(4, request_id=EVIL, comparison=Comparison(EVIL, same=False, distance=1.0, reason=EVIL)),
    different(5, request_id="twice"),
    different(6, request_id="twice"),
    different(7, payload=Payload('{"who":"anna"}', '{"a":[1,{"b":2}],"x":0}', '{"a":[1,{"b":"\\u001b"}],"new":null}')),
    different(8, stable=replace(sample_pair("d").stable, label="x" * 2**20), request_id="huge"),
    different(9, payload=Payload("[" * 250 + "]" * 250, json.dumps(list(range(3_000))), "[]"), request_id="long"),
)  # fmt: skip


def socket_of(running: Any) -> str:
    """Return where the embedded store listens."""
    (socket,) = [path for path in running.home.rglob("*") if path.is_socket()]
    return f"unix://{socket}"


@pytest.fixture(scope="module")
def kept(served: Any) -> int:
    """Fill the pair log of `digits` with 4,000 pairs that are all the same, three odd old ones and six newer ones."""
    plain = [replace(sample_pair("digits", number), comparison=SAME) for number in range(MANY)]
    some_hundred = [plain[at : at + 500] for at in range(0, MANY, 500)]
    batches: list[Sequence[Pair]] = [some_hundred[0], ODD[:3], *some_hundred[1:-1], ODD[3:], some_hundred[-1]]

    async def write() -> None:
        store = RedisStore(socket_of(served))
        for sequence, some in enumerate(batches, 1):
            payload = encode_pairs(some)
            await store.append(RecordBatch("digits", some[0].rollout, "g1", sequence, len(some), payload, {}), 2**26)
        await store.close()

    asyncio.run(write())
    return MANY + len(ODD)


def ids(done: Any) -> list[str]:
    """Return the pairs of `-o json`, one a line."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["pair_id"] for line in done.stdout.splitlines()]


@pytest.mark.usefixtures("kept")
def test_those_that_differ_come_first(turnout: Turnout) -> None:
    """Then the newest others, as many as were asked for; --newest leaves them in their order.

    The old ones that differ are found within half a second or not, and then a note says so.
    """
    odd = [f"odd-{number}" for number in (9, 8, 7, 6, 5, 4, 2, 1)]
    newest = [f"boot1-{number}" for number in range(MANY - 1, MANY - 100, -1)]
    assert ids(turnout("pairs", "-n", "3", "-o", "json")) == odd[:3]
    done = turnout("pairs", "-n", "30", "-o", "json")
    searched = "not all pairs were searched for those that differ" not in done.stderr
    assert ids(done) in [(odd + newest)[:30], *([] if searched else [(odd[:6] + newest)[:30]])]
    assert ids(turnout("pairs", "--newest", "-n", "5", "-o", "json")) == newest[:5]
    lines = turnout("pairs", "digits").stdout.splitlines()
    assert len(lines) == 1 + 20
    assert lines[0].split() == ["TIME", "REQUEST", "SERVED", "SLICES", "STABLE", "CANDIDATE", "DISTANCE", "SAME"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--disagreements", "--slice", "tenant=acme"], [1]),
        (["--slice", "tenant=acme", "--slice", "region=us"], []),
        (["--outcome", "timeout"], [3]),
        (["--not-compared"], [3]),
        (["--disagreements", "--min-distance", "0.5", "-n", "100"], [9, 8, 7, 6, 5, 4, 1]),
        (["--request-id", "twice"], [6, 5]),
        (["--disagreements", "--since", "2026-09-21T14:13:21Z", "--until", "2026-09-21T14:13:23Z"], [2, 1]),
    ],
)
@pytest.mark.usefixtures("kept")
def test_pairs_are_found_by_what_they_are_however_old(
    turnout: Turnout, options: list[str], expected: list[int]
) -> None:
    """Thousands of newer ones are looked through."""
    assert ids(turnout("pairs", *options, "-o", "json")) == [f"odd-{number}" for number in expected]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--slice", "acme"], "expected NAME=VALUE"),
        (["--min-distance", "nan"], "expected a finite number"),
        (["--outcome", "sad"], "'timeout'"),
        (["--since", "yesterday"], "a duration such as 30m (so long ago), or a time"),
        (["--same", "--disagreements"], "exclude each other"),
        (["-n", "1001"], "a table shows 1,000 at most"),
        (["--export", "pairs.xlsx"], "a name that ends in .jsonl or .csv is expected"),
        (["--export", "pairs.csv", "--payloads"], "--payloads needs JSON"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_with_what_would_do(
    turnout: Turnout, options: list[str], said: str
) -> None:
    """Exit status 2."""
    done = turnout("pairs", *options)
    assert (done.returncode, said in " ".join(done.stderr.split())) == (2, True), done.stderr


@pytest.mark.parametrize("options", [[], ["-o", "json"], ["--disagreements", "-n", "100"]], ids=str)
@pytest.mark.usefixtures("kept")
def test_se8_no_pair_can_steer_the_terminal_or_forge_a_line(turnout: Turnout, options: list[str]) -> None:
    """Ids, comparators and reasons come out escaped; a label of 1 MiB is cut, in JSON it is whole."""
    done = turnout("pairs", *options)
    assert "forged" in done.stdout
    assert not BREAKS.search(done.stdout)
    assert not any(line.startswith("forged") for line in done.stdout.splitlines())
    if "json" in options:
        told = [json.loads(line) for line in done.stdout.splitlines()]
        assert EVIL in {one["request_id"] for one in told}
        assert max(len(one["stable"]["prediction"]["label"]) for one in told) == 2**20
    else:
        assert max(map(len, done.stdout.splitlines())) < 600


def test_every_kept_pair_is_exported_as_json_lines(turnout: Turnout, kept: int, tmp_path: Path) -> None:
    """Newest first, each once, as `-o json` shows it; the file that was there is replaced."""
    path = tmp_path / "all.jsonl"
    path.write_text("older")
    done = turnout("pairs", "--export", str(path))
    assert (done.returncode, done.stdout) == (0, f"{kept:,} pairs written to {path}\n")
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    told = [json.loads(line)["pair_id"] for line in lines]
    assert (len(told), len(set(told))) == (kept, kept)
    assert (told[0], told[-1]) == (f"boot1-{MANY - 1}", "boot1-0")
    assert lines[:5] == turnout("pairs", "--newest", "-n", "5", "-o", "json").stdout.splitlines()
    assert [one.name for one in tmp_path.iterdir()] == ["all.jsonl"]


@pytest.mark.usefixtures("kept")
def test_a_csv_has_one_line_for_each_pair_and_no_formula(turnout: Turnout, tmp_path: Path) -> None:
    """All filters work, and every column has its name; what a model or a client wrote stays in its cell."""
    path = tmp_path / "odd.csv"
    assert turnout("pairs", "--disagreements", "--export", str(path)).returncode == 0
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows[1]["stable_label"]) == 32_767
    assert [row["pair_id"] for row in rows] == [f"odd-{number}" for number in (9, 8, 7, 6, 5, 4, 2, 1)]
    last = rows[-1]
    assert (last["stable_label"], last["candidate_score"], last["same"], last["distance"]) == (
        "7",
        "0.51",
        "false",
        "1.0",
    )
    assert json.loads(last["slices"]) == {"tenant": "acme", "region": "eu"}
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) == 1 + len(rows)
    assert not BREAKS.search(text.replace("\r\n", ""))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("=1+1", "'=1+1"), ("@SUM(A1)", "'@SUM(A1)"), ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"), ("-x", "'-x"),
        ("\t=1", "\\t=1"), (" =1", "' =1"), ('"=1', "'\"=1"), ("a;=1", "a;'=1"), ("a; \u200b", "a; \u200b"),
        ("\uff1dHYPERLINK(1)", "'\uff1dHYPERLINK(1)"), ("=1\r\n=2", "'=1\\r\\n=2"),
        ("-1", "-1"), ("+1.5e-3", "+1.5e-3"), ("-1+1", "'-1+1"), ("7", "7"), ("spam", "spam"), ("a=b", "a=b"),
        (-1.5, -1.5), (True, "true"), (None, None), ("", ""),
    ],
)  # fmt: skip
def test_a_cell_is_never_a_formula(value: object, expected: object) -> None:
    """Numbers stay numbers, also those that are the names of classes."""
    assert cell(value) == expected


@pytest.mark.usefixtures("kept")
def test_an_export_that_cannot_be_finished_leaves_the_old_file(turnout: Turnout, tmp_path: Path) -> None:
    """Wherever it breaks off: no half of a file, and nothing beside it."""
    path = tmp_path / "pairs.csv"
    path.write_text("older")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    script = (
        "import resource, signal, sys; from router.cli.commands import run;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); run(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "pairs", "--export", str(path)], capture_output=True, text=True, check=False
    )
    assert before == resource.getrlimit(resource.RLIMIT_FSIZE)
    assert (done.returncode, "cannot be written" in done.stderr) == (1, True), done.stderr
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]
    missing = turnout("pairs", "--export", str(tmp_path / "nowhere" / "pairs.csv"))
    assert (missing.returncode, "No such file or directory" in missing.stderr) == (1, True)


@pytest.mark.usefixtures("kept")
def test_a_pair_is_shown_side_by_side_with_what_differs_marked(turnout: Turnout) -> None:
    """The rows of both answers; a latency always differs, so it has no mark."""
    done = turnout("diff", "digits", "request-1", "--pair", "odd-1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["Request:", "request-1"]
    assert "Slices:      tenant=acme region=eu" in lines
    assert "Same:        NO label 7 against 1, distance 1" in lines
    assert [line.split() for line in lines[lines.index("") + 1 :]] == [
        ["stable", "candidate"], ["outcome", "ok", "ok"], ["status", "200", "200"],
        ["latency", "1.2", "ms", "2.5", "ms"], ["≠", "bytes", "312", "310"],
        ["≠", "digest", "91b7584a2265b1f5", "0b1c2d3e4f506172"],
        ["≠", "label", "7", "1"], ["≠", "score", "0.98", "0.51"],
    ]  # fmt: skip
    assert "payload" not in json.loads(turnout("diff", "request-1", "--pair", "odd-1", "-o", "json").stdout)


@pytest.mark.usefixtures("kept")
def test_payloads_are_compared_place_by_place(turnout: Turnout) -> None:
    """Only what differs is shown, escaped, with its path; and what was sent."""
    done = turnout("diff", "request-7", "--pair", "odd-7", "--payloads")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if "$" in line]
    assert rows == [["≠", "$.a[1].b", "2", '"\\u001b"'], ["≠", "$.x", "0", "-"], ["≠", "$.new", "-", "null"]]
    assert 'Sent:        {"who": "anna"}' in done.stdout.splitlines()
    long = turnout("diff", "long", "--payloads")
    assert "answers: 100 kept places differ; 2901 more that differ: -o json shows them" in long.stdout
    assert len(long.stdout.splitlines()) < 130


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nobody"], 1, "no pair of request nobody"),
        (["twice"], 2, "2 pairs of request twice: clients may use an id twice"),
        (["twice", "--pair", "odd-1"], 2, "none of them is the one of --pair"),
        (["request-1", "--pair", "odd-1", "--payloads"], 1, "no payload of this pair is kept"),
        (["nowhere", "request-1"], 1, "nowhere"),
        ([], 2, "REQUEST_ID"),
        (["r" * 129], 2, "at most 128 characters"),
        ([EVIL + "none"], 1, "no pair of request \\x1b[2Jno"),
    ],
    ids=["none", "several", "not that one", "no payload", "no route", "no id", "no id at all", "hostile"],
)
@pytest.mark.usefixtures("kept")
def test_a_pair_that_cannot_be_shown_is_said_so(turnout: Turnout, arguments: list[str], status: int, said: str) -> None:
    """What there is instead, and what to do."""
    done = turnout("diff", *arguments)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert not BREAKS.search(done.stderr)


@pytest.mark.usefixtures("kept")
def test_se8_a_hostile_pair_is_shown_side_by_side_and_escaped(turnout: Turnout) -> None:
    """By its own id, and a label of 1 MiB in a line of ordinary length."""
    done = turnout("diff", EVIL)
    assert (done.returncode, "Request:     \\x1b[2Jno\\x9b31m\\u202e\\r\\nforged" in done.stdout) == (0, True)
    huge = turnout("diff", "huge")
    assert max(map(len, huge.stdout.splitlines())) < 200
    assert not BREAKS.search(done.stdout + huge.stdout)


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_long_pair_log_is_exported_in_bounded_memory(
    starter: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """8 MiB of pairs: every one of them, and the command takes no more memory than for a few."""
    serve = starter("serve", starter.config()).wait_ready()
    batch = encode_pairs([sample_pair("digits", number, "boot-0000") for number in range(500)])
    batches = 2**23 // (len(batch) + 128)

    async def write() -> None:
        store = RedisStore(socket_of(serve))
        for number in range(1, batches + 1):
            payload = batch.replace(b"boot-0000", b"boot-%04d" % number)
            await store.append(RecordBatch("digits", sample_pair("d").rollout, "g1", number, 500, payload, {}), 2**26)
        await store.close()

    asyncio.run(write())
    path = tmp_path / "all.jsonl"

    def run(*options: str) -> tuple[float, int]:
        """Export; return seconds and the most memory of the command, in MiB."""
        began_s = time.monotonic()
        command = [
            sys.executable,
            "-m",
            "router",
            "pairs",
            "--export",
            str(path),
            "--url",
            serve.url("admin"),
            *options,
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return time.monotonic() - began_s, usage.ru_maxrss // 1024

    _, few_mib = run("-n", "1000")
    all_s, all_mib = run()
    with path.open("rb") as lines:
        ids = {line.split(b'"', 6)[5] for line in lines}
    assert len(ids) == batches * 500
    assert all_mib <= few_mib + 8
    began_s = time.monotonic()
    nobody = [sys.executable, "-m", "router", "diff", "nobody", "--url", serve.url("admin")]
    searched = subprocess.run(nobody, capture_output=True, text=True, check=False)
    searched_s = time.monotonic() - began_s
    assert "no pair of request nobody" in searched.stderr
    with capsys.disabled():
        size_mib = path.stat().st_size / 2**20
        print(f"\n{len(ids):,} pairs, {size_mib:.0f} MiB, {all_s:.1f} s, {all_mib} MiB ({few_mib} for 1,000)")  # noqa: T201
        print(f"searched in vain in {searched_s:.1f} s")  # noqa: T201


def test_pairs_of_a_store_that_is_down_are_an_error_that_says_so(starter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No empty table, no empty file."""
    config = starter.config(store={"url": f"unix://{starter.home}/nobody.sock"})
    control = starter("control", config).wait_ready()
    environ = {"TURNOUT_URL": control.url("admin")}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    path = starter.home / "pairs.jsonl"
    for arguments in (["pairs"], ["pairs", "--export", str(path)], ["diff", "one"]):
        done = subprocess.run([sys.executable, "-m", "router", *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "the store does not answer" in done.stderr
    assert not list(starter.home.glob("*pairs*"))
