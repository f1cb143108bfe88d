"""`check_adapter` itself: it must notice what it promises to notice."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from model_adapters.opaque import Opaque
from router.core.inference import InferenceRequest, Prediction, RawAnswer, RawRequest
from router.core.traffic import Variant
from router.testing.adapter_contract import AdapterExample, check_adapter

REQUEST = RawRequest("POST", "/predict?x=1", (("content-type", "text/plain"),), b"seven")
ANSWER = RawAnswer(200, (), b"7")
READABLE = AdapterExample(REQUEST, ANSWER, InferenceRequest(), Prediction(("7",)))


class Plain(Opaque):
    """Reads a whole answer as its label, with one thing done wrongly."""

    def __init__(
        self,
        reads: Callable[[RawAnswer], Prediction | None] = lambda raw: Prediction((raw.body.decode("latin-1")[:32],)),
        sends: Callable[[RawRequest], RawRequest] = lambda raw: raw,
    ) -> None:
        self._reads = reads
        self._sends = sends

    def read_answer(self, raw: RawAnswer) -> Prediction | None:
        """Return what the broken reader makes of it."""
        return self._reads(raw)

    def retarget(self, raw: RawRequest, variant: Variant) -> RawRequest:
        """Return what the broken sender makes of it."""
        return self._sends(super().retarget(raw, variant))


def test_an_adapter_that_keeps_the_contract_passes() -> None:
    """The frame of the broken ones below is sound."""
    check_adapter(Plain(), [READABLE])


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (
            Plain(reads=lambda raw: Prediction((str(int(raw.body)),))),
            "only UnreadableError may be raised, not ValueError",
        ),
        (Plain(reads=lambda _: None), "the answer is read as expected"),
        (Plain(reads=lambda raw: Prediction((raw.body.decode("latin-1"),))), "at most 64 bytes"),
        (Plain(reads=lambda raw: Prediction(("7",), () if raw == ANSWER else (float("nan"),))), "a score is finite"),
        (Plain(sends=lambda raw: replace(raw, method="GET")), "retarget keeps the method"),
        (Plain(sends=lambda raw: replace(raw, headers=())), "retarget keeps the header fields"),
        (Plain(sends=lambda raw: replace(raw, target="/other/path")), "retarget keeps the query"),
        (Plain(sends=lambda raw: replace(raw, target=raw.target[1:])), "retarget gives a path"),
    ],
)
def test_an_adapter_that_breaks_the_contract_is_found(adapter: Plain, sentence: str) -> None:
    """Each fault by itself fails the check, with a sentence that names it."""
    with pytest.raises(AssertionError, match=sentence):
        check_adapter(adapter, [READABLE])


def test_an_adapter_cannot_be_checked_without_examples() -> None:
    """Nothing read is nothing proved."""
    with pytest.raises(AssertionError, match="at least one example"):
        check_adapter(Plain(), [])
