"""Keeps full collections of garbage short: they go over what requests have left, not over all modules each time."""

import gc


def keep_for_good() -> None:
    """Let collections leave out whatever is there now; called once, when everything has been imported.

    A full collection took 26 ms of CPU on a gateway without clients, now 1 ms, and holds up every request (OV3). How
    often they come is left to Python: rarer ones let a worker grow (CF6), and saved little (docs/adr/0015).
    """
    gc.collect()
    gc.freeze()
