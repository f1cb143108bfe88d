"""Negative controls: rules that look right and are wrong, on the same rollouts as ours (statistics.md, binding rules).

Each scenario is one in which a plausible rule errs far more often than it may. That it does, here, is what makes the
good figures of our own rule worth something: a simulation in which nothing can fail proves nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import norm

from router.analysis import gates as ask
from router.analysis.eprocess import (
    WORSE,
    Floats,
    log_mean_exp,
    log_wealth_arm,
    mixed,
    mixed_from_each_start,
)
from router.analysis.gates import Arm
from router.analysis.judge import critical_value, strongest
from router.core.levels import QUANTILES
from tests.simulation.aa import bound_of
from tests.simulation.looks import log_level
from tests.simulation.parallel import generators, spread
from tests.simulation.rivals import Traces, z_test
from tests.simulation.rollouts import CUT_S
from tests.simulation.traffic import Flags, Ints
from tests.simulation.users import REPLICAS, Crowd, Requests, boots_of, counted, firsts

ALPHA = BETA = 0.05
BATCH = 50
REQUESTS_PER_S = 100.0
MARGIN, TOLERANCE = 0.005, np.array(0.0025)
STRICT = np.array(0.0)
"""No tolerance: where a rule holds at the edge of the null hypothesis, it holds everywhere."""

Errs = tuple[Flags, Mapping[str, Flags]]
"""Whether each rollout (R,) is judged wrongly: by our rule, and by each wrong one."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens, how often a rule may err, and a function from a number of rollouts to who erred."""

    name: str
    chance: float
    errs: Callable[[int, np.random.Generator], Errs]


@dataclass(frozen=True, slots=True)
class Control:
    """How often a wrong rule errs, and ours on the same rollouts. Both should prove: it above the bound, ours not."""

    name: str
    wrong_rule: str
    runs: int
    wrong_rate: float
    our_rate: float
    bound: float
    proves: bool


def run(runs: int, seed: int, processes: int) -> list[Control]:
    """Return all controls, `runs` rollouts each."""
    return run_scenarios(SCENARIOS, runs, seed, processes)


def run_scenarios(scenarios: Sequence[Scenario], runs: int, seed: int, processes: int) -> list[Control]:
    """Return the controls of some scenarios."""
    sizes = [BATCH] * (runs // BATCH) + [runs % BATCH] * (runs % BATCH > 0)
    parts = [(scenario, size) for scenario in scenarios for size in sizes]
    jobs = [(scenario, size, seed) for (scenario, size), seed in zip(parts, generators(seed, len(parts)), strict=True)]
    found = spread(_errs, jobs, processes)
    by_scenario = [found[first : first + len(sizes)] for first in range(0, len(found), len(sizes))]
    return [one for scenario, errs in zip(scenarios, by_scenario, strict=True) for one in _controls(scenario, errs)]


def _errs(job: tuple[Scenario, int, np.random.SeedSequence]) -> Errs:
    scenario, runs, seed = job
    return scenario.errs(runs, np.random.default_rng(seed))


def _controls(scenario: Scenario, errs: Sequence[Errs]) -> list[Control]:
    ours = np.concatenate([flags for flags, _ in errs])
    bound, our_rate = bound_of(scenario.chance, len(ours)), float(ours.mean())
    found = []
    for rule in errs[0][1]:
        wrong_rate = float(np.concatenate([wrong[rule] for _, wrong in errs]).mean())
        proves = wrong_rate > bound >= our_rate
        found.append(Control(scenario.name, rule, len(ours), wrong_rate, our_rate, bound, proves))
    return found


# -- Our rule ----------------------------------------------------------------------------------------------------------


def _falls(log_e: Floats, level: float, *, keyed: bool = False) -> Flags:
    """Return which rollouts are ever rolled back, (R,), by one gate that is all there is: log e (R, looks, C, S)."""
    evidence = strongest(log_e[:, :, None], np.ones(1), keyed=keyed)
    return np.asarray((evidence >= level).any(axis=1))


def _difference(stable: Arm, candidate: Arm, share: Floats, tolerance: Floats) -> Flags:
    """Return which rollouts the error gate rolls back, from arms (R, looks, C, K)."""
    log_e = mixed_from_each_start(ask.difference_harm(stable, candidate, share, tolerance))
    return _falls(log_e, log_level(ALPHA))


def _proved(log_e: Floats, level: float = log_level(BETA)) -> Flags:
    """Return which rollouts ever have a proof, (R,), from log e (R, looks)."""
    return np.asarray((log_e >= level).any(axis=1))


def _known(events: Floats, rest: Floats) -> Arm:
    """Return requests that have all ended."""
    return Arm(events, rest, np.zeros_like(events))


# -- 1. Failures that end at once against failures that clients give up ------------------------------------------------

CANCEL_S = 10


def fail_fast_with_cancels(runs: int, rng: np.random.Generator) -> Errs:
    """5 % of both variants' requests fail: the candidate's in 5 ms, stable's never, so that clients cancel them."""
    share, step_s = np.array([0.05, 0.25, 0.5]), 60
    step = np.repeat(np.arange(3), step_s)
    mean = REQUESTS_PER_S * np.stack([1 - share[step], share[step]])
    failed = rng.poisson(0.05 * mean, (runs, *mean.shape))
    fine = rng.poisson(0.95 * mean, (runs, *mean.shape))
    in_step = step[:, None] == np.arange(3)

    def until(counts: Ints, ago_s: int) -> Floats:
        """Return what had arrived so long before each look, (R, looks, K)."""
        by_step = np.cumsum(counts[..., None] * in_step, axis=1, dtype=np.float64)
        late = np.zeros_like(by_step)
        late[:, ago_s:] = by_step[:, : len(step) - ago_s]
        return late

    def arm(variant: int, ends_s: int) -> Arm:
        """Return one variant's requests, (R, looks, C, K), whose failures end after so long."""
        a, b = failed[:, variant], fine[:, variant]
        ended = np.stack([until(a, max(cut_s, ends_s)) for cut_s in CUT_S], axis=2)
        arrived, good = (np.stack([until(counts, cut_s) for cut_s in CUT_S], axis=2) for counts in (a, b))
        return Arm(ended, good, arrived - ended)

    stable, candidate = arm(0, CANCEL_S), arm(1, 0)
    known = _known(stable.events, stable.rest)
    never = _known(np.zeros_like(stable.events), stable.rest)
    return _difference(stable, candidate, share, TOLERANCE), {
        "outcomes in the order of their completion": _difference(known, candidate, share, TOLERANCE),
        "cancelled requests left out": _difference(never, candidate, share, TOLERANCE),
    }


# -- 2. A base rate that rises while the share does --------------------------------------------------------------------


def rising_rate_and_outage(runs: int, rng: np.random.Generator) -> Errs:
    """Failures of both variants rise from 0.2 to 5 % over the ramp, and in one outage of 20 s six of ten fail."""
    share, step_s = np.array([0.01, 0.05, 0.25, 0.5]), 90
    seconds = 4 * step_s
    at = np.arange(seconds)
    step = at // step_s
    rate = np.where((at >= 230) & (at < 250), 0.6, np.linspace(0.002, 0.05, seconds))
    pi = share[step]
    a, b = (rng.poisson(REQUESTS_PER_S * part, (runs, seconds)) for part in (1 - pi, pi))
    fa, fb = rng.binomial(a, rate), rng.binomial(b, rate)
    in_step = step[:, None] == np.arange(4)
    ea, eb, na, nb = (np.cumsum(x[..., None] * in_step, axis=1, dtype=np.float64)[:, :, None] for x in (fa, fb, a, b))
    ours = _difference(_known(ea, na - ea), _known(eb, nb - eb), share, STRICT)
    ever = np.isfinite(z_test(Traces(a, b, fa, fb)))
    return ours, {
        "rates pooled over the steps": _pooled(fa, fb, np.cumsum(pi) / (at + 1)),
        "z-test every 10 s": ever,
        "breaker: five failures in a row": _five_in_a_row(b, fb, rng),
    }


def _pooled(stable: Ints, candidate: Ints, average_share: Floats) -> Flags:
    """Return where the arm process rolls back that knows sums and the average share (looks,) only."""
    fa, fb = np.cumsum(stable, axis=1), np.cumsum(candidate, axis=1)
    each_look = log_wealth_arm(fa, fb, average_share, WORSE)  # looks stand where exposures do: one at a time
    return np.asarray((log_mean_exp(each_look) >= log_level(ALPHA)).any(axis=1))


def _five_in_a_row(requests: Ints, failures: Ints, rng: np.random.Generator) -> Flags:
    """Return where the candidate failed five times in a row, its failures of each second falling anywhere in it."""
    found = np.zeros(len(requests), dtype=bool)
    for row, (many, failed) in enumerate(zip(requests, failures, strict=True)):
        rate = np.repeat(failed / np.maximum(many, 1), many)
        fails = rng.random(len(rate)) < rate
        last_success = np.maximum.accumulate(np.where(fails, -1, np.arange(len(fails))))
        found[row] = (np.arange(len(fails)) - last_success >= 5).any()
    return found


# -- 3. Sticky users, replicas, restarts -------------------------------------------------------------------------------

CROWD = Crowd(users=3_000, requests_per_s=60, seconds=300)
SHARES = np.array([0.05, 0.25, 0.5])
LOOKS_S = np.arange(10, 301, 10)
RESTART_S = 30.0
BAD_USERS, BAD, GOOD = 0.03, 0.9, 0.003
"""Three users of a hundred ask for what no model can answer."""


def sticky_users(runs: int, rng: np.random.Generator, *, better_first: bool) -> Errs:
    """Equal variants, or a candidate that fails a fifth as often in the first step and equally often later."""
    found: dict[str, list[Floats]] = {rule: [] for rule in ("ours", *WRONG_UNITS)}
    for _ in range(runs):
        for rule, one in by_unit(served(rng, better_first=better_first), rng).items():
            found[rule].append(one)
    counts = {rule: np.stack(parts) for rule, parts in found.items()}  # (R, looks, K, last, variant, failed)
    falls = {rule: _keyed_falls(units) for rule, units in counts.items() if rule != WRONG_UNITS[0]}
    falls[WRONG_UNITS[0]] = _request_falls(counts[WRONG_UNITS[0]].sum(axis=3), SHARES)
    return falls.pop("ours"), falls


WRONG_UNITS = ("each request by itself", "first of each key in each replica")


def served(rng: np.random.Generator, *, better_first: bool) -> Requests:
    """Return the requests of one rollout."""
    time_s, user = CROWD.requests(rng)
    exposure = (time_s // (CROWD.seconds / len(SHARES))).astype(np.int64)
    by_candidate = rng.random(CROWD.users)[user] < SHARES[exposure]
    rate = np.where(rng.random(CROWD.users) < BAD_USERS, BAD, GOOD)[user]
    if better_first:
        rate = np.where(by_candidate & (exposure == 0), rate / 5, rate)
    return Requests(time_s, user, exposure, by_candidate, rng.random(len(user)) < rate)


def by_unit(requests: Requests, rng: np.random.Generator) -> Mapping[str, Floats]:
    """Return counts (looks, K, last, variant, failed) by our rule, and by wrong ones."""
    steps, everyone = len(SHARES), np.arange(len(requests.user))
    replica = rng.integers(0, REPLICAS, len(requests.user))
    boot = boots_of(requests.time_s, replica, RESTART_S, rng)
    worker = replica * (int(boot.max()) + 1) + boot
    by_key = firsts(requests.user, requests.exposure, steps)
    by_worker = firsts(requests.user * (int(worker.max()) + 1) + worker, requests.exposure, steps)
    units = {"ours": by_key, WRONG_UNITS[0]: (everyone, 0 * everyone), WRONG_UNITS[1]: by_worker}
    return {rule: counted(requests, at, last, steps, LOOKS_S) for rule, (at, last) in units.items()}


def _keyed_falls(counts: Floats) -> Flags:
    """Return who is rolled back, from counts of keys."""
    return _falls(keyed_harm(counts), log_level(ALPHA), keyed=True)


def keyed_harm(counts: Floats) -> Floats:
    """Return log e of harm (R, looks, C, S), from counts (R, looks, K, last, variant, failed) of keys."""
    starts = np.arange(counts.shape[2])
    new = (starts <= starts[:, None])[:, None, :] & (starts[:, None] <= starts)[:, :, None]  # (S, K, last)
    since = (counts[:, :, None] * new[..., None, None]).sum(axis=4)  # (R, looks, S, K, variant, failed)
    stable, candidate = (_known(since[..., v, 1], since[..., v, 0]) for v in range(2))
    return mixed(ask.difference_harm(stable, candidate, SHARES, STRICT))[:, :, None]


SLOT_SHARES = np.array([0.01, 0.05, 0.25])
SLOT_LOOKS, SLOT_EVERY_S, SLOT_LIFE_S = 360, 10, 60.0


def restarting_replicas(runs: int, rng: np.random.Generator) -> Errs:
    """Equal variants, 1 % failing, behind 8 replicas that live for a minute on average, for an hour.

    Of counters merged by their maximum a small one keeps more of its true sum than a large one does, and the
    candidate's failures are the smallest of all.
    """
    steps = len(SLOT_SHARES)
    counts, merged = np.zeros((2, runs, SLOT_LOOKS, steps, 2, 2))
    boot, ended, largest = np.zeros((3, runs, REPLICAS, steps, 2, 2))
    for look in range(SLOT_LOOKS):
        restarts = rng.random((runs, REPLICAS, 1, 1, 1)) < SLOT_EVERY_S / SLOT_LIFE_S
        ended, boot = ended + np.where(restarts, boot, 0.0), np.where(restarts, 0.0, boot)
        step = look * steps // SLOT_LOOKS
        parts = np.outer([1 - SLOT_SHARES[step], SLOT_SHARES[step]], [0.99, 0.01])
        boot[:, :, step] += rng.poisson(REQUESTS_PER_S * SLOT_EVERY_S / REPLICAS * parts, (runs, REPLICAS, 2, 2))
        # A reader takes the larger value of each counter, as is right for late or doubled readings of one process.
        largest = np.maximum(largest, boot)
        counts[:, look], merged[:, look] = (ended + boot).sum(axis=1), largest.sum(axis=1)
    return _request_falls(counts, SLOT_SHARES), {
        "one slot for all starts of a replica": _request_falls(merged, SLOT_SHARES)
    }


def _request_falls(counts: Floats, share: Floats) -> Flags:
    """Return who is rolled back, from counts (R, looks, K, variant, failed) of requests."""
    stable, candidate = (_known(counts[:, :, None, :, v, 1], counts[:, :, None, :, v, 0]) for v in range(2))
    return _difference(stable, candidate, share, STRICT)


# -- 4. The edge of promotion ------------------------------------------------------------------------------------------

LAST_S, EVERY_S = 3_600, 10
"""An hour of the last step, and how often one looks: near the margin it takes that long until all is decided."""
HALF = 0.5


def errors_at_the_margin(runs: int, rng: np.random.Generator) -> Errs:
    """The candidate fails 1.5 % against 1 %, exactly the margin, in the last step at 50 %."""
    n, fa, fb = _last_step(runs, rng)
    return _proved(_margin_proof(n, fa, fb)), {"z-test of the margin every 10 s": _z_margin(n, fa, fb)}


def _last_step(runs: int, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Return requests of both arms, stable's and the candidate's failures so far, (R, looks)."""
    a, b = rng.poisson(REQUESTS_PER_S * HALF * EVERY_S, (2, runs, LAST_S // EVERY_S))
    counts = (a + b, rng.binomial(a, 0.01), rng.binomial(b, 0.01 + MARGIN))
    n, fa, fb = (np.cumsum(one, axis=1, dtype=np.float64) for one in counts)
    return n, fa, fb


def _margin_proof(n: Floats, fa: Floats, fb: Floats) -> Floats:
    """Return our proof at each look; how the others of n are split does not matter to it."""
    rest = (n - fa - fb) / 2
    stable, candidate = (_known(events[..., None], rest[..., None]) for events in (fa, fb))
    return ask.difference_proof(stable, candidate, HALF, np.array(MARGIN))


def _z_margin(n: Floats, fa: Floats, fb: Floats) -> Flags:
    pa, pb = 2 * fa / n, 2 * fb / n
    spread_of = np.sqrt(2 * (pa * (1 - pa) + pb * (1 - pb)) / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (MARGIN - (pb - pa)) / spread_of
    return np.asarray((z >= norm.isf(BETA)).any(axis=1))


def harm_at_p99_only(runs: int, rng: np.random.Generator) -> Errs:
    """One of a hundred answers takes five times as long; half of them are a little faster than stable's."""
    exceeds, sigma = np.array([1 - q for q in QUANTILES]), 0.5
    z = norm.isf(exceeds) + np.log(1.1) / sigma  # beyond 1.1 times stable's quantile
    slower = 0.99 * norm.sf(z) + 0.01 * norm.sf(z - np.log(5.0) / sigma)
    slow = [_levels(chances, runs, rng) for chances in (exceeds, slower)]
    proofs = []
    for q, quantile in enumerate(QUANTILES):
        stable, candidate = (_known(counts[..., q + 1, None], counts[..., 0, None] - counts[..., q + 1, None])
                             for counts in slow)  # fmt: skip
        proofs.append(ask.slow_proof(stable, candidate, HALF, quantile))
    by_quantile = np.stack(proofs, axis=-1)
    return _proved(by_quantile.min(axis=-1)), {"average over the quantiles": _proved(log_mean_exp(by_quantile))}


def _levels(exceeds: Floats, runs: int, rng: np.random.Generator) -> Floats:
    """Return requests so far, and those beyond each of three thresholds, (R, looks, 4)."""
    beyond = np.array([1.0, *exceeds])
    between = -np.diff([*beyond, 0.0])
    by_level = rng.poisson(REQUESTS_PER_S * HALF * EVERY_S * between, (runs, LAST_S // EVERY_S, 4))
    at_least = np.flip(np.cumsum(np.flip(by_level, axis=-1), axis=-1), axis=-1)
    return np.cumsum(at_least, axis=1, dtype=np.float64)


def harm_to_two_percent_of_keys(runs: int, rng: np.random.Generator) -> Errs:
    """The candidate fails a quarter of the requests of 2 % of the users, which is exactly the margin of 0.5 points."""
    crowd = Crowd(users=20_000, requests_per_s=60, seconds=600, flat=1.0)
    units: tuple[list[Floats], list[Floats]] = ([], [])
    for _ in range(runs):
        time_s, user = crowd.requests(rng)
        by_candidate = rng.random(crowd.users)[user] < HALF
        added = np.where(rng.random(crowd.users) < 0.02, MARGIN / 0.02, 0.0)[user] * by_candidate
        one = np.zeros_like(user)
        requests = Requests(time_s, user, one, by_candidate, rng.random(len(user)) < 0.005 + added)
        everyone = np.arange(len(user))
        for found, (at, last) in zip(units, (firsts(user, one, 1), (everyone, one)), strict=True):
            found.append(counted(requests, at, last, 1, 2 * LOOKS_S)[:, 0, 0])
    by_key, by_request = (_proved(_proof_of(np.stack(found))) for found in units)
    return by_key, {"each request by itself": by_request}


def _proof_of(counts: Floats) -> Floats:
    """Return log e (R, looks) from (R, looks, variant, failed)."""
    stable, candidate = (_known(counts[..., v, 1, None], counts[..., v, 0, None]) for v in range(2))
    return ask.difference_proof(stable, candidate, HALF, np.array(MARGIN))


# -- 5. Shadow: pairs that are missing, and pairs that are not independent ---------------------------------------------

PAIRS_AT = np.arange(50, 3_001, 50)
MAXIMUM = np.array(0.02)


def _so_far(rate: float, runs: int, rng: np.random.Generator) -> Floats:
    """Return how many pairs were so until each look, (R, looks)."""
    return np.cumsum(rng.binomial(50, rate, (runs, len(PAIRS_AT))), axis=1, dtype=np.float64)


def _agrees(differ: Floats, missing: Floats) -> Floats:
    """Return our proof that fewer than 2 % disagree, (R, looks), where some copies have no answer."""
    arm = Arm(differ, PAIRS_AT - differ - missing, missing)
    return ask.rate_proof(Arm(arm.events[..., None], arm.rest[..., None], arm.unknown[..., None]), MAXIMUM)


def timeouts_where_it_disagrees(runs: int, rng: np.random.Generator) -> Errs:
    """The candidate would disagree in 3 % of the pairs, of which 2 % may; it times out in all of these."""
    missing = _so_far(0.03, runs, rng)
    none = np.zeros_like(missing)
    arm = Arm(none[..., None], (PAIRS_AT - missing)[..., None], none[..., None])
    dropped = ask.rate_proof(arm, MAXIMUM)
    return _proved(_agrees(none, missing)), {"copies that timed out left out": _proved(dropped)}


def ten_retries(runs: int, rng: np.random.Generator) -> Errs:
    """A candidate that disagrees in exactly the 2 % that are the limit is tried ten times, 100,000 pairs each."""
    halved, full = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=bool)
    pairs = np.arange(500, 100_001, 500.0)
    for attempt in range(1, 11):
        differ = np.cumsum(rng.binomial(500, 0.02, (runs, len(pairs))), axis=1, dtype=np.float64)
        log_e = ask.rate_proof(_known(differ[..., None], (pairs - differ)[..., None]), MAXIMUM)
        halved |= _proved(log_e, critical_value(BETA, attempt))
        full |= _proved(log_e)
    return halved, {"all of beta for each attempt": full}


def _disagrees(differ: Floats, pairs: Floats, *, keyed: bool = False) -> Flags:
    """Return who is rolled back for disagreeing in more than the tolerance of 1 %, from (R, looks)."""
    arm = _known(differ[:, :, None, None], (pairs - differ)[:, :, None, None])  # (R, looks, C, K)
    if keyed:
        arm = Arm(arm.events[..., None, :], arm.rest[..., None, :], arm.unknown[..., None, :])
        return _falls(mixed(ask.rate_harm(arm, MAXIMUM / 2)), log_level(ALPHA), keyed=True)
    return _falls(mixed_from_each_start(ask.rate_harm(arm, MAXIMUM / 2)), log_level(ALPHA))


def our_own_shedding(runs: int, rng: np.random.Generator) -> Errs:
    """A candidate that disagrees in 0.5 % of the pairs, while we shed one copy of ten before it is selected."""
    differ, shed = _so_far(0.005, runs, rng), _so_far(0.1, runs, rng)
    return _disagrees(differ, PAIRS_AT + np.zeros(1)), {
        "what we shed counted as failures": _disagrees(differ + shed, PAIRS_AT + shed)
    }


def repeated_users(runs: int, rng: np.random.Generator) -> Errs:
    """The candidate disagrees for 1 % of the users, always, and the tolerance is 1 %."""
    crowd = Crowd(users=20_000, requests_per_s=100, seconds=int(LOOKS_S[-1]))
    units: tuple[list[Floats], list[Floats]] = ([], [])
    for _ in range(runs):
        time_s, user = crowd.requests(rng)
        differs = (rng.random(crowd.users) < 0.01)[user]
        one = np.zeros_like(user)
        pairs = Requests(time_s, user, one, np.zeros(len(user), dtype=bool), differs)
        for found, (at, last) in zip(units, (firsts(user, one, 1), (np.arange(len(user)), one)), strict=True):
            found.append(counted(pairs, at, last, 1, LOOKS_S)[:, 0, 0, 0])
    by_key, by_pair = (np.stack(found) for found in units)
    return _disagrees(by_key[..., 1], by_key.sum(axis=-1), keyed=True), {
        "each pair by itself": _disagrees(by_pair[..., 1], by_pair.sum(axis=-1))
    }


SCENARIOS = (
    Scenario("fail-fast with cancels", ALPHA, fail_fast_with_cancels),
    Scenario("rising rate and shared outage", ALPHA, rising_rate_and_outage),
    Scenario("sticky users on 8 replicas, equal", ALPHA, partial(sticky_users, better_first=False)),
    Scenario("sticky users on 8 replicas, better first", ALPHA, partial(sticky_users, better_first=True)),
    Scenario("restarting replicas, equal", ALPHA, restarting_replicas),
    Scenario("errors at the margin", BETA, errors_at_the_margin),
    Scenario("ten retries at the margin", BETA, ten_retries),
    Scenario("harm at p99 only", BETA, harm_at_p99_only),
    Scenario("harm to 2 % of the keys", BETA, harm_to_two_percent_of_keys),
    Scenario("shadow: timeouts where it disagrees", BETA, timeouts_where_it_disagrees),
    Scenario("shadow: our own shedding", ALPHA, our_own_shedding),
    Scenario("shadow: repeated users", ALPHA, repeated_users),
)
