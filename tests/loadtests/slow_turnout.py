"""`turnout` whose gateway does needless work for each request, about half as much again as it costs."""

import sys
from typing import Any

from loadtests.reference_proxy import WORK, work
from router import app

NEEDLESS = WORK * 2 // 3


def child(kind: str, arguments: list[str]) -> None:
    """Be a gateway worker that is slow, or control."""
    if kind == "gateway":
        from router.gateway.exchange import Exchange

        begin = Exchange.begin

        def slow(self: Exchange, *arguments: Any) -> None:  # noqa: ANN401 - as the method
            work(NEEDLESS)
            begin(self, *arguments)

        Exchange.begin = slow  # type: ignore[method-assign]
    app.main([kind, *arguments])


def main() -> None:
    """Be the command line."""
    from router.cli import main as command_line

    # Run as a module: the folder that holds `loadtests` must be found.
    app.command = lambda kind: (sys.executable, "-m", "tests.loadtests.slow_turnout", "--child", kind)
    command_line()


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        child(sys.argv[2], sys.argv[3:])
    else:
        main()
