"""The split of traffic: exact at every weight, only ever adding users, the same on every machine."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import pytest
from scipy.stats import chi2

from router.core.rollout import FULL_BP, Exposure
from router.core.traffic import MIRROR, SERVE, Assignment, Role, assign, bucket_of

ROLLOUT = "a1b2c3d4e5f6.1"
BUCKETS = range(FULL_BP)
KEYS = [f"user-{number}".encode() for number in range(20_000)]


def exposure(weight_bp: int = 0, mirror_bp: int = 0) -> Exposure:
    """Return an exposure of these shares."""
    return Exposure(id=1, weight_bp=weight_bp, mirror_bp=mirror_bp, policy="canary", since_s=0.0)


def served_by_candidate(weight_bp: int) -> list[int]:
    """Return the buckets that the candidate serves, every one of the 10,000 asked."""
    shares = exposure(weight_bp)
    return [bucket for bucket in BUCKETS if assign(shares, bucket, 0).serve is Role.CANDIDATE]


@pytest.mark.parametrize(
    ("key", "rollout_id", "purpose", "bucket"),
    [
        (b"user-1", "a1b2c3d4e5f6.1", SERVE, 3066),
        (b"user-1", "a1b2c3d4e5f6.1", MIRROR, 2383),
        ("jürgen@example.org".encode(), "55773b53b561.12", SERVE, 4234),
    ],
)
def test_a_key_has_the_bucket_that_was_computed_once_for_all(
    key: bytes, rollout_id: str, purpose: bytes, bucket: int
) -> None:
    """The vectors were made with hashlib alone; should they ever change, every user would change sides."""
    assert bucket == bucket_of(key, rollout_id, purpose)


@pytest.mark.parametrize("weight_bp", [*range(0, FULL_BP, 37), FULL_BP])
def test_the_candidate_serves_exactly_its_share_of_all_buckets(weight_bp: int) -> None:
    """At weight w it serves buckets 0..w-1 and no other: so the share is exact, and raising it only adds users."""
    assert list(range(weight_bp)) == served_by_candidate(weight_bp)


def test_at_every_weight_the_split_lies_between_two_neighbouring_buckets() -> None:
    """For each of the 10,001 weights the last bucket inside is the candidate's, the first outside is stable's."""
    for weight_bp in range(FULL_BP + 1):
        shares = exposure(weight_bp)
        inside = [assign(shares, bucket, 0).serve for bucket in {0, weight_bp - 1} if 0 <= bucket < weight_bp]
        outside = [
            assign(shares, bucket, 0).serve for bucket in {weight_bp, FULL_BP - 1} if weight_bp <= bucket < FULL_BP
        ]
        assert {Role.CANDIDATE} >= set(inside), weight_bp
        assert {Role.STABLE} >= set(outside), weight_bp


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_bucket_is_exact_at_every_weight() -> None:
    """The whole enumeration: 10,000 buckets at 10,001 weights."""
    for weight_bp in range(FULL_BP + 1):
        assert weight_bp == len(served_by_candidate(weight_bp))


def test_weight_zero_never_serves_from_the_candidate() -> None:
    """Whatever the mirror share, no bucket reaches the candidate as a live request."""
    for mirror_bp in (0, 1, 5_000, FULL_BP):
        shares = exposure(0, mirror_bp)
        assert all(assign(shares, bucket, bucket).serve is Role.STABLE for bucket in BUCKETS)


def test_copies_follow_the_mirror_share_alone() -> None:
    """A request is copied iff its mirror bucket is below mirror_bp, whoever serves it; the copy goes to the other."""
    for weight_bp in (0, 1_234, FULL_BP):
        shares = exposure(weight_bp, 2_500)
        copied = [bucket for bucket in BUCKETS if assign(shares, FULL_BP - 1 - bucket, bucket).copy]
        assert list(range(2_500)) == copied
    assert Assignment(Role.CANDIDATE, copy=True) == assign(exposure(1, 1), 0, 0)
    assert (Role.CANDIDATE.other, Role.STABLE.other) == (Role.STABLE, Role.CANDIDATE)


def chi_square(observed: Sequence[int], expected: float) -> float:
    """Return Pearson's statistic for equally likely cells."""
    return sum((count - expected) ** 2 / expected for count in observed)


def assert_like_chance(statistic: float, degrees: int) -> None:
    """Fail when a statistic is too large for chance, or too small: each 1 in 10,000; the keys are fixed."""
    assert chi2.ppf(1e-4, degrees) < statistic < chi2.ppf(1 - 1e-4, degrees)


@pytest.mark.parametrize("purpose", [SERVE, MIRROR])
def test_users_spread_evenly_over_the_buckets(purpose: bytes) -> None:
    """20,000 users in 100 groups of buckets look like chance: neither uneven nor suspiciously even."""
    counts = Counter(bucket_of(key, ROLLOUT, purpose) // 100 for key in KEYS)
    assert_like_chance(chi_square([counts[cell] for cell in range(100)], len(KEYS) / 100), 99)


@pytest.mark.parametrize(
    ("other_rollout", "purpose"),
    [(ROLLOUT, MIRROR), ("a1b2c3d4e5f6.2", SERVE)],
    ids=["the mirror hash", "the next rollout"],
)
def test_another_hash_is_independent_of_the_serving_hash(other_rollout: str, purpose: bytes) -> None:
    """Who serves says nothing about who is copied, nor about who serves in the next rollout."""
    counts = Counter(
        (bucket_of(key, ROLLOUT, SERVE) // 1_000, bucket_of(key, other_rollout, purpose) // 1_000) for key in KEYS
    )
    rows = Counter(bucket_of(key, ROLLOUT, SERVE) // 1_000 for key in KEYS)
    columns = Counter(bucket_of(key, other_rollout, purpose) // 1_000 for key in KEYS)
    statistic = sum(
        (counts[row, column] - rows[row] * columns[column] / len(KEYS)) ** 2 / (rows[row] * columns[column] / len(KEYS))
        for row in range(10)
        for column in range(10)
    )
    assert_like_chance(statistic, 81)


@pytest.mark.parametrize("weight_bp", [100, 1_000, 5_000])
def test_the_share_of_users_is_within_the_sampling_error_of_the_weight(weight_bp: int) -> None:
    """Of 20,000 users the candidate's share is within four standard errors of its weight, on both sides."""
    share = weight_bp / FULL_BP
    served = sum(bucket_of(key, ROLLOUT, SERVE) < weight_bp for key in KEYS) / len(KEYS)
    error = (share * (1 - share) / len(KEYS)) ** 0.5
    assert share - 4 * error < served < share + 4 * error


@pytest.mark.parametrize("seed", ["0", "1", "4294967295", "random"])
def test_another_process_puts_the_same_user_on_the_same_side(seed: str) -> None:
    """Python's own hash differs between processes; ours does not."""
    script = (
        "from router.core.traffic import bucket_of, SERVE\n"
        f"print([bucket_of(b'user-%d' % number, '{ROLLOUT}', SERVE) for number in range(500)])\n"
    )
    environ = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert str([bucket_of(key, ROLLOUT, SERVE) for key in KEYS[:500]]) == done.stdout.strip()


def test_a_rollout_id_of_64_bytes_is_the_longest_that_can_be_hashed() -> None:
    """BLAKE2b takes keys of up to 64 bytes; a longer id is an error, not a cut."""
    assert bucket_of(b"user", "x" * 64, SERVE) in BUCKETS
    with pytest.raises(ValueError, match="maximum key length"):
        bucket_of(b"user", "x" * 65, SERVE)
