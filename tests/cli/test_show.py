"""Bodies of the API as lines for a person."""

from typing import Any

import pytest

from router.cli import show
from router.cli.options import duration_s, share
from router.cli.waiting import Goal, verdict

NOW_S = 1_764_000_000.0
SINCE = "2025-11-24T15:55:00.000000Z"


def rollout(**changed: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of a body
    """Return a rollout as the API tells it."""
    body = {
        "route": "digits", "id": "ab12.1", "revision": 7, "epoch": 1, "phase": "progressing", "reason": "next step",
        "policy": "canary", "step": 1, "steps": [{}, {}, {}, {}], "stable": "v1", "candidate": "v2",
        "exposure": {"id": 7, "weight_bp": 1000, "mirror_bp": 1050, "since": SINCE},
        "judgement": {
            "rollback": False, "promote": False, "invalid": None, "reason": "not judged",
            "gates": [
                {"verdict": "fail", "sentence": "errors: too many", "enforced": True},
                {"verdict": "inconclusive", "sentence": "speed: undecided", "enforced": False},
            ],
            "counts": {"requests_stable": 904, "requests_candidate": 96, "pairs": 101},
        },
        "waits_for": "baking: 12 s of 60 s",
        "replicas": [
            {"id": "b1", "host": "h", "pid": 11, "revision": 7, "applied_at": SINCE, "seen": SINCE},
            {"id": "b2", "host": "h", "pid": 12, "revision": 6, "applied_at": SINCE, "seen": SINCE},
        ],
    }  # fmt: skip
    return {**body, **changed}


def route(**changed: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of a body
    """Return a Route as the API tells it."""
    unnamed = {"model": None, "version": None, "path": None}
    variants = [{"name": name, "urls": [f"http://127.0.0.1/{name}"], **unnamed} for name in ("v1", "v2", "v0")]
    variants[1] |= {"model": "digits-v2", "version": "3"}
    return {"name": "digits", "variants": variants, "pending": None, "drift": None, "rollout": rollout(**changed)}


def test_slices_with_a_place_are_listed_and_gates_of_each_are_told_apart() -> None:
    """Values are text, whatever they look like; an older control process tells of none."""
    gate = {"verdict": "fail", "sentence": "each@t=[red]: too many", "enforced": True, "proves": False}
    judgement = {**rollout()["judgement"], "gates": [gate]}
    told = route(slices=["t=other", "t=none", "t=[red]"], free_places=4, judgement=judgement)
    lines = [line.text for line in show.rollout_tree(told, NOW_S)]
    assert "Slices:        t=other, t=none, t=[red] (places free: 4)" in lines
    assert "  ✖ each@t=[red]: too many (looks for harm only)" in lines
    assert not [line for line in show.rollout_tree(route(), NOW_S) if line.text.startswith("Slices")]


def test_the_tree_shows_set_and_actual_weight_and_who_lags_behind() -> None:
    """What was asked for and what was served stand beside each other; a gateway with an older revision is marked."""
    lines = [line.text for line in show.rollout_tree(route(), NOW_S)]
    assert lines == [
        "Name:          digits",
        "Status:        ◌ Progressing",
        "Message:       next step",
        "Policy:        canary",
        "Step:          2/4",
        "SetWeight:     10%",
        "ActualWeight:  9.6% of 1000 requests",
        "Mirror:        10.5%, 101 pairs",
        "Stable:        v1",
        "Candidate:     v2",
        "Since:         5m",
        "WaitsFor:      baking: 12 s of 60 s",
        "Judgement:     not judged",
        "  ✖ errors: too many",
        "  ◌ speed: undecided (dry run)",
        "",
        "digits",
        "├── v1  stable  90%",
        "│   └── http://127.0.0.1/v1",
        "├── v2  candidate  10%  model digits-v2  version 3",
        "│   └── http://127.0.0.1/v2",
        "├── v0  unused",
        "│   └── http://127.0.0.1/v0",
        "└── gateways",
        "    ├── ✔ b1  h pid 11  revision 7  heard 5m ago",
        "    └── ◌ b2  h pid 12  revision 6  heard 5m ago",
    ]


def test_the_tree_says_how_a_halted_rollout_goes_on() -> None:
    """Beside the breaker's reason, which is the message; a rollout that is not halted has no such line."""
    lines = [line.text for line in show.rollout_tree(route(phase="paused", halted=True, reason="5 failures"), NOW_S)]
    assert lines[1:4] == [
        "Status:        ॥ Paused",
        "Message:       5 failures",
        "Halted:        by a breaker; `turnout resume` goes on with this step's weight",
    ]
    assert not any("Halted" in line.text for line in show.rollout_tree(route(halted=False), NOW_S))


def test_a_route_without_a_rollout_is_shown_without_steps() -> None:
    """Nothing is made up where there is nothing."""
    counts = {"requests_stable": 0, "requests_candidate": 0, "pairs": 0}
    idle = rollout()["judgement"] | {"counts": counts}
    shown = [
        line.text
        for line in show.rollout_tree(
            route(phase="idle", policy="", candidate="", steps=[], replicas=[], judgement=idle), NOW_S
        )
    ]
    assert "Status:        · Idle" in shown
    assert "Candidate:     -" in shown
    assert not any(line.startswith(("Step:", "ActualWeight:")) for line in shown)


def test_waiting_blocks_and_drift_stand_out() -> None:
    """A block that has not started and a file that differs from the store are shown in colour."""
    body = {**route(), "pending": {"candidate": "v3", "policy": "shadow", "why": "waits"}, "drift": "file says v9"}
    found = {line.text: line.style for line in show.rollout_tree(body, NOW_S)}
    assert found["Pending:       v3 by shadow: waits"] == "yellow"
    assert found["Drift:         file says v9"] == "yellow"


def test_se8_nothing_from_the_api_can_steer_the_terminal() -> None:
    """Reasons, names and labels come out escaped wherever they are shown."""
    evil = "\x1b[2J\nname: forged\u202e"
    body = route(reason=evil, stable=evil, candidate=evil, policy=evil)
    side = {"outcome": evil, "status": 200, "latency_ms": 1.0, "prediction": {"label": evil, "score": None}}
    pair = {
        "assigned_at": SINCE, "request_id": evil, "served": evil, "stable": side, "candidate": side,
        "comparison": {"same": False, "distance": None, "reason": evil}, "slices": {evil: evil},
    }  # fmt: skip
    lines = [
        *show.rollout_tree(body, NOW_S), show.status_line(rollout(reason=evil, phase=evil)), *show.pair_table([pair]),
    ]  # fmt: skip
    for line in lines:
        assert not any(character in line.text for character in "\x1b\n\u202e")


@pytest.mark.parametrize(
    ("basis_points", "shown"), [(0, "0%"), (1, "0.01%"), (50, "0.5%"), (1000, "10%"), (10_000, "100%")]
)
def test_shares_are_written_as_in_the_configuration(basis_points: int, shown: str) -> None:
    """No digit too many, none too few."""
    assert show.percent(basis_points) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-3, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m"), (200, "3m20s"), (7_500, "2h5m"), (90_061, "1d1h")],
)
def test_ages_take_their_two_largest_units(seconds: float, shown: str) -> None:
    """Short enough for a column, also when a clock is a bit ahead."""
    assert show.age(seconds) == shown


def test_pairs_say_whether_the_answers_are_the_same() -> None:
    """Same, different with the reason, or not compared with the reason."""
    side = {"outcome": "ok", "status": 200, "latency_ms": 3.14, "prediction": {"label": "7", "score": 0.9}}
    pair = {"assigned_at": SINCE, "request_id": "r1", "served": "stable", "stable": side, "candidate": side}
    comparisons = [
        {"same": True, "distance": 0.0, "reason": ""}, {"same": False, "distance": 0.25, "reason": "label"},
        {"same": None, "distance": None, "reason": "size"},
    ]  # fmt: skip
    lines = show.pair_table([{**pair, "comparison": comparison, "slices": {}} for comparison in comparisons])
    shown = [line.text.rsplit("ms 7", 1)[1].split(maxsplit=1) for line in lines[1:]]
    assert shown == [["0", "yes"], ["0.25", "NO label"], ["-", "not compared: size"]]
    assert "ok 200 3.1ms 7" in lines[1].text


@pytest.mark.parametrize(
    ("phase", "goal", "status"),
    [
        ("progressing", "promoted", None), ("paused", "promoted", None), ("idle", "promoted", None),
        ("promoted", "promoted", 0), ("rolled_back", "promoted", 3), ("rolled_back", "passed", 3),
        ("rolled_back", "rolled_back", 0), ("promoted", "rolled_back", 1), ("promoted", "passed", 0),
        ("progressing", "passed", None),
    ],
)  # fmt: skip
def test_a_wait_ends_with_the_promised_status(phase: str, goal: str, status: int | None) -> None:
    """0 reached, 3 rolled back, 1 cannot be reached any more, None for going on."""
    assert verdict(rollout(phase=phase), Goal(goal)) == status


def test_a_shadow_that_has_passed_is_passed() -> None:
    """Both ways of passing count: the judge would promote, or the shadow policy paused with its own reason."""
    assert verdict(rollout(phase="paused", reason="shadow_passed: 500 pairs"), Goal.PASSED) == 0
    assert verdict(rollout(judgement={"promote": True}), Goal.PASSED) == 0
    assert verdict(rollout(phase="paused", reason="shadow_passed"), Goal.PROMOTED) is None


def test_watching_where_lines_stay_ignores_what_changes_all_the_time() -> None:
    """Counts and signs of life are no news; a revision, a reason or a lagging gateway is."""
    same = rollout(judgement={"counts": "other"}, replicas=[{**one, "seen": "later"} for one in rollout()["replicas"]])
    assert show.essence(same) == show.essence(rollout())
    news: list[dict[str, Any]] = [{"revision": 8}, {"reason": "other"}, {"phase": "paused"}, {"replicas": []}]
    for changed in news:
        assert show.essence(rollout(**changed)) != show.essence(rollout())


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("45s", 45), ("2h", 7200), ("100ms", 0.1), ("5", 5)])
def test_durations_are_read_with_their_units(text: str, seconds: float) -> None:
    """A number alone is seconds."""
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "m", "-5s", "1 week", "1h30", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """The error says what would do."""
    with pytest.raises(Exception, match="expected a duration"):
        duration_s(text)


@pytest.mark.parametrize(("text", "read"), [("10%", "10%"), ("10", "10%"), ("0.5%", "0.5%"), ("100%", "100%")])
def test_shares_may_leave_out_the_sign(text: str, read: str) -> None:
    """A number alone is percent, as with other rollout tools."""
    assert share(text) == read


@pytest.mark.parametrize("text", ["", "%", "101%", "-1%", "nan", "half"])
def test_what_is_no_share_is_refused(text: str) -> None:
    """The error says what would do."""
    with pytest.raises(Exception, match="expected a share"):
        share(text)
