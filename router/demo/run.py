"""`turnout demo`: real models on real digits; a good candidate that promotes itself, and a bad one that is caught."""

from __future__ import annotations

import os
import sys

from router.demo.free_ports import choose_ports, is_free
from router.demo.options import STANDARD_OUTPUT, DemoOptions, check
from router.demo.performance import perform
from router.demo.screen import screen_for

INTERRUPTED = 130


def main(options: DemoOptions) -> int:
    """Run the demo and return the exit status.

    0: everything was as it must be; 1: something was not, said in words; 128 + the signal, 130 after Ctrl-C. Raises
    DemoError when it cannot start or go on. In every case no process, port or file of it is left.
    """
    import uvloop

    check(options)
    out = sys.stderr if options.json == STANDARD_OUTPUT else sys.stdout
    try:
        with screen_for(out, headless=options.headless) as screen:
            return uvloop.run(perform(options, screen, choose_ports(options.port, is_free)))
    except KeyboardInterrupt:  # just before or after the part that takes the signals: there is nothing to end
        return INTERRUPTED
    except BrokenPipeError:  # `turnout demo | head`: nobody listens any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return 1
