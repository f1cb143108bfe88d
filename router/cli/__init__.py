"""The command line: `turnout ...`. It talks to the admin API and decides nothing itself."""


def main() -> None:
    """Run one command and exit: 0 done, 1 error, 2 usage or configuration; `wait` has two more."""
    from router.cli.commands import run

    run()
