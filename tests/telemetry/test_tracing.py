"""Trace context as it is written and read, the draw, and the bounded queue of spans."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.tracing import (
    Span,
    SpanQueue,
    TraceParent,
    is_sampled,
    read_traceparent,
    traceparent_line,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def span(number: int, text: str = "") -> Span:
    """Return a span whose size its text decides."""
    return Span(1, number, 0, "", "", 0, 1, {"a": text}, server=True, failed=False)


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-adds", True),
    ],
)
def test_a_valid_traceparent_is_read(value: str, *, sampled: bool) -> None:
    """Unknown flags are passed over, a later version may have more behind what we know (section 3.2)."""
    assert read_traceparent(value.encode()) == TraceParent(int(TRACE, 16), int(SPAN, 16), sampled)


@pytest.mark.parametrize(
    "value",
    [
        "", "00", f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-1", f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE}-{SPAN}-01-",
        f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE.upper()}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01", f" 00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01\n", f"00-{TRACE}-{SPAN}-0g",
        f"cc-{TRACE}-{SPAN}-01more",
    ],
)  # fmt: skip
def test_what_is_no_traceparent_is_none(value: str) -> None:
    """By the text of W3C Trace Context: lengths, lower case, no id of zeros, version ff, nothing behind version 00."""
    assert read_traceparent(value.encode()) is None


@given(trace_id=st.integers(1, 2**128 - 1), span_id=st.integers(1, 2**64 - 1), sampled=st.booleans())
def test_what_is_written_is_read(trace_id: int, span_id: int, *, sampled: bool) -> None:
    """The line of an upstream's request says just what was meant."""
    line = traceparent_line(trace_id, span_id, sampled=sampled)
    name, _, value = line.rstrip(b"\r\n").partition(b": ")
    assert name == b"traceparent"
    assert read_traceparent(value) == TraceParent(trace_id, span_id, sampled)


def test_the_draw_follows_the_low_half_of_the_id_and_the_share() -> None:
    """None at 0 %, all at 100 %, and the same traces at every share above the one that takes them."""
    ids = [(number * 0x9E3779B97F4A7C15) % 2**64 + 2**127 for number in range(1, 10_001)]
    taken = {share: {one for one in ids if is_sampled(one, share)} for share in (0, 1, 100, 5_000, 10_000)}
    assert (len(taken[0]), len(taken[10_000])) == (0, 10_000)
    assert 0 <= len(taken[1]) <= 3  # multiples of the golden ratio lie as evenly as can be
    assert 98 <= len(taken[100]) <= 102
    assert 4_998 <= len(taken[5_000]) <= 5_002
    assert taken[1] <= taken[100] <= taken[5_000] <= taken[10_000]


def test_a_full_queue_drops_the_newest_and_counts_them() -> None:
    """By bytes: long texts fill it sooner; what is taken makes room."""
    queue = SpanQueue(4 * span(0).held_bytes)
    for number in range(6):
        queue.put(span(number))
    assert (len(queue), queue.drops) == (4, 2)
    assert [one.span_id for one in queue.take(3)] == [0, 1, 2]
    queue.put(span(6, "x" * 3 * span(0).held_bytes))
    queue.put(span(7))
    assert [one.span_id for one in queue.take(9)] == [3, 7]
    assert (queue.held_bytes, queue.drops, queue.take(1)) == (0, 3, ())
