"""Webhooks: gates that others keep for the automatic ramp, and news of every decision.

`transport` sees to it where a call may go, `calls` makes and signs one, `bodies` is what it says, `gates` keeps the
answers of others, `events` delivers the news, `gateways` finds what others than control decided. The control loop only
ever reads what is kept: a receiver that hangs delays nothing.
"""

from router.control.webhooks.gateways import GatewayDecisions
from router.control.webhooks.webhooks import Webhooks, build, no_webhooks

__all__ = ["GatewayDecisions", "Webhooks", "build", "no_webhooks"]
