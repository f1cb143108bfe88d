"""What is kept of requests and answers (PR1, PR2): nothing of their words but what the operator asked for."""

import json
from typing import Any

import pytest

from model_adapters.opaque import Opaque
from router.core.config import PairsConfig
from router.core.errors import UnreadableError
from router.core.inference import Answer, Prediction, RawAnswer
from router.core.observations import Comparison
from tests.gateway.bench import ADAPTERS, COMPARATORS, Bench, route_of, started
from tests.gateway.upstreams import Script, answering, ok

SHADOW = started(0, 10_000)
SECRET = "anna@example.org"


def predicting(label: str) -> Script:
    """Answer with a prediction of this label."""
    output = {"name": "label", "datatype": "BYTES", "shape": [1], "data": [label]}
    return answering(ok(json.dumps({"model_name": "m", "outputs": [output]}).encode()))


async def reason_of(bench: Bench, *, keep: bool, **plugins: object) -> Comparison:
    """Return the comparison of one pair in the log of answers that hold SECRET."""
    stable, candidate = await bench.upstream(predicting(SECRET)), await bench.upstream(predicting(SECRET + "x" * 999))
    gateway = await bench.gateway(
        route_of(stable, candidate, adapter="open_inference"), states=[SHADOW],
        pairs=PairsConfig(predictions=keep), **plugins,  # type: ignore[arg-type]
    )  # fmt: skip
    client = await bench.client()
    await client.ask("POST", "/v2/models/m/infer", b"{}")
    return (await gateway.pairs(1))[0].comparison


class Quoting(Opaque):
    """An adapter whose errors quote what it could not read."""

    name = "open_inference"

    def read_answer(self, raw: RawAnswer) -> Prediction | None:
        """Fail."""
        raise UnreadableError(f"cannot read {raw.body.decode()}")


class QuotingComparator:
    """A comparator whose reasons quote the answers, in both of its words."""

    name = "label"

    def __init__(self, *, same: bool | None) -> None:
        self._same = same

    def compare(self, stable: Answer, candidate: Answer) -> Comparison:
        """Quote."""
        return Comparison(self.name, same=self._same, reason=f"{stable.prediction} or {candidate.prediction}")


PLUGINS: dict[str, dict[str, Any]] = {
    "built in": {},
    "adapter": {"adapters": {**ADAPTERS, "open_inference": Quoting()}},
    "same": {"comparators": {**COMPARATORS, "label": QuotingComparator(same=True)}},
    "unsaid": {"comparators": {**COMPARATORS, "label": QuotingComparator(same=None)}},
}


@pytest.mark.parametrize("plugin", PLUGINS)
async def test_pr1_without_predictions_no_reason_quotes_an_answer(bench: Bench, plugin: str) -> None:
    """Whoever gives it: the words of adapters and comparators are not kept, what they found is."""
    found = await reason_of(bench, keep=False, **PLUGINS[plugin])
    assert SECRET not in repr(found)
    expected = {"built in": False, "adapter": None, "same": True, "unsaid": None}
    assert (found.same, bool(found.reason)) == (expected[plugin], plugin == "adapter")


@pytest.mark.parametrize("plugin", PLUGINS)
async def test_pr1_with_predictions_a_reason_is_short(bench: Bench, plugin: str) -> None:
    """The labels in it are those that the pair keeps, of 64 bytes each; a plug-in's words end after 256."""
    found = await reason_of(bench, keep=True, **PLUGINS[plugin])
    assert SECRET in found.reason
    assert len(found.reason) <= (2 * 64 + len(" != ") if plugin == "built in" else 256)
