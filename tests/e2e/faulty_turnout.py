"""`turnout` with bugs planted in its gateway and its control: they raise where and when a test asks for it.

The faults are real exceptions in real processes, in frames whose variables hold whatever a client has sent. A file
`bug-NAME` in the working directory sets off the fault of that name once.
"""

import sys
from pathlib import Path
from typing import Any

from router import app

BUGS = ("begin", "record", "write", "turn", "endpoint", "control")


def armed(name: str) -> bool:
    """Whether the fault is to happen now; it will not happen again."""
    try:
        Path(f"bug-{name}").unlink()
    except FileNotFoundError:
        return False
    return True


def plant(owner: Any, method: str, bug: str) -> None:  # noqa: ANN401 - any class
    """Make a method raise when `bug` is armed."""
    works = getattr(owner, method)

    def faulty(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the method
        if armed(bug):
            raise RuntimeError(f"the planted bug {bug}")
        return works(*arguments, **named)

    faulty.__name__ = method
    setattr(owner, method, faulty)


def child(kind: str, arguments: list[str]) -> None:
    """Be a gateway worker or control, with its faults."""
    if kind == "gateway":
        from router.gateway.exchange import Exchange
        from router.gateway.recorder import Recorder

        plant(Exchange, "begin", "begin")
        plant(Recorder, "_record", "record")
        plant(Recorder, "_write", "write")
    else:
        from router.admin.services import Services
        from router.control.loop import ControlLoop

        plant(ControlLoop, "_turn", "turn")
        plant(Services, "state", "endpoint")
        plant(ControlLoop, "turn", "control")
    app.main([kind, *arguments])


def main() -> None:
    """Be the command line."""
    from router.cli import main as command_line

    app.command = lambda kind: (sys.executable, "-P", __file__, "--child", kind)
    command_line()


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        child(sys.argv[2], sys.argv[3:])
    else:
        main()
