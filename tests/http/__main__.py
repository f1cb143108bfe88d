"""`python -m tests.http [SECONDS]`: play the corpus against Turnout, nginx and HAProxy and write docs/http.md.

A server that says nothing for so many seconds is called silent; 3 unless told otherwise.
"""

import asyncio
import datetime as dt
import sys
import time
from pathlib import Path

import uvloop

from tests.http.play import WAIT_S
from tests.http.servers import SERVERS, versions
from tests.http.table import Results, page, results_of

PAGE = Path(__file__).parents[2] / "docs" / "http.md"


async def _play(name: str, wait_s: float) -> Results:
    began = time.monotonic()
    results = await results_of(SERVERS[name], wait_s)
    missed = sum(map(bool, results.values()))
    took_s = time.monotonic() - began
    sys.stderr.write(f"{name}: {len(results) - missed} of {len(results)} passed in {took_s:.0f} s\n")
    return results


async def main(wait_s: float) -> None:
    """Play against all servers at once, each with an upstream of its own; most of it is waiting for silent ones."""
    found = await versions()
    if missing := SERVERS.keys() - found.keys():
        sys.exit(f"not installed: {', '.join(missing)}; {PAGE} is left as it is")
    results = dict(zip(SERVERS, await asyncio.gather(*(_play(name, wait_s) for name in SERVERS)), strict=True))
    PAGE.write_text(page(results, found, dt.datetime.now(dt.UTC).date().isoformat(), wait_s))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else WAIT_S))
