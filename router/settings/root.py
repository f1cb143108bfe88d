"""The whole file as one model, filled from the environment first and the file second."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from router.settings.forms import Name
from router.settings.freeze_block import FreezeBlock
from router.settings.route_blocks import RouteBlock
from router.settings.server_blocks import (
    AdminBlock,
    AuthBlock,
    FeedbackBlock,
    GatewayBlock,
    LogBlock,
    OpsBlock,
    OverridesBlock,
    PairsBlock,
    RecorderBlock,
    StoreBlock,
)
from router.settings.tracing_block import TracingBlock
from router.settings.webhook_blocks import WebhooksBlock


class Settings(BaseSettings):
    """Turnout's configuration file. Every field outside `routes` can also be set by TURNOUT_BLOCK__FIELD."""

    model_config = SettingsConfigDict(
        extra="forbid", strict=True, frozen=True, validate_default=True, case_sensitive=True, title="turnout.yaml"
    )

    gateway: GatewayBlock = Field(default_factory=GatewayBlock)
    overrides: OverridesBlock = Field(default_factory=OverridesBlock)
    ops: OpsBlock = Field(default_factory=OpsBlock)
    admin: AdminBlock = Field(default_factory=AdminBlock)
    store: StoreBlock = Field(default_factory=StoreBlock)
    pairs: PairsBlock = Field(default_factory=PairsBlock)
    recorder: RecorderBlock = Field(default_factory=RecorderBlock)
    feedback: FeedbackBlock = Field(default_factory=FeedbackBlock)
    auth: AuthBlock = Field(default_factory=AuthBlock)
    log: LogBlock = Field(default_factory=LogBlock)
    tracing: TracingBlock = Field(default_factory=TracingBlock)
    webhooks: WebhooksBlock = Field(default_factory=WebhooksBlock)
    freeze: list[FreezeBlock] = Field(
        [], description="Times in which no candidate of any route gets more traffic; routes may add their own."
    )
    routes: dict[Name, RouteBlock] = Field(
        {}, description="What clients address, by name; at least one.", json_schema_extra={"minProperties": 1}
    )


def merged(environment: Mapping[str, Any], file: Mapping[str, Any]) -> Settings:
    """Return the settings of both sources, the environment first. Raises pydantic's ValidationError.

    The sources are given rather than found: no `.env` file, no secrets folder, no look at `os.environ` by
    itself.
    """
    sources: tuple[PydanticBaseSettingsSource, ...] = (
        InitSettingsSource(Settings, init_kwargs=dict(environment)),
        InitSettingsSource(Settings, init_kwargs=dict(file)),
    )
    return Settings(_build_sources=(sources, {}))


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors and for `turnout schema`."""
    return Settings.model_json_schema()
