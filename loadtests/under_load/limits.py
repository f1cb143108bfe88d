"""Whether a run kept its limits: pure, from what was seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from loadtests.under_load.scenario import Fault, Limits
from loadtests.under_load.timeline import DIRECT, OPEN, OPEN_DIRECT, STREAM, TURNOUT, Timeline

SIGMAS = 4.0
"""How far the measured split may be from the weight: by chance it is further in 1 of 16,000 runs."""
SETTLE_S = 1.0
"""How long after a change it may take until everybody who measures sees it: two looks."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One limit, and what was measured against it."""

    what: str
    measured: str
    limit: str
    passed: bool


def findings(
    limits: Limits,
    fault: Fault | None,
    seen: Timeline,
    requests_per_user: float,
    compared: Sequence[tuple[str, str]] = ((TURNOUT, DIRECT), (OPEN, OPEN_DIRECT)),
) -> list[Finding]:
    """Return every limit with its outcome. A limit for which there is nothing to measure is missed.

    `compared` are the sources whose p99 is limited, each with the one that it is compared with.
    """
    found = [_errors(limits, seen), *_reached(limits, seen), _flips(seen)]
    for mine, other in compared:
        found.append(_p99(limits, seen, mine, other))
    if fault:
        found.append(_happened(fault, seen))
    if limits.held:
        found.append(_held(seen, requests_per_user))
    return found


def _errors(limits: Limits, seen: Timeline) -> Finding:
    failures = seen.failures((TURNOUT, STREAM, OPEN))
    requests = sum(one.source in (TURNOUT, STREAM, OPEN) for one in seen.answers)
    told = "".join(f"; {count} x {why}" for why, count in failures.most_common(3))
    return Finding(
        "errors that clients saw",
        f"{failures.total()} of {requests:,} requests{told}",
        f"at most {limits.errors}",
        requests > 0 and failures.total() <= limits.errors,
    )


def _reached(limits: Limits, seen: Timeline) -> list[Finding]:
    last = seen.last_stands()
    return [
        Finding(
            f"how the rollout of {route} ended",
            f"{one.phase}: {one.reason}",
            f"{limits.reached}{limits.reason and f': {limits.reason}'}",
            one.phase == limits.reached and limits.reason in one.reason,
        )
        for route, one in last.items()
    ] or [Finding("how the rollout ended", "nobody answered", limits.reached, passed=False)]


def _flips(seen: Timeline) -> Finding:
    until_s = seen.first_fall_s() - SETTLE_S
    flips = sum(at < until_s for at in seen.flips)
    return Finding("users who went back from candidate to stable before its weight fell", str(flips), "0", flips == 0)


def _p99(limits: Limits, seen: Timeline, mine: str, other: str) -> Finding:
    through, direct = seen.p99_ms(mine), seen.p99_ms(other)
    most = limits.p99_times * direct + limits.p99_slack_ms
    return Finding(
        f"p99 of {mine} beside {other}",
        f"{through:.1f} ms beside {direct:.1f} ms",
        f"at most {limits.p99_times:g} x and {limits.p99_slack_ms:g} ms: {most:.1f} ms",
        bool(seen.latencies(mine) and seen.latencies(other)) and through <= most,
    )


def _happened(fault: Fault, seen: Timeline) -> Finding:
    """A run in which nothing broke, or in which what broke was not whole again in time, has shown nothing."""
    began_s, ended_s = seen.fault_s or (seen.seconds, seen.seconds)
    passed = began_s < seen.seconds if fault.lasts else ended_s < seen.seconds
    measured = f"from {began_s:.0f} to {ended_s:.0f} s of {seen.seconds:.0f}" if seen.fault_s else "it did not happen"
    return Finding(f"{fault.part}: {fault.does}", measured, "begun" if fault.lasts else "over in time", passed)


def _held(seen: Timeline, requests_per_user: float) -> Finding:
    what = "the candidate's share of the answers while the fault lasted"
    if seen.fault_s is None:
        return Finding(what, "there was no fault", "its weight", passed=False)
    began_s, ended_s = seen.fault_s
    weight = seen.weight_bp_at(began_s) / 10_000
    sides = [
        one.side for one in seen.answers
        if one.source == TURNOUT and one.side and began_s + SETTLE_S < one.second <= ended_s
    ]  # fmt: skip
    users = len(sides) / requests_per_user
    share = sides.count("candidate") / len(sides) if sides else 0.0
    off = SIGMAS * sqrt(weight * (1 - weight) / users) if users else 0.0
    return Finding(
        what,
        f"{share:.1%} of {len(sides):,} in {ended_s - began_s:.0f} s",
        f"{weight:.0%} within {off:.1%} ({SIGMAS:g} standard errors)",
        weight > 0 and abs(share - weight) <= off,
    )
