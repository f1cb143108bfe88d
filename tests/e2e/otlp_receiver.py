"""A receiver of traces: a real HTTP server that decodes OTLP's protobuf."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

PATH = "/v1/traces"


@dataclass(frozen=True, slots=True)
class SeenSpan:
    """One span as it came: ids in hex, `parent_id` empty for none, times in ns, `kind` and `status` by their names."""

    trace_id: str
    span_id: str
    parent_id: str
    state: str
    name: str
    kind: str
    status: str
    begun_ns: int
    ended_ns: int
    attributes: dict[str, object]
    resource: dict[str, object]

    def __getitem__(self, attribute: str) -> object:
        return self.attributes[attribute]


class OtlpReceiver:
    """Listens on a free port while it is `running`; `spans` in the order in which they came, `bodies` as they came."""

    def __init__(self) -> None:
        self.port = 0
        self.status = 200
        """What it answers; spans that it does not answer with 200 are not kept."""
        self.spans: list[SeenSpan] = []
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        """Where it takes spans."""
        return f"http://127.0.0.1:{self.port}{PATH}"

    @contextmanager
    def running(self) -> Iterator["OtlpReceiver"]:
        """Receive for the duration of the block, on the same port each time."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                answer = receiver.take(self.path, self.headers, body)
                self.send_response(receiver.status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def take(self, path: str, headers: Message, body: bytes) -> bytes:
        """Decode one message; return the answer's body."""
        assert (path, headers["content-type"]) == (PATH, "application/x-protobuf")
        if headers["content-encoding"] == "gzip":
            body = gzip.decompress(body)
        if self.status == 200:
            self.bodies.append(body)
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = dict(map(_attribute, of_resource.resource.attributes))
                self.spans += [_seen(span, resource) for one in of_resource.scope_spans for span in one.spans]
        answer: bytes = ExportTraceServiceResponse().SerializeToString()
        return answer


def _seen(span: WireSpan, resource: dict[str, object]) -> SeenSpan:
    return SeenSpan(
        span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.trace_state, span.name,
        WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        {0: "unset", 1: "ok", 2: "error"}[span.status.code],
        span.start_time_unix_nano, span.end_time_unix_nano, dict(map(_attribute, span.attributes)), resource,
    )  # fmt: skip


def _attribute(pair: KeyValue) -> tuple[str, object]:
    kind = pair.value.WhichOneof("value")
    assert kind
    value: object = getattr(pair.value, kind)
    return pair.key, value
