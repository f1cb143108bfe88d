"""How long to wait before the next try. Pure: the dice are an argument."""

from collections.abc import Callable

FIRST_S = 1.0


def backoff_s(failures: int, most_s: float, random: Callable[[], float]) -> float:
    """Return the pause after `failures` (1, 2, ...) tries in a row: doubled each time, up to `most_s`.

    Half of it is drawn (`random` gives 0..1): many senders that failed at one moment must not come back at one.
    """
    whole_s = min(most_s, FIRST_S * 2.0 ** min(failures - 1, 30))
    return whole_s * (0.5 + 0.5 * random())
