"""Options of comparators: what each takes, and what is said of anything else."""

import pytest

from router.core.errors import ConfigError
from router.core.options import Options, configured
from router.plugins import load_comparators

GOOD: dict[str, Options] = {
    "topk": (("k", 3), ("max", 0.5)),
    "probability": (("max", 0.1), ("measure", "kl")),
    "numeric": (("abs", 0.01), ("rel", "1%")),
    "cosine": (("max", 0.001),),
    "set": (("max", 0.5),),
    "boxes": (("form", "size"), ("iou", 0.7), ("max", 0.1), ("per", "row")),
    "text": (("form", "tokens"), ("max", 0.2), ("tokens", 100)),
    "json": (("abs", 1), ("ignore", ("$.id",)), ("rel", "5%"), ("unordered", ("$.outputs",))),
}


def test_every_comparator_that_takes_options_takes_these() -> None:
    """And is another than without them, so that no option is read and forgotten."""
    installed = load_comparators()
    for name, options in GOOD.items():
        for one in options:
            assert installed[name] != configured(installed[name], (one,)), one


@pytest.mark.parametrize("name", ["label", "digest", "argmax"])
def test_a_comparator_without_options_refuses_them(name: str) -> None:
    """Rather than to ignore what somebody has meant."""
    with pytest.raises(ConfigError, match="takes no options"):
        configured(load_comparators()[name], (("abs", 1),))


@pytest.mark.parametrize(
    ("name", "option", "value", "expected"),
    [
        ("numeric", "absolute", 1, "no option of this name; known: abs, rel"),
        ("numeric", "abs", -1, "a number from 0 up"),
        ("numeric", "abs", True, "a number from 0 up"),
        ("numeric", "abs", float("nan"), "a number from 0 up"),
        ("numeric", "abs", float("inf"), "that is not infinite"),
        ("numeric", "rel", 0.01, "write 0.01% or 1%"),
        ("topk", "k", 0, "a whole number from 1 to 1000"),
        ("topk", "k", 2.0, "a whole number from 1 to 1000"),
        ("probability", "measure", "js", "one of total_variation, kl"),
        ("set", "max", 1.5, "a number from 0 to 1"),
        ("json", "ignore", "$.id", "a list of field paths"),
        ("json", "ignore", ("$.a[0]",), "a field path like"),
    ],
)
def test_a_wrong_option_is_named_with_what_was_expected(name: str, option: str, value: object, expected: str) -> None:
    """At start-up, not while requests pass."""
    with pytest.raises(ConfigError) as raised:
        configured(load_comparators()[name], ((option, value),))
    assert option == raised.value.field
    assert expected in raised.value.expected
