"""The comparators: what is the same, what differs, and what cannot be said."""

import pytest

from model_adapters.comparators.digest import Digest
from model_adapters.comparators.label import Label
from router.core.inference import Answer, Prediction
from router.core.observations import Comparison


def labelled(*labels: str, status: int = 200, scores: tuple[float, ...] = ()) -> Answer:
    """Return an answer with these labels."""
    return Answer(status, 10, "d1", Prediction(labels, scores))


def unread(status: int = 200, digest: str = "d1", body_bytes: int = 10) -> Answer:
    """Return an answer without a prediction."""
    return Answer(status, body_bytes, digest)


@pytest.mark.parametrize(
    ("stable", "candidate"),
    [
        (labelled("3"), labelled("3")),
        (labelled("3", "5"), labelled("3", "5")),
        (labelled("3", scores=(0.9,)), labelled("3", scores=(0.4,))),
    ],
)
def test_answers_with_the_same_labels_are_the_same(stable: Answer, candidate: Answer) -> None:
    """Scores may differ."""
    assert Label().compare(stable, candidate) == Comparison("label", same=True, distance=0.0)


@pytest.mark.parametrize(
    ("stable", "candidate", "distance", "reason"),
    [
        (labelled("3"), labelled("8"), 1.0, "3 != 8"),
        (labelled("1", "2", "3", "4"), labelled("1", "9", "3", "8"), 0.5, "row 1: 2 != 9 (2 of 4 rows differ)"),
        (labelled("1", "2"), labelled("1"), 1.0, "2 rows != 1 rows"),
        (labelled("3"), labelled("3", status=500), None, "status 200 != 500"),
        (unread(), unread(500), None, "status 200 != 500"),
    ],
)
def test_answers_with_other_labels_or_status_differ(
    stable: Answer, candidate: Answer, distance: float | None, reason: str
) -> None:
    """The reason names the first difference, the distance is the share of rows that differ."""
    assert Label().compare(stable, candidate) == Comparison("label", same=False, distance=distance, reason=reason)


@pytest.mark.parametrize(
    ("stable", "candidate", "reason"),
    [
        (unread(), unread(), "no label of stable and candidate"),
        (unread(400), unread(400), "no label of stable and candidate (status 400)"),
        (labelled("3"), unread(), "no label of candidate"),
        (unread(), labelled("3"), "no label of stable"),
        (labelled(), labelled(), "no label of stable and candidate"),
        (labelled("3"), labelled(), "no label of candidate"),
    ],
)
def test_answers_without_labels_are_neither_same_nor_different(stable: Answer, candidate: Answer, reason: str) -> None:
    """What was not read cannot be compared, and the reason says whose it was."""
    assert Label().compare(stable, candidate) == Comparison("label", same=None, reason=reason)


@pytest.mark.parametrize(
    ("stable", "candidate", "expected"),
    [
        (unread(), unread(), Comparison("digest", same=True)),
        (unread(404), unread(404), Comparison("digest", same=True)),
        (unread(), unread(500), Comparison("digest", same=False, reason="status 200 != 500")),
        (unread(), unread(digest="d2"), Comparison("digest", same=False, reason="10 bytes that differ")),
        (unread(), unread(digest="d2", body_bytes=12), Comparison("digest", same=False, reason="10 bytes != 12 bytes")),
        (unread(digest=""), unread(), Comparison("digest", same=None, reason="no digest of stable's answer")),
        (unread(), unread(digest=""), Comparison("digest", same=None, reason="no digest of candidate's answer")),
    ],
)
def test_answers_are_the_same_if_status_and_digest_are(stable: Answer, candidate: Answer, expected: Comparison) -> None:
    """The bytes decide; a digest that is missing says nothing."""
    assert Digest().compare(stable, candidate) == expected


@pytest.mark.parametrize("comparator", [Label(), Digest()], ids=["label", "digest"])
def test_a_reason_stays_short(comparator: Label | Digest) -> None:
    """It is kept with every pair."""
    stable, candidate = labelled(*["x" * 64] * 5_000), labelled(*["y" * 64] * 5_000)
    assert len(comparator.compare(stable, candidate).reason) < 200
