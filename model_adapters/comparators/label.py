"""Label: two answers are the same if their labels are, row by row; scores may differ."""

from model_adapters.comparators.rows import missing, status_differs
from router.core.inference import Answer, kept_label
from router.core.observations import Comparison


class Label:
    """Compares the labels of two predictions; `distance` is the share 0..1 of rows that differ."""

    name = "label"
    _same = Comparison(name, same=True, distance=0.0)
    """What most pairs get: made once, since it says nothing of them."""

    def compare(self, stable: Answer, candidate: Answer) -> Comparison:
        """Return whether all labels are equal; `same` is None when a prediction or all labels are missing."""
        by_status = status_differs(self.name, stable, candidate)
        if by_status is not None:
            return by_status
        ours = stable.prediction.labels if stable.prediction else ()
        theirs = candidate.prediction.labels if candidate.prediction else ()
        if not ours or not theirs:
            return missing(self.name, "label", stable.status, ours=bool(ours), theirs=bool(theirs))
        if ours == theirs:
            return self._same
        if len(ours) != len(theirs):
            return Comparison(self.name, same=False, distance=1.0, reason=f"{len(ours)} rows != {len(theirs)} rows")
        return self._rows(ours, theirs)

    def _rows(self, ours: tuple[str, ...], theirs: tuple[str, ...]) -> Comparison:
        """Compare batches of equal length that are known to differ."""
        differing = [row for row, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
        first = differing[0]
        reason = f"{kept_label([ours[first]])} != {kept_label([theirs[first]])}"
        if len(ours) > 1:
            reason = f"row {first}: {reason} ({len(differing)} of {len(ours)} rows differ)"
        return Comparison(self.name, same=False, distance=len(differing) / len(ours), reason=reason)
