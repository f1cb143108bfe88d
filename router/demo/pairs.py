"""How many copies got both answers, by the gateways' own metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

IN_FLIGHT: Final = "in_flight"
"""Why an answer is missing that may still come."""


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Copied requests: `copies` = `both` + all of `missing`, which says why an answer is missing."""

    copies: int
    both: int
    missing: Mapping[str, int]

    @property
    def complete(self) -> float:
        """The part of the copies that have both answers, 0..1; 0 without copies."""
        return self.both / self.copies if self.copies else 0.0


def pair_counts(page: str, live_in_flight: int) -> PairCounts:
    """Return the gateways' own counts from their metrics.

    A copy that is still under way has no second answer yet: it is missing, as IN_FLIGHT. `live_in_flight` requests are
    under way that are no copies.
    """
    from prometheus_client.parser import text_string_to_metric_families

    both = in_flight = 0
    missing: Counter[str] = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            count, labels = int(sample.value), sample.labels
            match sample.name, labels:
                case "turnout_pairs_total", {"outcome": "both"}:
                    both = count
                case "turnout_pairs_total", {"outcome": outcome}:
                    missing[outcome] += count
                case "turnout_dropped_total", {"what": "pair", "reason": "queue_full" as reason}:
                    missing[f"dropped:{reason}"] += count
                case "turnout_dropped_total", {"what": "copy", "reason": reason} if reason != "not_readdressable":
                    # Not readdressable ones are among the pairs already, as the outcome of the copy.
                    missing[f"not_sent:{reason}"] += count
                case "turnout_in_flight", _:
                    in_flight += count
    missing[IN_FLIGHT] = max(0, in_flight - live_in_flight)
    kept = {reason: count for reason, count in sorted(missing.items()) if count}
    return PairCounts(both + sum(kept.values()), both, MappingProxyType(kept))
