"""The table of metrics, and how the numbers of many workers become one page."""

import pytest

from router.telemetry.metrics import METRICS, TABLE, HistogramValue, Kind, Snapshot, lasting, merge, render

BUCKETS = len(METRICS["turnout_request_seconds"].bounds) + 1


def histogram(*seconds_buckets: int, total: float) -> HistogramValue:
    """Return a value of turnout_request_seconds with one request in each bucket named."""
    counts = [0] * BUCKETS
    for bucket in seconds_buckets:
        counts[bucket] += 1
    return HistogramValue(tuple(counts), total)


def test_counters_add_up_and_shares_take_the_largest() -> None:
    """Two workers' requests are summed series by series; a weight is the same thing seen twice."""
    one: Snapshot = {
        "turnout_requests_total": {("digits", "v1", "ok"): 3.0, ("digits", "v2", "ok"): 1.0},
        "turnout_weight_ratio": {("digits",): 0.1},
        "turnout_store_up": {(): 1.0},
    }
    other: Snapshot = {
        "turnout_requests_total": {("digits", "v1", "ok"): 4.0},
        "turnout_weight_ratio": {("digits",): 0.05},
        "turnout_store_up": {(): 0.0},
    }
    assert merge([one, other]) == {
        "turnout_requests_total": {("digits", "v1", "ok"): 7.0, ("digits", "v2", "ok"): 1.0},
        "turnout_weight_ratio": {("digits",): 0.1},
        "turnout_store_up": {(): 0.0},
    }


def test_histograms_add_bucket_by_bucket() -> None:
    """Bucket counts and sums are added."""
    series = ("digits", "v1")
    one: Snapshot = {"turnout_request_seconds": {series: histogram(0, 3, total=0.02)}}
    other: Snapshot = {"turnout_request_seconds": {series: histogram(3, total=0.03)}}
    merged = merge([one, other])["turnout_request_seconds"][series]
    assert isinstance(merged, HistogramValue)
    assert merged.counts[:5] == (1, 0, 0, 2, 0)
    assert merged.sum == pytest.approx(0.05)


def test_a_dead_worker_leaves_its_counters_but_not_its_gauges() -> None:
    """What it had counted stays true; what it had in flight is over."""
    snapshot: Snapshot = {
        "turnout_requests_total": {("digits", "v1", "ok"): 3.0},
        "turnout_request_seconds": {("digits", "v1"): histogram(0, total=0.001)},
        "turnout_in_flight": {("digits", "v1"): 7.0},
    }
    assert set(lasting(snapshot)) == {"turnout_requests_total", "turnout_request_seconds"}


@pytest.mark.parametrize(
    ("snapshot", "says"),
    [
        ({"turnout_nonsense_total": {(): 1.0}}, "unknown metric 'turnout_nonsense_total'"),
        ({"turnout_requests_total": {("digits",): 1.0}}, "expected values for"),
        ({"turnout_requests_total": {("a", "b", "c"): HistogramValue((1,), 1.0)}}, "value of a counter"),
        ({"turnout_request_seconds": {("a", "b"): 1.0}}, "value of a histogram"),
        ({"turnout_request_seconds": {("a", "b"): HistogramValue((1, 2), 1.0)}}, "got 2 buckets"),
    ],
)
def test_what_the_table_does_not_know_is_refused(snapshot: Snapshot, says: str) -> None:
    """A producer with a wrong name, label count or shape hears so, in merging as in rendering."""
    with pytest.raises(ValueError, match=says):
        merge([snapshot])
    with pytest.raises(ValueError, match=says):
        render(snapshot)


def test_the_page_is_prometheus_text_with_cumulative_buckets() -> None:
    """Each metric has HELP and TYPE; buckets are cumulative and end with +Inf; label values are escaped."""
    page = render(
        {
            "turnout_requests_total": {('dig"its\n', "v1", "ok"): 3.0},
            "turnout_request_seconds": {("digits", "v1"): histogram(0, 3, BUCKETS - 1, total=70.0)},
        }
    ).decode()
    lines = page.splitlines()
    assert "# TYPE turnout_requests_total counter" in lines
    assert r'turnout_requests_total{outcome="ok",route="dig\"its\n",variant="v1"} 3.0' in lines
    assert 'turnout_request_seconds_bucket{le="0.001",route="digits",variant="v1"} 1.0' in lines
    assert 'turnout_request_seconds_bucket{le="0.01",route="digits",variant="v1"} 2.0' in lines
    assert 'turnout_request_seconds_bucket{le="60.0",route="digits",variant="v1"} 2.0' in lines
    assert 'turnout_request_seconds_bucket{le="+Inf",route="digits",variant="v1"} 3.0' in lines
    assert 'turnout_request_seconds_count{route="digits",variant="v1"} 3.0' in lines
    assert 'turnout_request_seconds_sum{route="digits",variant="v1"} 70.0' in lines


def test_every_row_follows_the_naming_rules() -> None:
    """Prefix, base units, counters end in _total, bounds ascend, names are unique."""
    assert len(METRICS) == len(TABLE)
    for metric in TABLE:
        assert metric.name.startswith("turnout_"), metric
        assert metric.name.endswith("_total") is (metric.kind is Kind.COUNTER), metric
        assert bool(metric.bounds) is (metric.kind is Kind.HISTOGRAM), metric
        assert list(metric.bounds) == sorted(set(metric.bounds)), metric
        assert metric.help.endswith("."), metric
