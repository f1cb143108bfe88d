"""Runs a Supervisor over stand-ins: `python parent_process.py JSON`, all ports free ones unless given."""

import asyncio
import itertools
import json
import sys
from pathlib import Path

from router.core.config import GatewayConfig, Listener, LogConfig, StoreConfig, TurnoutConfig
from router.supervisor.parent import Plan, Supervisor
from router.telemetry import logs

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")))


def plan_of(options: dict[str, object]) -> Plan:
    """Return the plan that the options describe."""
    port = int(str(options.get("port", 0)))
    config = TurnoutConfig(
        routes={},
        gateway=GatewayConfig(
            listen=Listener("127.0.0.1", port),
            workers=int(str(options.get("workers", 1))),
            drain_deadline_s=float(str(options.get("drain_s", 10.0))),
        ),
        admin=Listener("127.0.0.1", 0),
        ops=Listener("127.0.0.1", 0),
        store=StoreConfig(url="unix:///nowhere"),
    )
    numbers = itertools.count()
    return Plan(
        config=config,
        worker=(*STAND_IN, str(options.get("worker", "good"))),
        control=(*STAND_IN, str(options["control"])) if "control" in options else None,
        store=None,
        new_boot=lambda: f"boot-{next(numbers)}",
    )


async def main() -> None:
    """Run it until a signal ends it."""
    plan = plan_of(json.loads(sys.argv[1]))

    def announce(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    await Supervisor(plan, announce).run()


if __name__ == "__main__":
    logs.configure(LogConfig(format="json"), process="parent")
    try:
        asyncio.run(main())
    except Exception as error:  # noqa: BLE001 - what the command line would print
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(2)
