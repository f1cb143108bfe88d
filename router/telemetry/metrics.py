"""Every metric of Turnout in one table, and the plain numbers that processes exchange about them.

Gateway workers count in their own memory and hand out a Snapshot; their parent merges the Snapshots of all
workers and renders them. prometheus_client is imported only to render, so a worker never loads it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""What `render` returns, as an HTTP content-type."""


class Kind(StrEnum):
    """How a metric moves: a counter only grows while its process lives, a gauge goes both ways."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(StrEnum):
    """How the values of several workers become one."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table. `bounds` are a histogram's upper bounds, ascending, without +Inf."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    merge: Merge = Merge.SUM
    bounds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class HistogramValue:
    """A histogram's numbers. `counts` stand for each bucket alone, the last one for all above the bounds."""

    counts: tuple[int, ...]
    sum: float


Labels: TypeAlias = tuple[str, ...]
Value: TypeAlias = float | HistogramValue
Snapshot: TypeAlias = Mapping[str, Mapping[Labels, Value]]
"""Metric name -> label values in the table's order -> value."""

_LATENCY_BOUNDS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Chosen: three a decade over what model servers take, up to twice the default total deadline."""

_LAG_BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
"""Around the two limits that are promised: 2 ms a turn for comparing, 20 ms lag at the 99th percentile."""

_DELAY_BOUNDS_S = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0, 604_800.0)
"""From labels that follow their request at once to those that take as long as a rollout may."""

_PROPAGATION_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Around what is promised: 250 ms with the store's notices, 2 s by poll."""

TABLE = (
    Metric(
        "turnout_requests_total", Kind.COUNTER,
        "Requests that a variant served, by how they ended.", ("route", "variant", "outcome"),
    ),
    Metric(
        "turnout_request_seconds", Kind.HISTOGRAM,
        "Time from handing a request to a variant to the last byte of its answer.",
        ("route", "variant"), bounds=_LATENCY_BOUNDS_S,
    ),
    Metric(
        "turnout_in_flight", Kind.GAUGE,
        "Requests that a variant is working on now, copies included.", ("route", "variant"),
    ),
    Metric(
        "turnout_backend_up", Kind.GAUGE,
        "Share of a backend's addresses that take traffic; 0 too where its name was never found.",
        ("route", "variant", "backend"), Merge.MIN,
    ),
    Metric(
        "turnout_ejections_total", Kind.COUNTER,
        "How often an address of a backend was left out because live requests to it failed.",
        ("route", "variant", "backend"),
    ),
    Metric(
        "turnout_connect_retries_total", Kind.COUNTER,
        "Connects to one backend that followed a failed connect to another, for the same request.",
        ("route", "variant"),
    ),
    Metric(
        "turnout_lookups_total", Kind.COUNTER,
        "Lookups of the host names of backends, by result.", ("result",),
    ),
    Metric(
        "turnout_queue_length", Kind.GAUGE,
        "Live requests that wait for one of the variant's places (max_in_flight).", ("route", "variant"),
    ),
    Metric(
        "turnout_queue_waits_total", Kind.COUNTER,
        "Live requests that have waited for a place, whether they got one or not.", ("route", "variant"),
    ),
    Metric(
        "turnout_queue_wait_seconds_total", Kind.COUNTER,
        "How long these have waited in all.", ("route", "variant"),
    ),
    Metric(
        "turnout_weight_ratio", Kind.GAUGE,
        "The candidate's share of live answers; the largest of all workers.", ("route",), Merge.MAX,
    ),
    Metric(
        "turnout_mirror_ratio", Kind.GAUGE,
        "Share of requests copied to the other variant; the largest of all workers.", ("route",), Merge.MAX,
    ),
    Metric(
        "turnout_breaker_open", Kind.GAUGE,
        "1 while a worker's breaker keeps the candidate's traffic away, before the whole fleet does; else 0.",
        ("route",), Merge.MAX,
    ),
    Metric(
        "turnout_rollback_propagation_seconds", Kind.HISTOGRAM,
        "From the decision that lowered a candidate's weight to the moment a worker routes by it.",
        bounds=_PROPAGATION_BOUNDS_S,
    ),
    Metric(
        "turnout_pairs_total", Kind.COUNTER,
        "Copied requests: `both` answered, or the outcome of the answer that is missing.", ("outcome",),
    ),
    Metric(
        "turnout_rescues_total", Kind.COUNTER,
        "Candidates' failures that no client had seen yet: `answered` by stable, or why not.", ("result",),
    ),
    Metric(
        "turnout_dropped_total", Kind.COUNTER,
        "What was given up to stay within a bound, and which bound.", ("what", "reason"),
    ),
    Metric(
        "turnout_recorder_queue_bytes", Kind.GAUGE,
        "Bytes of observations and pairs that wait to be written to the store.",
    ),
    Metric(
        "turnout_loop_lag_seconds", Kind.HISTOGRAM,
        "How much later than asked the event loop woke up.", bounds=_LAG_BOUNDS_S,
    ),
    Metric(
        "turnout_store_up", Kind.GAUGE,
        "1 while the store answers every process, else 0.", merge=Merge.MIN,
    ),
    Metric(
        "turnout_store_writes_total", Kind.COUNTER,
        "Batches handed to the store, by result.", ("result",),
    ),
    Metric(
        "turnout_unreadable_total", Kind.COUNTER,
        "Entries of the store that were skipped as unreadable, each time they were met, by what they should have been.",
        ("what",),
    ),
    Metric(
        "turnout_gate_estimate", Kind.GAUGE,
        "What a gate limits, as seen in the present exposure, in the gate's own unit (0.01 is 1 % or 1 pp).",
        ("route", "gate"), Merge.MAX,
    ),
    Metric(
        "turnout_gate_bound", Kind.GAUGE,
        "The worst value of it that promotion cannot exclude yet, whenever one looks.", ("route", "gate"), Merge.MAX,
    ),
    Metric(
        "turnout_gate_threshold", Kind.GAUGE,
        "The value that promotion must exclude.", ("route", "gate"), Merge.MAX,
    ),
    Metric(
        "turnout_gate_log_e", Kind.GAUGE,
        "Natural logarithm of the gate's evidence of harm.", ("route", "gate"), Merge.MAX,
    ),
    Metric(
        "turnout_decisions_total", Kind.COUNTER,
        "Decisions applied, by kind and by what sort of reason.", ("kind", "reason"),
    ),
    Metric(
        "turnout_feedback_total", Kind.COUNTER,
        "True labels that clients sent, by what became of them.", ("result",),
    ),
    Metric(
        "turnout_feedback_waiting", Kind.GAUGE,
        "True labels that wait for their pair.",
    ),
    Metric(
        "turnout_feedback_delay_seconds", Kind.HISTOGRAM,
        "Time from a request to when its true label became known, of labels that were counted.",
        bounds=_DELAY_BOUNDS_S,
    ),
    Metric(
        "turnout_webhooks_total", Kind.COUNTER,
        "Calls of webhooks by how they ended, and events that were dropped.", ("type", "result"),
    ),
    Metric(
        "turnout_replicas", Kind.GAUGE,
        "Gateway workers known to control, by state.", ("state",), Merge.MAX,
    ),
    Metric(
        "turnout_build_info", Kind.GAUGE,
        "Always 1; the labels name what runs.", ("version", "python"), Merge.MAX,
    ),
)  # fmt: skip

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in TABLE}


class Histogram:
    """Counts the observations of one histogram of the table, without labels, in place."""

    def __init__(self, name: str) -> None:
        self._bounds = METRICS[name].bounds
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    @property
    def value(self) -> HistogramValue:
        """What was observed until now."""
        return HistogramValue(tuple(self._counts), self._sum)

    @property
    def series(self) -> dict[Labels, Value]:
        """What a Snapshot says of it."""
        return {(): self.value}


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Return one Snapshot of many workers, each metric merged as its row says.

    Raises ValueError naming the first metric that is not in the table or does not keep its row's shape.
    """
    merged: dict[str, dict[Labels, Value]] = {}
    for snapshot in snapshots:
        for metric, labels, value in _checked(snapshot):
            series = merged.setdefault(metric.name, {})
            known = series.get(labels)
            series[labels] = value if known is None else _combine(metric, known, value)
    return merged


def lasting(snapshot: Snapshot) -> Snapshot:
    """Return what stays true of a worker that has died: its counters and histograms, not its gauges.

    Merged with the living, it keeps every sum from going backwards.
    """
    return {name: series for name, series in snapshot.items() if METRICS[name].kind is not Kind.GAUGE}


def render(snapshot: Snapshot) -> bytes:
    """Return the Snapshot in Prometheus' text format, metrics in the table's order, series sorted by labels.

    Raises ValueError as `merge` does.
    """
    from prometheus_client import generate_latest  # noqa: PLC0415 - workers merge and snapshot, they never render

    return generate_latest(_Families(snapshot))


class _Families:
    """The custom collector: our numbers in prometheus_client's words."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> "Iterator[Family]":
        series: dict[str, list[tuple[Labels, Value]]] = {}
        for metric, labels, value in _checked(self._snapshot):
            series.setdefault(metric.name, []).append((labels, value))
        for metric in TABLE:
            if found := series.get(metric.name):
                yield _family(metric, sorted(found, key=lambda item: item[0]))


def _family(metric: Metric, series: list[tuple[Labels, Value]]) -> "Family":
    from prometheus_client import core  # noqa: PLC0415 - see render

    if metric.kind is Kind.HISTOGRAM:
        histogram = core.HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        edges = [*(str(bound) for bound in metric.bounds), "+Inf"]
        for labels, value in series:
            assert isinstance(value, HistogramValue)  # noqa: S101 - _checked has seen to it
            histogram.add_metric(labels, list(zip(edges, accumulate(value.counts), strict=True)), value.sum)
        return histogram
    make = core.CounterMetricFamily if metric.kind is Kind.COUNTER else core.GaugeMetricFamily
    family = make(metric.name, metric.help, labels=metric.labels)
    for labels, value in series:
        assert not isinstance(value, HistogramValue)  # noqa: S101 - the same
        family.add_metric(labels, value)
    return family


def _combine(metric: Metric, one: Value, other: Value) -> Value:
    if isinstance(one, HistogramValue) and isinstance(other, HistogramValue):
        added = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
        return HistogramValue(added, one.sum + other.sum)
    assert not isinstance(one, HistogramValue)  # noqa: S101 - _checked has seen to it
    assert not isinstance(other, HistogramValue)  # noqa: S101 - the same
    match metric.merge:
        case Merge.SUM:
            return one + other
        case Merge.MAX:
            return max(one, other)
        case Merge.MIN:
            return min(one, other)


def _checked(snapshot: Snapshot) -> Iterator[tuple[Metric, Labels, Value]]:
    """Yield each value with its row; what the table does not know is a bug of the producer."""
    for name, series in snapshot.items():
        metric = METRICS.get(name)
        if metric is None:
            raise ValueError(f"unknown metric {name!r}: add a row to router.telemetry.metrics.TABLE")
        for labels, value in series.items():
            if len(labels) != len(metric.labels):
                raise ValueError(f"{name}: got labels {labels!r}, expected values for {metric.labels!r}")
            _check_value(metric, value)
            yield metric, labels, value


def _check_value(metric: Metric, value: Value) -> None:
    if (metric.kind is Kind.HISTOGRAM) is not isinstance(value, HistogramValue):
        raise ValueError(f"{metric.name}: got {value!r}, expected the value of a {metric.kind}")
    if isinstance(value, HistogramValue) and len(value.counts) != len(metric.bounds) + 1:
        expected = len(metric.bounds) + 1
        raise ValueError(f"{metric.name}: got {len(value.counts)} buckets, expected {expected}")
