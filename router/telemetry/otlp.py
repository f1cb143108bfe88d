"""Exports spans by OpenTelemetry's own exporter, OTLP over HTTP, in a thread of a gateway's parent.

The one module that knows OpenTelemetry, and only once there is a span: its import takes 0.25 s of CPU and 30 MiB, the
encoding of a span 70 us, so neither belongs into a worker (ADR 0021). Its variables, such as OTEL_EXPORTER_OTLP_HEADERS
and OTEL_RESOURCE_ATTRIBUTES, are read by it as everywhere.
"""

import importlib.util
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from router import version
from router.core.errors import ConfigError
from router.telemetry import logs
from router.telemetry.tracing import Span, SpanQueue

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

    from router.core.config import TracingConfig

BATCH = 512
"""Spans of one call. As OpenTelemetry's own batches: 170 KiB."""

LINGER_S = 1.0
"""How long spans may wait for others to come along. Chosen: a collector is called once a second at most when idle."""

CLOSE_S = 2.0
"""How long what is left may take at the end. Chosen: it is less than requests in flight get."""

SHUTDOWN_S = 0.5
"""How long a call of the receiver that hangs is waited for after that. Chosen; the thread ends with the process."""


def check_installed(config: "TracingConfig | None") -> None:
    """Raise ConfigError where spans are wanted and the exporter is not installed."""
    if config is None:
        return
    try:
        found = importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:  # of a package above it
        found = None
    if found is None:
        raise ConfigError(
            "tracing.endpoint", config.endpoint, "OpenTelemetry's exporter: pip install 'turnout[tracing]'"
        )


class SpanExporter:
    """Takes spans from one thread and exports them in its own; what cannot be exported is dropped and counted.

    The thread starts with the first span. Not to be used after `close`.
    """

    def __init__(self, config: "TracingConfig") -> None:
        self.config = config
        self._queue = SpanQueue(config.queue_bytes)
        self._failed = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._shutdown: Callable[[], None] | None = None
        self._log = logs.get("tracing")
        self._throttled = logs.ThrottledLog(self._log)
        self._states = logs.Changes()

    def __repr__(self) -> str:
        return f"<SpanExporter {self.config.endpoint} {self._queue}>"

    @property
    def drops(self) -> Counter[str]:
        """How many spans were dropped: `queue` for want of room, `export` because the receiver did not take them."""
        return Counter(queue=self._queue.drops, export=self._failed)

    def put(self, spans: Iterable[Span]) -> None:
        """Take spans to be exported; never waits for the receiver."""
        with self._changed:
            for span in spans:
                self._queue.put(span)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self, within_s: float = CLOSE_S) -> None:
        """Export what waits; what is left after `within_s` is dropped and counted. Returns SHUTDOWN_S later at most."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is None:
            return
        self._thread.join(within_s)
        with self._changed:
            self._failed += len(self._queue.take(len(self._queue)))
            shutdown = self._shutdown
        if shutdown is not None:
            shutdown()  # ends the waiting between two tries
        self._thread.join(SHUTDOWN_S)

    def _run(self) -> None:
        export = self._exporter()
        while spans := self._next():
            try:
                taken = export(spans)
            except Exception as error:  # noqa: BLE001 - of a library: these spans are lost, the next ones may not be
                self._throttled.error("export", "spans could not be exported", exc_info=error)
                taken = False
            if not taken:
                with self._changed:
                    self._failed += len(spans)
            if self._states.changed("taken", taken):
                if taken:
                    self._log.info("spans are taken", endpoint=self.config.endpoint)
                else:
                    self._log.warning(
                        "spans are not taken: they are dropped and counted until they are",
                        endpoint=self.config.endpoint,
                    )

    def _next(self) -> tuple[Span, ...]:
        """Return the next batch once it is full or has waited; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or len(self._queue) > 0)
            self._changed.wait_for(lambda: self._closing or len(self._queue) >= BATCH, LINGER_S)
            return self._queue.take(BATCH)

    def _exporter(self) -> Callable[[tuple[Span, ...]], bool]:
        """Load OpenTelemetry; return what exports a batch and says whether it was taken."""
        from opentelemetry.exporter.otlp.proto.http import Compression  # noqa: PLC0415 - see the top of this file
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - the same
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - the same
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415 - the same

        # It tells of each try; we tell once that they fail.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = OTLPSpanExporter(self.config.endpoint, timeout=self.config.timeout_s, compression=Compression.Gzip)
        with self._changed:
            self._shutdown = exporter.shutdown
        resource = Resource.create({"service.name": self.config.service, "service.version": version()})
        convert = _converter(resource)

        def export(spans: tuple[Span, ...]) -> bool:
            return exporter.export([convert(span) for span in spans]) is SpanExportResult.SUCCESS

        return export


def _converter(resource: "Resource") -> "Callable[[Span], ReadableSpan]":
    """Return what makes OpenTelemetry's spans of ours."""
    from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 - see the top of this file
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415 - the same
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState  # noqa: PLC0415

    scope = InstrumentationScope("turnout", version())
    statuses = {True: Status(StatusCode.ERROR), False: Status(StatusCode.UNSET)}

    def convert(span: Span) -> ReadableSpan:
        flags, state = TraceFlags(TraceFlags.SAMPLED), TraceState.from_header([span.state])
        parent = SpanContext(span.trace_id, span.parent_id, span.server, flags) if span.parent_id else None
        return ReadableSpan(
            span.name,
            context=SpanContext(span.trace_id, span.span_id, is_remote=False, trace_flags=flags, trace_state=state),
            parent=parent,
            resource=resource,
            attributes=span.attributes,
            kind=SpanKind.SERVER if span.server else SpanKind.CLIENT,
            instrumentation_scope=scope,
            status=statuses[span.failed],
            start_time=span.begun_ns,
            end_time=span.ended_ns,
        )

    return convert
