"""Install real model servers and run the tests with them: `./run servers [--install] [NAME...]`, without names all.

`--install` only installs. Ends with 0 if all that was named could be installed and its tests passed.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loadtests.on_demand import MissingError
from tests.servers.installed import SERVERS

AT_ONCE = 2
"""Installations side by side: each waits for downloads and the disk for half of its time."""


def main() -> int:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(prog="./run servers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(SERVERS.names())}")
    parser.add_argument("--install", action="store_true", help="only install them")
    given = parser.parse_args()
    names = given.names or SERVERS.names()
    if unknown := sorted(set(names) - set(SERVERS.names())):
        parser.error(f"no server is called {', '.join(unknown)}; there are: {', '.join(SERVERS.names())}")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        complaints = [found for found in pool.map(_install, names) if found]
    if complaints:
        sys.stderr.writelines(complaints)
        return 1
    if given.install:
        return 0
    return pytest.main(["-m", "slow", *[str(Path(__file__).with_name(f"test_{name}.py")) for name in names]])


def _install(name: str) -> str:
    try:
        SERVERS.install(name)
    except MissingError as error:
        return f"run: {error}\n"
    return ""


if __name__ == "__main__":
    sys.exit(main())
