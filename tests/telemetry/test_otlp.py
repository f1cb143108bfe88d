"""The exporter of spans, as far as it is not shown end to end (tests/e2e/test_tracing.py)."""

import subprocess
import sys
import time
from pathlib import Path

from router.core.config import TracingConfig
from router.telemetry.otlp import BATCH, SpanExporter
from router.telemetry.tracing import SPAN_BYTES, Span


def spans(number: int) -> list[Span]:
    """Return so many."""
    return [Span(1, one + 1, 0, "", "POST /", 1, 2, {}, server=True, failed=False) for one in range(number)]


def test_spans_without_the_exporter_installed_are_refused_with_the_way_out(tmp_path: Path) -> None:
    """Before anything starts: `turnout validate` names the extra. Without tracing nobody asks for it."""
    file = tmp_path / "turnout.yaml"
    code = "import sys; sys.modules['opentelemetry'] = None; from router.cli.commands import run; run(sys.argv[1:])"

    def validate(tracing: str) -> subprocess.CompletedProcess[str]:
        routes = "routes: {r: {adapter: opaque, variants: {v1: {url: 'http://127.0.0.1:1'}}, stable: v1}}"
        file.write_text(f"{routes}\n{tracing}\n", encoding="utf-8")
        command = [sys.executable, "-c", code, "validate", "--config", str(file)]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    refused = validate("tracing: {endpoint: 'http://127.0.0.1:4318/v1/traces'}")
    assert refused.returncode == 2
    assert "tracing.endpoint" in refused.stderr
    assert "pip install 'turnout[tracing]'" in refused.stderr
    assert validate("").returncode == 0


def test_nobody_waits_for_a_receiver_that_is_not_there(tmp_path: Path) -> None:
    """`put` returns at once, `close` within its time, and each span is counted as dropped, by reason."""
    nobody = f"http://127.0.0.1:1/{tmp_path.name}"
    exporter = SpanExporter(TracingConfig(nobody, queue_bytes=2 * BATCH * (SPAN_BYTES + 6), timeout_s=30.0))
    began = time.monotonic()
    for _ in range(10):
        exporter.put(spans(BATCH))
    assert time.monotonic() - began < 1.0
    exporter.close(within_s=0.5)
    assert time.monotonic() - began < 5.0
    assert exporter.drops.total() == 10 * BATCH
    assert exporter.drops["queue"] >= 7 * BATCH


def test_an_exporter_that_got_no_span_starts_nothing() -> None:
    """Neither a thread nor an import; its end is at once."""
    exporter = SpanExporter(TracingConfig("http://127.0.0.1:1"))
    exporter.close()
    assert exporter.drops == {"queue": 0, "export": 0}
