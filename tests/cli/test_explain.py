"""`turnout explain`: the API's words as lines for a person."""
# ruff: noqa: ANN401 - test folders are no packages, so the classes of conftest.py have no importable name

import json
from collections.abc import Callable
from typing import Any

import httpx

from router.cli.explained import explanation_lines

NOW_S = 1_764_000_000.0
SINCE = "2025-11-24T15:55:00.000000Z"
TOLD: dict[str, Any] = {
    "route": "digits", "rollout": "ab12.1", "revision": 7, "phase": "progressing", "reason": "next step",
    "policy": "canary", "step": 2, "steps": 5, "stable": "v1", "candidate": "v2",
    "exposure": {"id": 7, "weight_bp": 1_000, "mirror_bp": 500, "since": SINCE},
    "changes": [
        {
            "at": SINCE, "revision": 7, "kind": "advance", "actor": "control", "reason": "step 2 is done",
            "weight_bp": 1_000, "mirror_bp": 500,
        },
    ],
    "judgement": {
        "invalid": None, "reason": "not judged",
        "gates": [{"verdict": "pass", "sentence": "errors: fine", "enforced": True}],
    },
    "waits_for": "baking: 12 s of 60 s", "next": None, "missing": ["baking: 12 s of 60 s", "pairs: 3 of 500"],
    "limits": ["it pauses after 7d (max_duration); 5m have passed"], "operator": ["abort", "pause"], "decides": True,
}  # fmt: skip


def lines(**changed: Any) -> list[str]:
    """Return the lines of an explanation, the clock times of this machine's zone cut out."""
    return [line.text for line in explanation_lines({**TOLD, **changed}, NOW_S)]


def test_an_explanation_answers_why_and_what_would_make_it_move() -> None:
    """Who set the shares and why, what the gates say, what is waited for, and what can be done."""
    found = lines()
    found[5] = found[5][:2] + found[5].partition("  weight")[2]
    assert found == [
        "digits: ◌ Progressing, step 3 of 5",
        "v2 serves 10% and 5% are copied, for 5m now",
        "v1 serves 90%",
        "",
        "why 10%",
        "   10%, mirror 5%: advance by control: step 2 is done",
        "",
        "what the judge says",
        "  ✔ errors: fine",
        "",
        "what it waits for",
        "  baking: 12 s of 60 s",
        "",
        "what it needs to move by itself",
        "  baking: 12 s of 60 s",
        "  pairs: 3 of 500",
        "",
        "what ends the waiting",
        "  it pauses after 7d (max_duration); 5m have passed",
        "",
        "what an operator can do",
        "  abort, pause",
    ]


def test_what_happens_next_is_told_when_nothing_is_waited_for() -> None:
    """The next turn moves it."""
    found = lines(waits_for=None, missing=[], next={"kind": "advance", "reason": "step 3 is done"})
    assert found[found.index("what happens next") + 1] == "  advance: step 3 is done"
    assert "what it waits for" not in found


def test_a_process_that_does_not_decide_says_what_it_cannot_know() -> None:
    """Silence is counted by one process."""
    assert lines(decides=False)[-1].startswith("another control process decides")


def test_se8_nothing_in_an_explanation_can_steer_the_terminal() -> None:
    """Reasons and names come out escaped."""
    evil = "\x1b[2J\nname: forged\u202e"
    change = {**TOLD["changes"][0], "reason": evil, "actor": evil, "kind": evil}
    judgement = {"invalid": evil, "reason": evil, "gates": []}
    shown = lines(
        route=evil, stable=evil, candidate=evil, changes=[change], judgement=judgement, waits_for=evil, missing=[evil],
        limits=[evil], operator=[evil], next={"kind": evil, "reason": evil}, phase=evil,
    )  # fmt: skip
    assert not any(character in line for line in shown for character in "\x1b\n\u202e")


def test_explain_asks_a_running_turnout(turnout: Callable[..., Any], served: Any) -> None:
    """One endpoint; `-o json` is its body, and `get` shows in one line what is waited for."""
    assert turnout("start", "digits", "--candidate", "v2", "--policy", "canary").returncode == 0
    try:
        told = json.loads(turnout("explain", "-o", "json").stdout)
        assert told.keys() == httpx.get(served.url("admin") + "/v1/routes/digits/explain").json().keys()
        shown = turnout("explain", "digits").stdout
        assert "why 0%\n" in shown
        assert "start by operator:local: turnout start, by" in shown
        assert "WaitsFor:      baking: " in turnout("get").stdout
    finally:
        assert turnout("abort").returncode == 0
