"""The `tracing` block: where spans go, and of how many requests."""

from typing import Annotated

from pydantic import AfterValidator, Field

from router.core.config import TracingConfig
from router.settings.block import Block, written
from router.settings.units import Duration, Share, Size
from router.settings.webhook_blocks import webhook_url


def receiver_url(text: str) -> str:
    """Return the URL of a receiver: as that of a webhook; who must show a token does so by the environment."""
    if "@" in text:
        raise ValueError("a URL without user and password: set OTEL_EXPORTER_OTLP_HEADERS for what must stay secret")
    return webhook_url(text)


class TracingBlock(Block):
    """Traces for an OpenTelemetry collector. Needs the extra: `pip install 'turnout[tracing]'`. See tracing.md."""

    endpoint: Annotated[str, AfterValidator(receiver_url)] | None = Field(
        None, description="Receiver of OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`. Unset: no tracing."
    )
    sample: Share = written("1%", "Of the requests that come without a decision in `traceparent`.")
    service: str = Field("turnout", min_length=1, max_length=255, description="Spans' `service.name`.")
    queue: Size = written("4MiB", "Spans that may wait, in each worker and in their parent; the rest is dropped.")
    timeout: Duration = written("10s", "Longest time for a batch to be taken, tries included.")

    def value(self) -> TracingConfig | None:
        """Return the part of the configuration that is about traces, None where there are none."""
        if self.endpoint is None:
            return None
        return TracingConfig(
            endpoint=self.endpoint, sample_bp=self.sample, service=self.service, queue_bytes=self.queue,
            timeout_s=self.timeout,
        )  # fmt: skip
