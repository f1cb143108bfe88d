"""Text: what two language models wrote, letter by letter, in spirit, or by how many words changed."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from model_adapters.comparators.rows import Row, compare_rows
from router.core.inference import Answer
from router.core.observations import Comparison
from router.core.options import OptionReader

SHOWN_CHARS = 40


@dataclass(frozen=True, slots=True)
class Text:
    """Compares texts: `exact`, `normalised` (Unicode NFKC, no case, one space for any), or `tokens`.

    `tokens` are words; the distance is the share of them that must be put in, taken out or changed. Up to `farthest`
    the texts are the same. Where more than `most_tokens` are left between what both begin and end with, the rest
    counts as changed, so that the time is bounded: the distance is then too large, never too small.
    """

    name: ClassVar[str] = "text"
    form: str = "exact"
    farthest: float = 0.0
    most_tokens: int = 512

    def configured(self, options: Mapping[str, object]) -> "Text":
        """See TakesOptions."""
        read = OptionReader(options, ("form", "max", "tokens"))
        return Text(
            read.choice("form", "exact", "normalised", "tokens"),
            read.number("max", 0.0, most=1.0),
            read.whole("tokens", 512, 1, 4_096),
        )

    def compare(self, stable: Answer, candidate: Answer) -> Comparison:
        """Return whether all texts are near enough: generated ones, else labels, else a body that is text."""
        return compare_rows(self.name, "text", stable, candidate, _texts_of, self._row)

    def _row(self, ours: str, theirs: str) -> Row:
        if self.form != "exact":
            ours, theirs = _normal(ours), _normal(theirs)
        if not ours and not theirs:
            return Row(same=None, distance=0.0, said="both texts are empty")
        if ours == theirs:
            return Row(same=True, distance=0.0)
        if self.form != "tokens":
            return Row(same=False, distance=1.0, said=_first_difference(ours, theirs))
        edits, of, bounded = token_edits(ours.split(), theirs.split(), self.most_tokens)
        distance = edits / of
        at_most = f" at most, by {self.most_tokens} of them" if bounded else ""
        return Row(distance <= self.farthest, distance, f"{edits} of {of} words changed{at_most}")


def _texts_of(answer: Answer) -> Sequence[str]:
    prediction = answer.prediction
    if prediction is not None:
        return prediction.generated.texts if prediction.generated is not None else prediction.labels
    if not 200 <= answer.status < 300 or not answer.body:
        return ()
    try:
        return (answer.body.decode(),)
    except UnicodeDecodeError:
        return ()


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _first_difference(ours: str, theirs: str) -> str:
    at = next((at for at, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    return f"at character {at}: {ours[at : at + SHOWN_CHARS]!r} != {theirs[at : at + SHOWN_CHARS]!r}"


def token_edits(ours: Sequence[str], theirs: Sequence[str], most: int) -> tuple[int, int, bool]:
    """Return how many tokens must change, of how many, and whether that is an upper bound only.

    What both begin and end with needs no edit. Of what is left the first `most` are aligned, the rest counts whole.
    """
    of = max(len(ours), len(theirs))
    begin = 0
    while begin < min(len(ours), len(theirs)) and ours[begin] == theirs[begin]:
        begin += 1
    end = 0
    while end < min(len(ours), len(theirs)) - begin and ours[-1 - end] == theirs[-1 - end]:
        end += 1
    a, b = ours[begin : len(ours) - end], theirs[begin : len(theirs) - end]
    rest = max(len(a) - most, len(b) - most, 0)
    return edit_distance(a[:most], b[:most]) + rest, of, rest > 0


def edit_distance(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Return the Levenshtein distance of two sequences.

    A column of the table is two whole numbers, the bits where it rises and where it falls (Myers 1999, as Hyyro 2003
    writes it): one step for each token of `theirs`, of numbers with as many bits as `ours` has tokens.
    tests/model_adapters/test_text_comparator.py checks it against the table itself.
    """
    if not ours:
        return len(theirs)
    places: dict[str, int] = {}
    for at, token in enumerate(ours):
        places[token] = places.get(token, 0) | 1 << at
    full, last = (1 << len(ours)) - 1, 1 << (len(ours) - 1)
    rises, falls, distance = full, 0, len(ours)
    for token in theirs:
        equal = places.get(token, 0)
        diagonal = (((equal & rises) + rises) ^ rises) | equal | falls
        up, down = falls | (full & ~(diagonal | rises)), rises & diagonal
        distance += bool(up & last) - bool(down & last)
        up, down = (up << 1 | 1) & full, (down << 1) & full
        rises, falls = down | (full & ~(diagonal | up)), up & diagonal
    return distance
