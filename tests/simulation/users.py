"""Requests of users who come back, one by one: for what depends on who asks, and on which replica hears it.

A few users make most of the requests and each fails at a rate of its own, so requests are far from independent; the
side a user is on is drawn once, by the hash bucket of its key.
"""

from dataclasses import dataclass

import numpy as np

from router.analysis.eprocess import Floats
from tests.simulation.traffic import Flags, Ints

REPLICAS = 8


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who asks, how often: the u-th user's part of all requests is proportional to 1/(u + `flat`), u from 0."""

    users: int
    requests_per_s: float
    seconds: int
    flat: float = 5.0

    def requests(self, rng: np.random.Generator) -> tuple[Floats, Ints]:
        """Return the times of all requests in rising order, in seconds, and who makes them."""
        many = rng.poisson(self.requests_per_s * self.seconds)
        parts = 1 / (np.arange(self.users) + self.flat)
        return np.sort(rng.uniform(0, self.seconds, many)), rng.choice(self.users, many, p=parts / parts.sum())


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests of one rollout in order of time: each array (n,)."""

    time_s: Floats
    user: Ints
    exposure: Ints
    by_candidate: Flags
    failed: Flags


def firsts(unit: Ints, exposure: Ints, exposures: int) -> tuple[Ints, Ints]:
    """Return which events are the first of their unit in an exposure, and where the unit was counted last, 0 for never.

    Exposures count from 0, the last ones from 1, so that a start s counts what was last counted in s or before.
    """
    cell, at = np.unique(unit * exposures + exposure, return_index=True)
    unit_of, exposure_of = np.divmod(cell, exposures)
    follows = np.concatenate([[False], unit_of[1:] == unit_of[:-1]])
    last = np.where(follows, np.concatenate([[0], exposure_of[:-1]]) + 1, 0)
    return at, last


def counted(requests: Requests, at: Ints, last: Ints, exposures: int, looks_s: Ints) -> Floats:
    """Return how many of the events `at` have ended until each look: (looks, exposures, last, variant, failed)."""
    look = np.searchsorted(looks_s, requests.time_s[at], side="left")
    counts = np.zeros((len(looks_s) + 1, exposures, exposures, 2, 2))
    np.add.at(counts, (look, requests.exposure[at], last, requests.by_candidate[at] * 1, requests.failed[at] * 1), 1)
    return np.cumsum(counts[:-1], axis=0)


def boots_of(time_s: Floats, replica: Ints, every_s: float, rng: np.random.Generator) -> Ints:
    """Return which boot of its replica hears each request: replicas restart that often, each at times of its own."""
    offset_s = rng.uniform(0, every_s, REPLICAS)
    return np.floor((time_s + offset_s[replica]) / every_s).astype(np.int64)
