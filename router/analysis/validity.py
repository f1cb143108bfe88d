"""Whether the evidence can be relied on: complete bookkeeping, no lopsided drops of our own, enough answered copies.

What is invalid holds the rollout and alarms; by itself it never rolls back. Broken bookkeeping also takes away the
judge's word for a rollback, since then its numbers mean nothing; lopsided drops do not, because whatever we dropped is
counted in the candidate's favour already (docs/adr/0006).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.analysis.eprocess import log_e_arm, ratios
from router.analysis.evidence import Evidence
from router.analysis.reading import MISSING_CANDIDATE, Reading
from router.core.observations import AGREEMENT, ALL, BOTH, CUTS, OUTCOME, PAIR, PAIR_VARIANT, STARTED
from router.core.rollout import Exposure
from router.core.traffic import Role

IMBALANCE_LEVEL = math.log(1_000.0)
"""An imbalance that chance alone ever shows in fewer than one rollout of 1,000 (statistics.md 2.5)."""

MISSING_SHARE, MISSING_FEWEST = 0.05, 20
"""More than 5 % of copies without the candidate's answer are too many (rule 9), from 20 missing ones on."""

_EITHER_WAY = np.concatenate([ratios(points=20), ratios(worse=False, points=20)])


@dataclass(frozen=True, slots=True)
class Validity:
    """`reason` is None where nothing is wrong; `broken` says that the counters contradict each other."""

    reason: str | None = None
    broken: bool = False


def validity_of(evidence: Evidence, exposures: Sequence[Exposure], *, keyed: bool) -> Validity:
    """Return the first reason not to rely on the evidence of these exposures, oldest first; the last is present."""
    reason = _contradiction(evidence, exposures)
    if reason is not None:
        return Validity(reason, broken=True)
    return Validity(_lopsided(evidence, exposures, keyed=keyed) or _missing(evidence, exposures[-1]))


def _contradiction(evidence: Evidence, exposures: Sequence[Exposure]) -> str | None:
    """Every request that was assigned ends in at most one cell, so no more can have ended than were started."""
    for exposure in exposures:
        for role in Role:
            for cut in CUTS:
                started = evidence.value(exposure.id, STARTED + cut, role, ALL)
                ended = sum(evidence.cells(exposure.id, OUTCOME + cut, "", role).values())
                if ended > started:
                    return (
                        f"{ended:,} requests of {role} have ended in exposure {exposure.id}, {started:,} were started"
                    )
        compared = sum(evidence.value(exposure.id, AGREEMENT, PAIR_VARIANT, cell) for cell in ("same", "different"))
        both = evidence.value(exposure.id, PAIR, PAIR_VARIANT, BOTH)
        if compared > both:
            return f"{compared:,} pairs were compared in exposure {exposure.id}, {both:,} have both answers"
    return None


def _lopsided(evidence: Evidence, exposures: Sequence[Exposure], *, keyed: bool) -> str | None:
    """Whether we drop one variant's requests more often than the other's."""
    reading = Reading(evidence, exposures, keyed)
    counts = [reading.dropped(role) for role in Role]
    if float(log_e_arm(counts[0], counts[1], reading.share, _EITHER_WAY)) < IMBALANCE_LEVEL:
        return None
    stable, candidate = (float(count.sum()) for count in counts)
    return (
        f"the gateway itself dropped {stable:,.0f} requests of stable and {candidate:,.0f} of the candidate, which is "
        "not how they were split; look at max_in_flight of both variants"
    )


def _missing(evidence: Evidence, present: Exposure) -> str | None:
    cells = evidence.cells(present.id, PAIR, "", PAIR_VARIANT)
    missing = sum(cells.get(cell, 0) for cell in MISSING_CANDIDATE)
    copies = missing + cells.get(BOTH, 0)
    if missing < MISSING_FEWEST or missing <= MISSING_SHARE * copies:
        return None
    return (
        f"{missing:,} of {copies:,} copies have no answer of the candidate ({100 * missing / copies:.0f} %, at most "
        f"{100 * MISSING_SHARE:.0f} %); look at the route's mirror limits and at the candidate's health"
    )
