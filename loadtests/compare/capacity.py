"""What a number of requests a second would take, computed from what was measured. Pure: values in, values out.

It is arithmetic, not a measurement, and assumes:
- cost is linear: with a rollout a request takes `canary + share x (mirror - canary)`, without one `plain`; and cores
  beside each other lose nothing (workers share no memory);
- every core is busy for BUSY of its time, the rest is for peaks and for a gateway that is away;
- one worker fills one core, and each writes counters twice a second as the recorder does (measured: once a second);
- all traffic goes to one Route. Its keys lie in one slot of a cluster, so one shard has to take all of its pairs: more
  shards help only several Routes. What one shard cannot take must not be copied: that bounds the mirror's share.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtests.compare.figures import CANARY, MIRROR, PLAIN, TURNOUT, Cell, Cost

BUSY = 0.6
RATES_S = (10_000, 1_000_000)
SHARES = (0.0, 0.01, 0.1, 1.0)
COUNTER_WRITES_S = 2
"""router.gateway.recorder writes changed counters every half second."""


@dataclass(frozen=True, slots=True)
class Prices:
    """CPU in microseconds: of a request by mode, of a pair in the store, of a replica and of control in a second."""

    plain: float
    canary: float
    mirror: float
    pair_in_store: float
    replica_in_store: float
    replica_in_control: float
    control: float


@dataclass(frozen=True, slots=True)
class Need:
    """What a rate with a mirror's share needs. `largest_share` is what one shard can take of this rate, at most 1."""

    rate_s: int
    share: float
    workers: int
    pairs_s: float
    shard_busy: float
    control_busy: float
    largest_share: float


def prices_of(cells: Sequence[Cell], costs: Sequence[Cost]) -> Prices:
    """Return the prices from a comparison's medians and a growth run's costs. Raises KeyError for a missing one."""
    cpu = {one.mode: one.cpu_us["gateway"] or 0.0 for one in cells if one.system == TURNOUT and one.usual}
    cost = {one.what: one.value for one in costs}
    return Prices(
        cpu[PLAIN], cpu[CANARY], cpu[MIRROR],
        cost["a pair, in the store"],
        1_000 * COUNTER_WRITES_S * cost["a replica, in the store"],
        1_000 * cost["a replica, in control"], 1_000 * cost["control, 1 replicas"],
    )  # fmt: skip


def needs(prices: Prices, rates_s: Sequence[int] = RATES_S, shares: Sequence[float] = SHARES) -> list[Need]:
    """Return what each rate needs with each share."""
    return [_need(prices, rate_s, share) for rate_s in rates_s for share in shares]


def _need(prices: Prices, rate_s: int, share: float) -> Need:
    request_us = prices.canary + share * (prices.mirror - prices.canary) if share else prices.plain
    workers = math.ceil(rate_s * request_us / 1e6 / BUSY)
    counters_us = workers * prices.replica_in_store if share else 0.0  # without a rollout nothing is counted for it
    room_us = max(0.0, BUSY * 1e6 - counters_us)
    return Need(
        rate_s, share, workers, rate_s * share,
        (rate_s * share * prices.pair_in_store + counters_us) / 1e6,
        (prices.control + workers * prices.replica_in_control) / 1e6,
        min(1.0, room_us / (rate_s * prices.pair_in_store)),
    )  # fmt: skip


def as_markdown(prices: Prices) -> str:
    """Return what one core serves, and a table of the needs."""
    served: Mapping[str, float] = {"plain": prices.plain, "10 % canary": prices.canary, "100 % mirror": prices.mirror}
    rows = ["| one core serves | CPU us a request | requests/s when full | at 60 % |", "|---|---:|---:|---:|"]
    rows += [f"| {name} | {us:.1f} | {1e6 / us:,.0f} | {BUSY * 1e6 / us:,.0f} |" for name, us in served.items()]
    rows += ["", "| requests/s | mirror | workers (cores) | pairs/s | one shard is busy | largest mirror share for it "]
    rows[-1] += "| control is busy |"
    rows += ["|---:|---:|---:|---:|---:|---:|---:|"]
    rows += [_row(one) for one in needs(prices)]
    return "\n".join(rows)


def _row(need: Need) -> str:
    busy = f"{need.shard_busy:.0%}" if need.shard_busy <= BUSY else f"**{need.shard_busy:.0%}: too much**"
    share = f"{100 * need.share:g} %" if need.share else "no rollout"
    largest = f"{100 * need.largest_share:.3g} %" if need.share else ""
    return (
        f"| {need.rate_s:,} | {share} | {need.workers:,} | {need.pairs_s:,.0f} | {busy} | {largest} "
        f"| {need.control_busy:.0%} |"
    )
