"""Two answers are read and compared: what an adapter is given, and when it is asked."""

from hashlib import blake2b

from model_adapters.comparators.digest import Digest
from router.core.errors import UnreadableError
from router.core.inference import Answer, Prediction, RawAnswer
from router.core.observations import Comparison
from router.gateway.comparing import Half, Reading, compare

LINES = [b"Content-Type:  text/plain \r\n", b"x-odd: a:\xe9\r\n", b"x-odd: b\r\n"]
ANSWER = Half(200, LINES, [b"se", b"ven"], "")


class Reader:
    """An adapter that reads whole bodies as labels, and keeps what it was given."""

    name = "reader"

    def __init__(self) -> None:
        self.given: list[RawAnswer] = []

    def read_answer(self, raw: RawAnswer) -> Prediction:
        """Read it; an empty one is unreadable."""
        self.given.append(raw)
        if not raw.body:
            raise UnreadableError("empty")
        return Prediction((raw.body.decode(),))


class Doubter:
    """A comparator that finds no two answers the same."""

    name = "doubter"

    def compare(self, stable: Answer, candidate: Answer) -> Comparison:
        """Say so, and what was compared."""
        return Comparison(self.name, same=False, reason=f"{stable.prediction} {candidate.prediction}")


def test_an_adapter_is_given_names_in_lower_case_and_values_without_blanks() -> None:
    """In the order in which they came, doubles included, and what is no ASCII as Latin-1."""
    reader = Reader()
    compare(reader, Digest(), ANSWER, ANSWER)  # type: ignore[arg-type]
    raw = reader.given[0]
    assert raw.headers == (("content-type", "text/plain"), ("x-odd", "a:é"), ("x-odd", "b"))
    assert (raw.status, raw.body) == (200, b"seven")


def test_answers_that_are_equal_to_the_last_byte_are_read_once_and_compared_all_the_same() -> None:
    """Whether they are the same the comparator says, and the log has the reading of both."""
    reader = Reader()
    found = compare(reader, Doubter(), ANSWER, ANSWER._replace(fields=list(LINES)))  # type: ignore[arg-type]
    assert len(reader.given) == 1
    assert (found.comparison.same, found.said) == (False, f"{Prediction(('seven',))} {Prediction(('seven',))}")
    assert found.stable == found.candidate == Reading(blake2b(b"seven", digest_size=16).hexdigest(), "seven")


def test_answers_that_differ_in_status_field_or_body_are_read_by_themselves() -> None:
    """An adapter may read any of the three."""
    for other in (
        ANSWER._replace(status=201),
        ANSWER._replace(fields=LINES[:2]),
        ANSWER._replace(body=[b"eight"]),
    ):
        reader = Reader()
        compare(reader, Digest(), ANSWER, other)  # type: ignore[arg-type]
        assert len(reader.given) == 2


def test_an_unreadable_answer_is_told_by_its_role() -> None:
    """Stable's first, where both are."""
    empty = ANSWER._replace(body=[])
    for stable, candidate, role in ((ANSWER, empty, "candidate"), (empty, ANSWER, "stable"), (empty, empty, "stable")):
        found = compare(Reader(), Digest(), stable, candidate)  # type: ignore[arg-type]
        assert (found.comparison.same, found.comparison.reason) == (None, f"unreadable answer of {role}")
        assert found.said == "empty"
