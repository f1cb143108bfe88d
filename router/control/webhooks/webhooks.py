"""All webhooks of one control process, and how they are counted."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import httpx

from router.control.webhooks.bodies import event_message
from router.control.webhooks.calls import Answer, Call, Caller, Message
from router.control.webhooks.events import Outbox, Sleep
from router.control.webhooks.gates import Gates
from router.control.webhooks.transport import CheckedTransport, resolve
from router.core.addresses import AllowList
from router.core.config import WebhooksConfig, WebhookSpec
from router.core.decisions import DecisionRecord
from router.core.moments import Moment
from router.core.rollout import RolloutState
from router.telemetry import logs


class Webhooks:
    """`gates` for the loop and for operators, and `tell` for every decision that was written.

    `counts` counts by (type, result) since this process began. Close it before the event loop ends.
    """

    def __init__(  # noqa: PLR0913 - everything it touches is handed in
        self,
        config: WebhooksConfig,
        call: Call,
        *,
        now_s: Callable[[], float],
        monotonic: Callable[[], float],
        random: Callable[[], float],
        sleep: Sleep = asyncio.sleep,
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._call = call
        self._close = close
        self._log = logs.get("webhooks")
        self.counts: Counter[tuple[str, str]] = Counter()
        self.gates = Gates(
            config.hooks, self._counted, interval_s=config.interval_s, now_s=now_s, monotonic=monotonic, random=random
        )
        self._outboxes = tuple(
            Outbox(
                hook, self._counted, self._count, queue_bytes=config.queue_bytes, max_age_s=config.max_age_s,
                monotonic=monotonic, sleep=sleep, random=random,
            )
            for hook in config.hooks
            if hook.type == Moment.EVENT
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Webhooks({self.gates}, {list(self._outboxes)})"

    @property
    def tells(self) -> bool:
        """Whether anybody wants to be told of decisions."""
        return bool(self._outboxes)

    def tell(self, record: DecisionRecord, state: RolloutState) -> None:
        """Send the news of a decision to whom it concerns; never waits. `state` is what the decision made."""
        message = event_message(record, state)
        for outbox in self._outboxes:
            if outbox.hook.is_for(record.route):
                outbox.put(record.route, message)

    async def aclose(self) -> None:
        """Ask and tell no more."""
        await asyncio.gather(self.gates.aclose(), *(outbox.aclose() for outbox in self._outboxes))
        if self._close is not None:
            await self._close()

    async def _counted(self, hook: WebhookSpec, message: Message) -> Answer:
        try:
            answer = await self._call(hook, message)
        except Exception as error:  # noqa: BLE001 - a bug must not look like an agreement, nor end the line
            self._log.error("a webhook's call has failed", webhook=hook.name, exc_info=error)
            answer = Answer("failed", type(error).__name__)
        self._count(hook.type, answer.result)
        return answer

    def _count(self, kind: str, result: str) -> None:
        self.counts[kind, result] += 1


def build(
    config: WebhooksConfig,
    secret: bytes,
    now_s: Callable[[], float],
    monotonic: Callable[[], float],
    random: Callable[[], float],
) -> Webhooks:
    """Return Webhooks that call over the network. Connections are not kept: each is checked when it is made."""
    inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0), trust_env=False)
    caller = Caller(secret, CheckedTransport(AllowList(config.allow), resolve, inner), now_s)
    return Webhooks(config, caller, now_s=now_s, monotonic=monotonic, random=random, close=caller.aclose)


async def _nobody(hook: WebhookSpec, message: Message) -> Answer:
    raise LookupError(f"{hook.name}: no webhooks are configured, yet {message.id} was to be sent")


def no_webhooks() -> Webhooks:
    """Return Webhooks that ask and tell nobody."""
    return Webhooks(WebhooksConfig(), _nobody, now_s=lambda: 0.0, monotonic=lambda: 0.0, random=lambda: 0.0)
