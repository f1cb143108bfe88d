"""Comparators of rows: what is the same, how far apart the rest is, and that nothing matches silently."""

import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_adapters.comparators.argmax import Argmax
from model_adapters.comparators.cosine import Cosine
from model_adapters.comparators.numeric import Numeric
from model_adapters.comparators.overlap import MOST_BOXES, Boxes, SetOverlap
from model_adapters.comparators.probability import Probability
from model_adapters.comparators.rows import FAR
from model_adapters.comparators.text import Text
from model_adapters.comparators.topk import TopK
from router.core.inference import Answer, Generated, Prediction
from router.core.observations import Comparison, distance_bucket
from router.core.ports import Comparator

NAN, INF = math.nan, math.inf
LAWS = settings(deadline=None, derandomize=True)

OF_NUMBERS: tuple[Comparator, ...] = (
    Argmax(), TopK(1), Probability(), Probability("kl"), Numeric(), Cosine(), SetOverlap(), Boxes(), Boxes(per="row"),
)  # fmt: skip


def rows(*vectors: tuple[float, ...], status: int = 200) -> Answer:
    """Return an answer with these rows of numbers."""
    return Answer(status, 10, "d1", Prediction(vectors=vectors))


def wrote(*texts: str) -> Answer:
    """Return an answer of a language model."""
    return Answer(200, 10, "d1", Prediction(generated=Generated(texts)))


@pytest.mark.parametrize(
    ("comparator", "stable", "candidate", "expected"),
    [
        (Argmax(), (0.1, 0.9), (0.4, 0.6), (True, 0.0, "")),
        (Argmax(), (0.1, 0.9), (0.6, 0.4), (False, 1.0, "class 1 != class 0")),
        (Argmax(), (0.9,), (0.9,), (None, None, "of one number there is no largest")),
        (TopK(2), (5, 4, 3, 2), (4, 5, 2, 3), (True, 0.0, "")),
        (TopK(2), (5, 4, 3, 2), (5, 3, 4, 2), (False, 0.5, "1 of the top 2 in common")),
        (TopK(2, farthest=0.5), (5, 4, 3, 2), (5, 3, 4, 2), (True, 0.5, "")),
        (TopK(5), (5, 4), (4, 5), (None, None, "the top 5 of 2 numbers are all of them")),
        (Probability(), (0.5, 0.5), (0.52, 0.48), (True, 0.02, "")),
        (Probability(), (0.5, 0.5), (0.75, 0.25), (False, 0.25, "total_variation 0.25")),
        (Probability(), (0.5,), (0.75,), (False, 0.25, "total_variation 0.25")),
        (Probability("kl"), (0.5, 0.5), (0.25, 0.75), (False, 0.5 * math.log(4 / 3), "kl 0.1438")),
        (Probability("kl"), (0.5, 0.5), (1.0, 0.0), (False, FAR, "kl 1e+05")),
        (Probability(), (3.0, 4.0), (3.0, 4.0), (None, None, "stable's numbers are no distribution: sum 7")),
        (Probability(), (0.5, 0.5), (3.0, 4.0), (False, 1.0, "candidate's numbers are no distribution: sum 7")),
        (Numeric(), (1.0, 2.0), (1.0, 2.0), (True, 0.0, "")),
        (Numeric(), (1.0, 2.0), (1.0, 2.5), (False, 0.5, "2 != 2.5")),
        (Numeric(absolute=0.5), (1.0, 2.0), (1.0, 2.5), (True, 0.5, "")),
        (Numeric(relative=0.01), (1000.0,), (1010.0,), (True, 10.0, "")),
        (Numeric(relative=0.01), (1000.0,), (1010.1,), (False, 1010.1 - 1000.0, "1000 != 1010.1")),
        (Numeric(absolute=1e308), (1e308,), (-1e308,), (False, FAR, "1e+308 != -1e+308")),
        (Cosine(), (1.0, 0.0), (2.0, 0.0), (True, 0.0, "")),
        (Cosine(), (1.0, 0.0), (0.0, 1.0), (False, 1.0, "cosine 0")),
        (Cosine(), (1e300, 0.0), (-1e300, 0.0), (False, 2.0, "cosine -1")),
        (Cosine(), (0.0, 0.0), (0.0, 0.0), (None, None, "vectors of zeros have no direction")),
        (Cosine(), (0.0, 0.0), (1.0, 0.0), (False, 1.0, "stable is all zeros")),
        (SetOverlap(), (1, 2, 3), (3, 2, 1), (True, 0.0, "")),
        (SetOverlap(), (1, 2, 3), (1, 2, 4), (False, 0.5, "2 of 4 in common")),
        (SetOverlap(), (), (), (None, None, "both sets are empty")),
        (Boxes(), (0, 0, 10, 10), (0, 0, 10, 9), (True, 0.0, "")),
        (Boxes(), (0, 0, 10, 10), (20, 20, 30, 30), (False, 1.0, "0 boxes match of 1 and 1")),
        (Boxes(), (0, 0, 1, 1, 5, 5, 6, 6), (0, 0, 1, 1), (False, 0.5, "1 boxes match of 2 and 1")),
        (Boxes(form="size"), (5, 5, 1, 1), (5, 5, 1, 1), (True, 0.0, "")),
        (Boxes(), (5, 5, 1, 1), (5, 5, 1, 1), (None, None, "stable's numbers are no boxes")),
        (Boxes(), (1, 1, 5, 5), (1, 1, 5), (False, 1.0, "candidate's numbers are no boxes")),
    ],
)
def test_one_row_is_compared_by_its_numbers(
    comparator: Comparator,
    stable: tuple[float, ...],
    candidate: tuple[float, ...],
    expected: tuple[bool | None, float | None, str],
) -> None:
    """Up to the tolerance it is the same; the distance is told either way, and the reason where it differs."""
    found = comparator.compare(rows(stable), rows(candidate))
    same, distance, reason = expected
    assert (same, reason) == (found.same, found.reason)
    assert found.distance == (distance if distance is None else pytest.approx(distance, abs=1e-9))


@pytest.mark.parametrize(
    ("comparator", "stable", "candidate", "expected"),
    [
        (Text(), "Yes.", "Yes.", (True, 0.0, "")),
        (Text(), "Yes.", "yes.", (False, 1.0, "at character 0: 'Yes.' != 'yes.'")),
        (Text("normalised"), "Yes  \n I can", "YES i can ", (True, 0.0, "")),
        (Text("normalised"), " ", "\n", (None, None, "both texts are empty")),
        (Text(), "", "", (None, None, "both texts are empty")),
        (Text(), "", "x", (False, 1.0, "at character 0: '' != 'x'")),
        (Text("tokens"), "the cat sat down", "the dog sat down", (False, 0.25, "1 of 4 words changed")),
        (Text("tokens", 0.25), "the cat sat down", "the dog sat down", (True, 0.25, "")),
        (
            Text("tokens", most_tokens=2),
            "a b c d",
            "e f g h",
            (False, 1.0, "4 of 4 words changed at most, by 2 of them"),
        ),
    ],
)
def test_texts_are_compared_by_their_form(
    comparator: Text, stable: str, candidate: str, expected: tuple[bool | None, float | None, str]
) -> None:
    """Letter by letter, in spirit, or by words; two texts that are empty match nothing."""
    assert Comparison("text", expected[0], expected[1], expected[2]) == comparator.compare(
        wrote(stable), wrote(candidate)
    )


def test_a_text_is_what_was_generated_else_the_labels_else_the_body() -> None:
    """An opaque protocol has only its body; one that is no text is not compared."""
    labelled = Answer(200, 10, "d1", Prediction(("yes",)))
    assert Text().compare(labelled, labelled).same is True
    assert Text().compare(Answer(200, 2, "d1", body=b"ok"), Answer(200, 2, "d1", body=b"no")).same is False
    binary = Answer(200, 2, "d1", body=b"\xff\xfe")
    assert Comparison("text", same=None, reason="no text of stable and candidate") == Text().compare(binary, binary)


@pytest.mark.parametrize("comparator", OF_NUMBERS, ids=lambda one: repr(one).partition(" object at")[0])
@pytest.mark.parametrize(("ours", "theirs"), list(product([NAN, INF, -INF], [NAN, INF, 0.5])))
def test_numbers_that_are_not_finite_never_match(comparator: Comparator, ours: float, theirs: float) -> None:
    """On one side only they differ, on both nobody can say; whichever side, and without an exception."""
    good = (0.5, 0.5, 1.0, 1.0)
    stable, candidate = (ours, *good[1:]), (theirs, *good[1:])
    if not isinstance(comparator, SetOverlap) or math.isnan(ours):
        assert comparator.compare(rows(stable), rows(candidate)).same is not True
        assert comparator.compare(rows(candidate), rows(stable)).same is not True
    if not isinstance(comparator, SetOverlap | Boxes):
        assert (None if theirs != 0.5 else False) is comparator.compare(rows(stable), rows(candidate)).same


@pytest.mark.parametrize("comparator", [*OF_NUMBERS, Text()], ids=lambda one: repr(one).partition(" object at")[0])
def test_what_is_missing_is_not_compared_and_says_whose(comparator: Comparator) -> None:
    """Whether no prediction was read, or one that holds nothing for this comparator."""
    unread, empty = Answer(200, 10, "d1"), Answer(200, 10, "d1", Prediction())
    full = Answer(200, 10, "d1", Prediction(("a",), vectors=((0.0, 0.0, 1.0, 1.0),)))
    for none in (unread, empty):
        assert comparator.compare(none, none).same is None
        assert comparator.compare(full, none).reason.endswith("of candidate")
        assert comparator.compare(none, full).reason.endswith("of stable")
    assert comparator.compare(Answer(404, 1, "d"), Answer(404, 1, "d")).reason.endswith("(status 404)")
    assert Comparison(comparator.name, same=False, reason="status 200 != 500") == comparator.compare(
        full, Answer(500, 10, "d1")
    )


def test_a_batch_is_one_comparison_with_the_mean_distance_of_its_rows() -> None:
    """One row that differs makes the request differ; the reason names the first and says how many."""
    found = Numeric().compare(rows((1.0,), (2.0,), (3.0,), (4.0,)), rows((1.0,), (2.5,), (3.0,), (5.5,)))
    assert Comparison("numeric", same=False, distance=0.5, reason="row 1: 2 != 2.5 (2 of 4 rows differ)") == found


def test_one_row_that_cannot_be_compared_leaves_a_batch_uncompared_unless_another_differs() -> None:
    """So that what nobody can say is neither agreement nor disagreement."""
    unsure = Numeric().compare(rows((1.0,), (NAN,)), rows((1.0,), (NAN,)))
    assert (unsure.same, unsure.distance) == (None, None)
    assert unsure.reason == "row 1: neither is finite (1 of 2 rows cannot be compared)"
    assert Numeric().compare(rows((1.0,), (NAN,)), rows((2.0,), (NAN,))).same is False


def test_batches_of_different_length_differ() -> None:
    """As far as there is: at the end of the scale of evidence."""
    found = Numeric().compare(rows((1.0,), (2.0,)), rows((1.0,)))
    assert Comparison("numeric", same=False, distance=FAR, reason="2 rows != 1 rows") == found
    assert distance_bucket(FAR) >= distance_bucket(1e4)


def test_numbers_are_vectors_else_scores_else_labels_that_are_numbers() -> None:
    """A regression is read as a label by some protocols; labels that are words are no numbers."""
    scored = Answer(200, 10, "d1", Prediction(("cat",), (0.5,)))
    labelled, words = Answer(200, 10, "d1", Prediction(("0.75",))), Answer(200, 10, "d1", Prediction(("cat",)))
    assert Numeric().compare(scored, labelled).distance == 0.25
    assert Comparison("numeric", same=None, reason="no number of candidate") == Numeric().compare(scored, words)


def test_labels_without_vectors_are_one_set() -> None:
    """A model that names several things at once."""
    found = SetOverlap().compare(
        Answer(200, 10, "d1", Prediction(("cat", "dog"))), Answer(200, 10, "d1", Prediction(("dog",)))
    )
    assert found.distance == 0.5


def test_more_boxes_than_fit_a_turn_of_the_loop_are_not_compared() -> None:
    """The time grows with the product, so there is a bound, and the reason says so."""
    many = tuple(float(side) for at in range(MOST_BOXES + 1) for side in (at, at, at + 1, at + 1))
    assert Boxes().compare(rows(many), rows(many)).reason == f"more than {MOST_BOXES} boxes"
    assert Boxes().compare(rows(many[4:]), rows(many[4:])).same is True


@LAWS
@given(st.lists(st.floats() | st.integers(0, 9).map(float), max_size=9), st.lists(st.floats(), max_size=9))
def test_no_numbers_raise_and_every_distance_is_finite(ours: list[float], theirs: list[float]) -> None:
    """Whatever a model answers."""
    for comparator in OF_NUMBERS:
        found = comparator.compare(rows(tuple(ours)), rows(tuple(theirs)))
        assert found.distance is None or (math.isfinite(found.distance) and found.distance >= 0)
        assert found.same is None or found.distance is not None
