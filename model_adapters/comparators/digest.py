"""Digest: two answers are the same if status and bytes are."""

from model_adapters.comparators.rows import status_differs
from router.core.inference import Answer
from router.core.observations import Comparison


class Digest:
    """Compares status and digest of the body; right for deterministic models behind the opaque adapter."""

    name = "digest"

    def compare(self, stable: Answer, candidate: Answer) -> Comparison:
        """Return whether status and body are equal; `same` is None when a digest is missing."""
        by_status = status_differs(self.name, stable, candidate)
        if by_status is not None:
            return by_status
        if not stable.digest or not candidate.digest:
            missing = "stable" if not stable.digest else "candidate"
            return Comparison(self.name, same=None, reason=f"no digest of {missing}'s answer")
        if stable.digest == candidate.digest:
            return Comparison(self.name, same=True)
        sizes = f"{stable.body_bytes} bytes != {candidate.body_bytes} bytes"
        same_size = stable.body_bytes == candidate.body_bytes
        return Comparison(
            self.name, same=False, reason=f"{stable.body_bytes} bytes that differ" if same_size else sizes
        )
