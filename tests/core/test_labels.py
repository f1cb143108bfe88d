"""True labels as text, and what one labelled pair counts: the same as the reference counter says."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_adapters.open_inference import OpenInference
from router.core.inference import PREDICTION_BYTES, RawAnswer, kept_label
from router.core.labels import LabelledPair, LabelValue, label_texts
from router.core.observations import CounterKey
from router.core.traffic import Role
from tests.analysis.cases import HALF
from tests.analysis.ledger import Ledger

NAMES = st.sampled_from(["3", "5", "a:b/1", "", "x" * 64])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, ("7",)), ("7", ("7",)), (-3, ("-3",)), (2**64 - 1, ("18446744073709551615",)),
        (True, ("true",)), (False, ("false",)),
        ("", ("",)), ([3, "5", True], ("3", "5", "true")), (["cat"], ("cat",)),
    ],
)  # fmt: skip
def test_a_label_is_written_as_the_adapters_write_predictions(
    value: LabelValue | list[LabelValue], expected: tuple[str, ...]
) -> None:
    """So that 7 and "7" are one label, whoever says it."""
    assert label_texts(value) == expected
    rows = value if isinstance(value, list) else [value]
    output = {"name": "label", "shape": [len(rows)], "datatype": "BYTES", "data": rows}
    raw = RawAnswer(200, (), json.dumps({"outputs": [output]}).encode())
    assert kept_label(OpenInference().read_answer(raw).labels) == kept_label(expected)


@given(st.lists(st.text(max_size=80), min_size=1, max_size=40), st.integers(0, 39))
def test_two_answers_keep_one_text_only_if_all_their_labels_are_equal(labels: list[str], place: int) -> None:
    """Also when the text is cut: the last row of a long batch still makes a difference."""
    other = list(labels)
    other[place % len(labels)] += "x"
    texts = kept_label(labels), kept_label(other)
    assert texts[0] != texts[1]
    assert all(len(text.encode()) <= PREDICTION_BYTES for text in texts)


@given(st.lists(st.tuples(NAMES, NAMES, st.none() | NAMES), min_size=1, max_size=12))
def test_labelled_pairs_count_what_the_reference_counts(answers: list[tuple[str, str, str | None]]) -> None:
    """The cells of docs/evidence.md, by the ledger that specifies them."""
    ledger, counted = Ledger(), Counter[CounterKey]()
    for number, (truth, stable, candidate) in enumerate(answers):
        ledger.label(ledger.start(1.0, HALF, Role.STABLE), truth, stable, candidate)
        pair = LabelledPair(str(number), HALF.id, None, truth, stable, candidate)
        counted.update([*pair.correct(), *(counter for _, counter in pair.classes(()))])
    wanted = {key: n for key, n in ledger.counters(1.0).items() if key.metric in ("correct", "label")}
    assert dict(counted) == wanted


def test_a_batch_has_no_class() -> None:
    """It is right if all its rows are."""
    batch = LabelledPair("id", 1, None, truth="3,5", stable="3,5", candidate="3,4", batch=True)
    assert [one.cell for one in batch.correct()] == ["10"]
    assert list(batch.classes(())) == []


def test_a_label_counts_once_more_in_each_slice_and_there_only_in_classes_that_gates_name() -> None:
    """So what slices of labels cost is bounded by the gates."""
    pair = LabelledPair("id", 1, None, truth="3", stable="3", candidate="4", slices=("tenant=acme",))
    assert [(one.slice, one.cell) for one in pair.correct()] == [("", "10"), ("tenant=acme", "10")]
    assert [(one.slice, one.cell) for _, one in pair.classes({"3"})] == [
        ("", "3:110"), ("tenant=acme", "3:110"), ("", "4:001"),
    ]  # fmt: skip
