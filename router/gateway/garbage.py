"""Keeps collections of garbage short and rare: they go over what requests have left, not over all modules each time."""

import gc

YOUNG_OBJECTS = 50_000
"""After so many new objects a worker's collector looks at them. Chosen: those of some seconds' pairs fit."""


def keep_for_good() -> None:
    """Let collections leave out whatever is there now; called once, when everything has been imported.

    A full collection took 26 ms of CPU on a gateway without clients, now 1 ms, and holds up every request (OV3). What
    a request makes is let go without the collector, since cycles are broken where it ends; but its pair waits for the
    recorder, and at some thousand requests a second all of them would be looked at again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
