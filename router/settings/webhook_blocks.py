"""The `webhooks` block: whom control asks and tells, and where it may go for that."""

import re
from collections import Counter
from ipaddress import ip_network
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from router.core.addresses import AllowList
from router.core.config import WebhooksConfig, WebhookSpec
from router.settings.block import Block, written
from router.settings.forms import Name
from router.settings.units import Duration, Size

_HOST = re.compile(r"(?=.{1,253}\.?$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,62})\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})\.?")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_WIDEST = {4: 8, 6: 7}
"""Shortest prefixes: 10.0.0.0/8 and fc00::/7. A wider network would allow loopback without naming it."""


def webhook_url(text: str) -> str:
    """Return a URL to call: http or https, a host, perhaps port, path and query."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("a URL like https://hooks.example.com/turnout") from None
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("a URL of visible ASCII characters, without spaces and backslashes")
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError("a URL that begins with http:// or https:// and has a host")
    if "@" in parts.netloc:
        raise ValueError("a URL without user and password: calls are signed")
    if "#" in text:
        raise ValueError("a URL without a fragment")
    if not _is_address(host):
        host_name(host)
    return text


def host_name(text: str) -> str:
    """Return the name of a host. A number such as 2130706433 or 0x7f.1 is an address in disguise, not a name."""
    if not _HOST.fullmatch(text) or _NUMBER.fullmatch(text.rstrip(".").rpartition(".")[2]):
        raise ValueError("the name of a host, or an address in its usual form")
    return text


def allowed(text: str) -> str:
    """Return a host name, an address, or a network in CIDR form that is not too wide."""
    try:
        network = ip_network(text)
    except ValueError:
        try:
            return host_name(text)
        except ValueError:
            raise ValueError("a host name, an address, or a network like 10.0.0.0/8") from None
    if network.prefixlen < _WIDEST[network.version]:
        raise ValueError(f"a network of /{_WIDEST[network.version]} or smaller: name what is meant")
    return text


def variable(text: str) -> str:
    """Return the name of an environment variable."""
    if not _VARIABLE.fullmatch(text):
        raise ValueError("the name of an environment variable")
    return text


def _is_address(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return "/" not in text


class WebhookBlock(Block):
    """One webhook: when it is called, and where."""

    name: Name = Field(description="For reasons and the log.")
    type: Literal["confirm-rollout", "confirm-traffic-increase", "confirm-promotion", "rollback", "event"] = Field(
        description="The moment, in Flagger's words."
    )
    url: Annotated[str, AfterValidator(webhook_url)] = Field(
        description="What is called by POST; its host is in `allow`."
    )
    routes: list[Name] = Field([], description="Only for these routes; empty: all.")
    timeout: Duration = written("5s", "For one whole call; a gate that takes longer holds.")

    def value(self) -> WebhookSpec:
        """Return the webhook."""
        return WebhookSpec(self.name, self.type, self.url, tuple(self.routes), self.timeout)


class WebhooksBlock(Block):
    """Gates that others keep for the ramp, and news of every decision."""

    hooks: list[WebhookBlock] = Field([], description="Whom to call at which moment.")
    allow: list[Annotated[str, AfterValidator(allowed)]] = Field(
        [], description="Host names, addresses and networks that may be called; private ones only by address."
    )
    secret_env: Annotated[str, AfterValidator(variable)] | None = Field(
        None, description="Environment variable with the secret that signs each call."
    )
    secret_file: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="File with the secret instead; relative to this file."
    )
    interval: Duration = written("10s", "How long an agreement counts, and how often rollback gates are asked.")
    max_age: Duration = written("1h", "How long an event is tried again.")
    queue: Size = written("1MiB", "Events that may wait for one webhook; the oldest are dropped.")

    @model_validator(mode="after")
    def _can_be_called(self) -> "WebhooksBlock":
        if self.interval < 1:
            raise ValueError("an `interval` of at least 1s")
        if self.hooks and (self.secret_env is None) == (self.secret_file is None):
            raise ValueError("either `secret_env` or `secret_file`: every call is signed")
        names = Counter(hook.name for hook in self.hooks)
        twice = [name for name, number in names.items() if number > 1]
        if twice:
            raise ValueError(f"a name of its own for each of `hooks`; there are several called {twice[0]}")
        known = AllowList(self.allow)
        for hook in self.hooks:
            host = urlsplit(hook.url).hostname or ""
            if not known.knows(host):
                raise ValueError(f"{host} in `allow`, since {hook.name} goes there")
        return self

    def value(self, secret_file: str | None) -> WebhooksConfig:
        """Return the webhooks' part of the configuration; `secret_file` is absolute."""
        return WebhooksConfig(
            hooks=tuple(hook.value() for hook in self.hooks),
            allow=tuple(self.allow),
            secret_env=self.secret_env,
            secret_file=secret_file,
            interval_s=self.interval,
            max_age_s=self.max_age,
            queue_bytes=self.queue,
        )
