"""The opaque adapter: nothing is read, nothing is assumed."""

from dataclasses import replace

import pytest

from model_adapters.opaque import Opaque
from router.core.errors import ConfigError, UnreadableError
from router.core.inference import InferenceRequest, RawAnswer, RawRequest
from router.core.traffic import Backend, Variant
from router.testing.adapter_contract import AdapterExample, check_adapter

ADAPTER = Opaque()
REQUEST = RawRequest("POST", "/predict?explain=1", (("content-type", "image/png"),), b"\x89PNG\r\n")
PLAIN = Variant("v2", (Backend("127.0.0.1", 9001),))


def test_the_adapter_keeps_the_contract_it_shares_with_strangers() -> None:
    """Any bytes are an example of its protocol."""
    answer = RawAnswer(200, (), b"\x00\x01 whatever")
    check_adapter(ADAPTER, [AdapterExample(REQUEST, answer, InferenceRequest(), None)])


def test_a_request_must_not_be_sent_twice_unless_the_route_says_so() -> None:
    """Nothing is known of what a request does; answers are compared by their bytes."""
    assert (ADAPTER.mirror_safe, ADAPTER.comparator) == (False, "digest")


def test_retarget_replaces_the_path_and_keeps_the_query() -> None:
    """Everything else stays byte for byte."""
    moved = ADAPTER.retarget(REQUEST, replace(PLAIN, path="/v2/predict"))
    assert moved == replace(REQUEST, target="/v2/predict?explain=1")
    assert ADAPTER.retarget(REQUEST, PLAIN) is REQUEST


def test_a_model_cannot_be_written_into_bytes_that_nobody_reads() -> None:
    """Refused at start, and again if a request should ever get so far."""
    variant = replace(PLAIN, model="digits-v2")
    with pytest.raises(ConfigError, match="use `path:`") as refusal:
        ADAPTER.check_variant(variant)
    assert refusal.value.field == "model"
    with pytest.raises(UnreadableError):
        ADAPTER.retarget(REQUEST, variant)
    ADAPTER.check_variant(PLAIN)
