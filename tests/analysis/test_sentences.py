"""What the judge says to a person, as whole sentences."""

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from router.analysis import families
from router.core.decisions import Judgement
from router.core.observations import BOTH, LOST, PAIR
from router.core.rollout import Exposure, GateSpec
from router.core.traffic import Role
from tests.analysis.cases import (
    ACCURACY,
    ALL_TRAFFIC,
    DISAGREEMENT,
    ERRORS,
    F1_FLOOR,
    F1_LOSS,
    FEW_ERRORS,
    GATES,
    HALF,
    LATENCY_GATE,
    NO_MORE_ERRORS,
    RECALL_FLOOR,
    SHADOW,
    Counters,
    agreements,
    case_of,
    copies,
    exposure,
    failures,
    judged,
    latencies,
    of_class,
    result_of,
    right,
    spread_ms,
)
from tests.analysis.ledger import paired, served

TENTH = exposure(1, 1_000)
ONCE = ", whenever one looks"


def test_of_the_issue() -> None:
    """The sentence that issue 3 asks for: both rates, both numbers, and how unlikely this is."""
    result = result_of(NO_MORE_ERRORS, failures(TENTH, (20_540, 82), (2_310, 44)), exposures=[TENTH])
    assert re.fullmatch(
        r"no more errors: candidate fails 1\.90 % against 0\.40 % \(n = 2,310 / 20,540\); the chance of ever seeing "
        r"this from an equal model is below 1 in [\d,]+, whenever one looks",
        result.sentence,
    )


@pytest.mark.parametrize(
    ("gate", "counters", "expected"),
    [
        (
            ERRORS, failures(HALF, (10_000, 20), (10_000, 300)),
            "errors: candidate fails 3.00 % against 0.20 % (n = 10,000 / 10,000); the chance of ever seeing this from "
            "a candidate worse by at most 0.25 pp is below 1 in 1,000,000,000" + ONCE,
        ),
        (
            ERRORS, failures(HALF, (10_000, 20), (10_000, 20)),
            "errors: candidate fails 0.20 % against 0.20 % (n = 10,000 / 10,000); a candidate worse by 0.5 pp or more "
            "gets this far in fewer than 1 of 40 rollouts" + ONCE,
        ),
        (
            FEW_ERRORS, failures(HALF, (10_000, 20), (10_000, 1_000)),
            "few errors: candidate fails 10.00 % (n = 10,000); the chance of ever seeing this from a candidate with at "
            "most 1 % is below 1 in 1,000,000,000" + ONCE,
        ),
        (
            DISAGREEMENT, agreements(HALF, 10_000, 10),
            "disagreement: 0.10 % of 10,000 pairs disagree; a candidate with 2 % or more gets this far in fewer than 1 "
            "of 40 rollouts" + ONCE,
        ),
        (
            LATENCY_GATE, latencies([LATENCY_GATE], HALF, spread_ms(10_000), spread_ms(10_000, 1.3)),
            "latency: candidate answers with p50 13.1 ms against 10.1 ms, p95 18.3 ms against 14.1 ms, p99 21 ms "
            "against 16.2 ms (n = 10,000 / 10,000); the chance of ever seeing this from a candidate worse by at most "
            "5 % is below 1 in 1,000,000,000" + ONCE,
        ),
        (
            ACCURACY, right(HALF, {"11": 9_000, "10": 600, "01": 100, "00": 300}),
            "accuracy: candidate is right in 91.00 % of 10,000 labelled pairs, stable in 96.00 %; the chance of ever "
            "seeing this from a candidate worse by at most 0.5 pp is below 1 in 1,000,000,000" + ONCE,
        ),
        (
            RECALL_FLOOR, of_class(HALF, {"111": 9_600, "110": 100, "100": 300}),
            "recall floor: candidate is right in 96.00 % of 10,000 labelled pairs of class 8, stable in 97.00 %; a "
            "candidate below 90 % gets this far in fewer than 1 of 40 rollouts" + ONCE,
        ),
    ],
)  # fmt: skip
def test_a_verdict_in_words(gate: GateSpec, counters: Counters, expected: str) -> None:
    """Facts first, then what follows from them and how sure that is."""
    assert expected == result_of(gate, counters).sentence


def test_harm_of_an_earlier_exposure_is_told_as_such() -> None:
    """Evidence goes on where the weight changes, counts begin anew: the facts must not deny what follows from them."""
    before, now = exposure(1, 5_000), exposure(2, 1_000)
    result = result_of(ERRORS, failures(before, (10_000, 20), (10_000, 300)), exposures=[before, now])
    assert result.sentence == (
        "errors: seen in earlier exposures of this rollout (the candidate has served no request in this exposure); the "
        "chance of ever seeing this from a candidate worse by at most 0.25 pp is below 1 in 1,000,000,000" + ONCE
    )


def test_an_undecided_gate_says_how_much_more_it_needs() -> None:
    """If all goes on like this."""
    result = result_of(ERRORS, failures(HALF, (1_000, 2), (1_000, 2)))
    assert result.sentence.startswith("errors: candidate fails 0.20 % against 0.20 % (n = 1,000 / 1,000); undecided; ")
    assert re.search(r"about [\d,]+ more requests will show that it is ", result.sentence)


def test_a_gate_at_its_margin_says_that_more_of_the_same_will_not_do() -> None:
    """No number is better than one that is never reached."""
    result = result_of(ERRORS, failures(HALF, (1_000, 10), (1_000, 15)))
    assert result.sentence.endswith(
        "undecided, and nothing seen so far tells it from a candidate worse by 0.5 pp or more"
    )


@pytest.mark.parametrize(
    ("gate", "at", "expected"),
    [
        (ERRORS, HALF, "the candidate has served no request in this exposure"),
        (ERRORS, SHADOW, "no copied request has ended in this exposure"),
        (FEW_ERRORS, HALF, "the candidate has served no request in this exposure"),
        (FEW_ERRORS, SHADOW, "no copied request has ended in this exposure"),
        (LATENCY_GATE, SHADOW, "copies do not run under the load of live requests"),
        (LATENCY_GATE, exposure(1, frozen=False), "stable's quantiles were not known when this exposure opened"),
        (LATENCY_GATE, ALL_TRAFFIC, "the candidate serves every request, so there is nothing to compare it with"),
        (DISAGREEMENT, HALF, "no pair in this exposure"),
        (ACCURACY, HALF, "no label has come back for a pair of this exposure"),
        (F1_LOSS, HALF, "no label has come back for a pair of this exposure"),
    ],
)
def test_what_is_not_measured_says_why(gate: GateSpec, at: Exposure, expected: str) -> None:
    """In place of numbers that there are not."""
    assert result_of(gate, exposures=[at]).sentence.endswith("not measured here: " + expected)


def test_an_error_asks_for_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is our fault."""
    monkeypatch.setattr(families.Limit, "harm", lambda self: np.full((len(self._gates), 1, 1), np.nan))
    assert result_of(DISAGREEMENT, agreements(HALF, 100, 1)).sentence == (
        "disagreement: 1.00 % of 100 pairs disagree; this could not be measured: the statistic is not a number, which "
        "is a bug worth reporting"
    )


# -- The judgement's own -----------------------------------------------------------------------------------------------


def test_reasons_of_a_judgement() -> None:
    """One gate speaks for itself, several are counted, and what is not valid comes first."""
    fine, some = failures(HALF, (10_000, 20), (10_000, 20)), agreements(HALF, 50, 0)
    both = judged(case_of(ERRORS, DISAGREEMENT), fine, agreements(HALF, 10_000, 10))
    one_waits = judged(case_of(ERRORS, DISAGREEMENT), fine, some)
    assert judged(case_of(ERRORS), fine).reason.startswith("errors: candidate fails 0.20 % against 0.20 %")
    assert both.reason == "both gates pass"
    assert one_waits.reason.startswith("1 of 2 gates have not passed yet: disagreement: 0.00 % of 50 pairs disagree; ")
    missing = judged(case_of(ERRORS), fine, paired(HALF, PAIR, {BOTH: 100, LOST: 50}))
    assert missing.reason.startswith("the evidence is not valid: 50 of 150 copies have no answer of the candidate")


def test_evidence_of_harm_in_words() -> None:
    """How much there is, what the next step allows, what a rollback takes, and where it comes from."""
    found = next(
        one for n in range(60) if (one := judged(case_of(ERRORS), failures(HALF, (1_000, 2), (1_000, n)))).harm
    )
    assert re.fullmatch(
        r"evidence of harm stands at [\d.]+; the next step asks for less than 4, a rollback for 200: errors: .*",
        found.harm or "",
    )


def test_a_rollback_by_several_gates_together_does_not_call_itself_undecided() -> None:
    """When no gate has failed alone, the reason says that they did so together."""
    case = case_of(FEW_ERRORS, DISAGREEMENT)
    together = [
        one
        for n in range(60)
        if (one := judged(case, failures(HALF, (1_000, 0), (1_000, n)), agreements(HALF, 1_000, n))).rollback
        and all(result.verdict.value != "fail" for result in one.gates)
    ]
    assert together
    for judgement in together:
        assert not judgement.reason.startswith("few errors: candidate fails")
        assert "together" in judgement.reason


def everything_said() -> Iterator[str]:
    """Yield all sentences over a range of evidence, from none to a lot, good and bad."""
    gates = [
        *GATES,
        replace(F1_FLOOR, name="another", weight=2.0),
        replace(LATENCY_GATE, name="slow", slice="user=new"),
    ]
    for at in (HALF, SHADOW, ALL_TRAFFIC, exposure(1, frozen=False)):
        for n in (0, 1, 20, 1_000, 100_000):
            for bad in (0, n // 50, n // 2):
                judgement = judged(
                    case_of(*gates, exposures=[at]),
                    latencies(
                        [LATENCY_GATE], at, spread_ms(min(n, 2_000)), spread_ms(min(n, 2_000), 1 + bad / (n + 1))
                    ),
                    failures(at, (n, 0), (n, bad)),
                    agreements(at, n, bad),
                    copies(at, {"fine/fine": n - bad, "fine/fail": bad}),
                    right(at, {"11": n - bad, "10": bad}),
                    of_class(at, {"111": n - bad, "110": bad}),
                    served(at, Role.CANDIDATE, {"shed": bad}),
                )
                yield from words_of(judgement)


def words_of(judgement: Judgement) -> Iterator[str]:
    """Yield all sentences of a judgement."""
    yield from (result.sentence for result in judgement.gates)
    yield from (text for text in (judgement.reason, judgement.harm, judgement.invalid) if text is not None)


BAD_ENGLISH = (
    "nan", "inf ", "None", "nothing against", "fails nothing", "in nothing", "nothing of 0", "not with", "0 pp or more",
    "e+", "  ", " 1 requests", " 1 pairs", "about 0 more", "of 0 copied requests", "%;;", "..", " ;",
)  # fmt: skip


@pytest.mark.parametrize("bad", BAD_ENGLISH)
def test_no_sentence_reads_badly(bad: str) -> None:
    """No number that is none, no clumsy figure of a limit, no plural of one."""
    found = [sentence for sentence in SAID if bad in sentence]
    assert found[:3] == []


SAID = tuple(dict.fromkeys(everything_said()))


def test_sentences_are_one_line_and_not_too_long() -> None:
    """They are shown in a table, in a log line and in a notice."""
    for sentence in SAID:
        assert "\n" not in sentence
        assert len(sentence) < 450
        assert sentence == sentence.strip()


def test_percentages_are_written_alike() -> None:
    """A number, a space, the sign."""
    assert [sentence for sentence in SAID if re.search(r"\d%", sentence)][:3] == []
