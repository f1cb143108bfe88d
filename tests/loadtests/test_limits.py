"""Each limit of a load test holds and is missed where it should be; shapes and report are what they say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.under_load import limits, report
from loadtests.under_load.__main__ import options_of
from loadtests.under_load.limits import findings
from loadtests.under_load.options import Options
from loadtests.under_load.protocols import PROTOCOLS
from loadtests.under_load.scenario import Fault, Limits, load, merged, names, routes
from loadtests.under_load.shapes import SHAPES, Shape, users_at
from loadtests.under_load.timeline import DIRECT, OPEN, OPEN_DIRECT, TURNOUT, Answer, Event, Stand, Timeline

SECONDS = 100.0
LIMITS = Limits(reached="promoted", held=True, p99_times=2.0, p99_slack_ms=5.0)
FAULT = Fault("store", "kill", 2_500, undo="restart", undo_after=0.4)
OPTIONS = Options("store-dies", "python", 40, SECONDS / 60, "", "", rate_s=20.0)


def good() -> Timeline:
    """Return what a run saw that kept every limit: 10 requests a second, every fourth served by the candidate."""
    seen = Timeline(SECONDS)
    for number in range(1_000):
        side = "candidate" if number % 4 == 0 else "stable"
        seen.answers.append(Answer(number / 10, TURNOUT, 8.0, side=side))
        seen.answers += [Answer(number / 10, source, 5.0) for source in (DIRECT, OPEN, OPEN_DIRECT)]
    seen.stands += [
        Stand(0.0, "digits", "progressing", "", 0, 10_000),
        Stand(10.0, "digits", "progressing", "", 2_500, 10_000),
        Stand(90.0, "digits", "promoted", "both gates pass", 0, 0),
    ]
    seen.fault_s = 20.0, 60.0
    seen.events += [Event(90.0, "promote", "both <gates> pass"), Event(20.0, "fault", "store: kill")]
    return seen


def missed(seen: Timeline, asked: Limits = LIMITS) -> list[str]:
    """Return what was missed, by the first words."""
    return [one.what for one in findings(asked, FAULT, seen, requests_per_user=3) if not one.passed]


def test_a_good_run_keeps_every_limit() -> None:
    """Nothing is missed, and each limit is told of once."""
    assert missed(good()) == []
    assert len(findings(LIMITS, FAULT, good(), requests_per_user=3)) == 7


@pytest.mark.parametrize("source", [TURNOUT, OPEN])
def test_one_error_is_one_too_many(source: str) -> None:
    """Wherever a client saw it; direct requests are nobody's clients."""
    seen = good()
    seen.answers.append(Answer(50.0, source, 1.0, failed="503"))
    assert missed(seen) == ["errors that clients saw"]
    seen = good()
    seen.answers.append(Answer(50.0, DIRECT, 1.0, failed="503"))
    assert missed(seen) == []


@pytest.mark.parametrize(("mine", "other"), [(TURNOUT, DIRECT), (OPEN, OPEN_DIRECT)])
def test_the_tail_is_compared_with_direct_requests(mine: str, other: str) -> None:
    """2 % of late answers are too many, 0.5 % are not, and the warm-up does not count."""
    for late, found in ((20, [f"p99 of {mine} beside {other}"]), (5, [])):
        seen = good()
        seen.answers += [Answer(50.0, mine, 400.0, side="") for _ in range(late)]
        assert missed(seen) == found
    seen = good()
    seen.answers += [Answer(1.0, mine, 400.0) for _ in range(20)]
    assert missed(seen) == []


def test_no_figure_is_no_success() -> None:
    """Without direct requests, without a rollout, without any answer, limits are missed."""
    assert len(missed(Timeline(SECONDS))) == 6
    seen = good()
    seen.answers = [one for one in seen.answers if one.source != DIRECT]
    assert missed(seen) == [f"p99 of {TURNOUT} beside {DIRECT}"]


def test_another_end_than_the_asked_one_is_missed() -> None:
    """Also where one of several rollouts ended otherwise, and where the reason is another."""
    seen = good()
    seen.stands.append(Stand(95.0, "text", "paused", "inconclusive", 0, 0))
    assert missed(seen) == ["how the rollout of text ended"]
    assert missed(good(), replace(LIMITS, reason="shadow")) == ["how the rollout of digits ended"]


def test_users_may_go_back_only_once_the_weight_has_fallen() -> None:
    """At 90 s the rollout has ended."""
    seen = good()
    seen.flips = [95.0]
    assert missed(seen) == []
    seen.flips = [50.0]
    assert missed(seen) == ["users who went back from candidate to stable before its weight fell"]


@pytest.mark.parametrize("share", [0, 2])
def test_the_split_must_hold_while_the_fault_lasts(share: int) -> None:
    """Nobody, or every second one, where it should be every fourth."""
    seen = good()
    seen.answers = [
        replace(one, side="candidate" if share and number % share == 0 else "stable") if one.source == TURNOUT else one
        for number, one in enumerate(seen.answers[::4] + seen.answers)
    ]
    assert limits.findings(LIMITS, FAULT, seen, 3)[-1].what in missed(seen)


def test_a_run_in_which_nothing_broke_has_shown_nothing() -> None:
    """Nor one that ended before everything was whole again, unless what breaks stays broken."""
    seen = good()
    seen.fault_s = 20.0, SECONDS
    assert missed(seen) == ["store: kill"]
    seen.fault_s = None
    assert "store: kill" in missed(seen)
    hang, limits_of_it = Fault("candidate", "hang", 2_500), replace(LIMITS, held=False)
    assert [one.passed for one in findings(limits_of_it, hang, seen, 3)][-1] is False
    seen.fault_s = 20.0, SECONDS
    assert [one.passed for one in findings(limits_of_it, hang, seen, 3)][-1] is True


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_shape_has_somebody_from_the_first_second_on_and_never_more_than_all(shape: Shape) -> None:
    """And nobody when the time is over."""
    users = [users_at(shape, second, SECONDS, 40) for second in range(100)]
    assert all(count is not None and 1 <= count <= 40 for count in users)
    assert users_at(shape, SECONDS, SECONDS, 40) is None


def test_shapes_are_told_apart_by_where_all_users_are_there() -> None:
    """Seconds at which at least 90 % of the users are there, of 100."""
    most = {name: sum(shape(second / 100) >= 0.9 for second in range(100)) for name, shape in SHAPES.items()}
    assert most == {"constant": 98, "step": 25, "ramp": 55, "spike": 10, "diurnal": 22, "soak": 0}


def test_every_scenario_can_be_missed_and_names_known_protocols() -> None:
    """A scenario without a protection to take away proves nothing."""
    assert len(names()) == 6
    for name in names():
        scenario = load(name)
        assert scenario.plant or scenario.without_protection or scenario.gateways
        assert set(scenario.protocols) <= {*PROTOCOLS, "openai"}
        urls = {"v1": "http://127.0.0.1:1", "v2": "http://127.0.0.1:2"}
        both = [routes(scenario, 60.0, urls, protected=protected) for protected in (True, False)]
        assert (both[0] != both[1]) == bool(scenario.without_protection)


def test_changes_go_into_a_block_and_leave_the_rest_of_it() -> None:
    """As in a values file."""
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}}) == {"a": {"b": 1, "c": 4}, "d": 3}


def test_the_report_needs_nothing_from_elsewhere_and_has_one_axis() -> None:
    """Three pictures, each with every event and the fault; texts are escaped."""
    seen = good()
    page = report.as_html(OPTIONS, load("store-dies"), seen, findings(LIMITS, FAULT, seen, 3))
    assert "http" not in page
    assert "src=" not in page
    assert page.count("<svg") == 3
    assert page.count('class="event"') == 3 * len(seen.events)
    assert page.count('class="fault"') == 3
    assert "both &lt;gates&gt; pass" in page
    assert page.index("store: kill") < page.index("both &lt;gates&gt; pass"), "in the order of time"


def test_the_figures_are_json_with_the_verdict() -> None:
    """What `--json` writes."""
    seen = good()
    figures = json.loads(report.as_json(OPTIONS, seen, findings(LIMITS, FAULT, seen, 3)))
    assert figures["passed"] is True
    assert figures["sources"][TURNOUT] == {
        "requests": 970, "failures": {}, "p50_ms": 8.0, "p99_ms": 8.0, "p999_ms": 8.0,
    }  # fmt: skip
    assert [one["what"] for one in figures["events"]] == ["fault", "promote"]


def test_a_shorter_wish_means_the_usual_run() -> None:
    """Two minutes, 40 users, protected, with a report named after the scenario."""
    options, headless = options_of(["canary-ramp", "--headless"])
    assert headless
    assert (options.users, options.seconds, options.protected, options.shape) == (40, 120.0, True, "")
    assert Path(options.report).name == "loadtest-canary-ramp.html"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["no-such"], "invalid choice"),
        (["canary-ramp", "--url", "http://127.0.0.1:8080"], "go together"),
        (["store-dies", "--url", "http://a", "--admin-url", "http://b"], "of its own"),
        (["canary-ramp", "--minutes", "0"], "positive"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By argparse, with exit status 2, before anything starts."""
    with pytest.raises(SystemExit) as ended:
        options_of(arguments)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err
