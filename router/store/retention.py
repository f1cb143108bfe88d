"""What the store keeps, and for how long: the same on every implementation."""

ENTRY_BYTES = 128
"""What one batch of pairs costs beside its payload, in the account of `keep_bytes`.

Measured with MEMORY USAGE for batches of 1 to 500 pairs: 26..120 on Valkey 9.1 with libc's malloc. Redis 7.0 with
jemalloc rounds large payloads up to its size classes, by up to 30 %, which is not in the account.
"""

DECISIONS_KEPT = 10_000
DECISIONS_BYTES = 16 * 2**20
"""Decisions kept for each Route: so many, and no more than fit these bytes if all are as long as the newest.

With one gate a decision takes 1 KiB, with ten gates 10 KiB, so that 1,600 of those are kept.
"""


def decisions_kept(record_bytes: int) -> int:
    """Return how many decisions are kept when the newest takes so many bytes."""
    return max(1, min(DECISIONS_KEPT, DECISIONS_BYTES // max(1, record_bytes)))


BASES_BYTES = 16 * 2**20
"""Bytes of what decisions followed from, kept for each Route: 10 to 40 KiB each as a rule, so 400 decisions or more.

The largest, after 50 exposures on a Route with affinity keys, have 1.8 MiB: eight of them.
"""

SAMPLES_BYTES = 8 * 2**20
"""Bytes of samples of the evidence kept for each rollout: all of a week, 320 of 12 to 25 KiB, as a rule."""

BASIS_BYTES = 4 * 2**20
"""Most bytes of one basis. Chosen: above any that can be, as far as is known; one that is larger is not kept."""

EVIDENCE_KEPT_S = 30 * 86_400
"""How long evidence outlives its last write; a rollout lasts 7 days unless configured otherwise."""

LABELS_KEPT = 200_000
"""Labels of one rollout; more are refused. Chosen: some 8 MiB (40 bytes each in Valkey 9.1); proof of a small margin
takes 10,000."""

CLASSES_KEPT = 32
"""Classes that labels are counted by, besides those that gates name. Chosen: each costs up to 7 counters in each
exposure, with affinity keys as many again for each exposure before it, and control reads them all each second."""

HEARTBEAT_KEPT_S = 86_400.0
"""How long a silent process stays listed."""
