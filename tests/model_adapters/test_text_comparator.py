"""The edit distance of tokens, checked against the table that defines it."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from model_adapters.comparators.text import edit_distance, token_edits

TOKENS = st.lists(st.sampled_from("abc"), max_size=40)


def by_table(ours: list[str], theirs: list[str]) -> int:
    """Return the distance as Wagner and Fischer compute it."""
    above = list(range(len(theirs) + 1))
    for i, a in enumerate(ours, start=1):
        row = [i]
        for j, b in enumerate(theirs, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
        above = row
    return above[-1]


@settings(deadline=None, derandomize=True)
@given(TOKENS, TOKENS)
def test_the_distance_is_that_of_the_table(ours: list[str], theirs: list[str]) -> None:
    """For all short texts of three words."""
    assert by_table(ours, theirs) == edit_distance(ours, theirs)


@settings(deadline=None, derandomize=True)
@given(TOKENS, TOKENS, st.integers(1, 50))
def test_a_bounded_distance_is_never_too_small(ours: list[str], theirs: list[str], most: int) -> None:
    """And exact where the bound did not matter."""
    edits, _, bounded = token_edits(ours, theirs, most)
    exact = by_table(ours, theirs)
    assert exact <= edits
    assert bounded or exact == edits


def test_long_texts_have_the_distance_of_the_table() -> None:
    """Beyond the width of a machine's word, too."""
    rng = random.Random(7)
    ours, theirs = ([rng.choice("abcdefgh") for _ in range(length)] for length in (500, 430))
    assert by_table(ours, theirs) == edit_distance(ours, theirs)
