"""What the store keeps, and for how long: the same on every implementation."""

ENTRY_BYTES = 128
"""What one batch of pairs costs beside its payload, in the account of `keep_bytes`.

Measured with MEMORY USAGE for batches of 1 to 500 pairs: 26..120 on Valkey 9.1 with libc's malloc. Redis 7.0 with
jemalloc rounds large payloads up to its size classes, by up to 30 %, which is not in the account.
"""

DECISIONS_KEPT = 10_000
"""Decisions kept for each Route, about 5 MiB."""

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
