"""Input that breaks readers: damaged, oversized, nested, and such as makes a careless one slow."""

import time
from collections.abc import Callable, Iterator
from itertools import pairwise

from router.testing.expect import ensure

HOSTILE_BODIES = (
    b"",
    b"\x00",
    b"\xff\xfe" * 50,
    b"null",
    b"true",
    b"-0",
    b'""',
    b"[]",
    b"{}",
    b"[[[[",
    b'{"a":' * 2_000,
    b"[" * 100_000,
    b"<html></html>",
    b"9" * 5_000,
    b"[1e400]",
    b"NaN",
    b'"\\ud800"',
    b"1\t\n,;",
)

HOSTILE_TARGETS = ("", "/", "*", "//", "/?", "/%", "/%ff%00/\u00e9", "/" + "a/" * 2_000, "http://[")

HOSTILE_VALUES = ("", "-1", "9" * 40, "\x00", "application/json; charset=none-such", "text/csv", "gzip", "\u00e9" * 100)
"""Values of header fields."""

FIELDS = ("content-type", "content-encoding")

FLOODS = (
    b"[", b'{"a":', b"[[],", b"9", b" ", b"\n", b'"', b"\\", b",", b"a", b"a,", b"-1,", b"\t", b"=", b"\xff",
    b"data: x\n\n",
)  # fmt: skip

SIZES = (16, 20, 24, 28, 32, 48, 96, 256, 1_024, 4_096, 8_192, 16_384, 32_768, 65_536)
"""Repetitions. Close together at first, so that a time that doubles with each is found before it is endless."""

FLOOD_BYTES = 65_536

CALL_S = 0.5
"""CPU time of one call. Chosen: what reads 64 KiB in linear time takes 1 to 50 ms, what squares it takes minutes."""


def damaged(body: bytes) -> list[bytes]:
    """Return the body cut short at about 50 places, with bytes left out, and with bytes changed."""
    cuts = sorted({0, *range(0, len(body), max(1, len(body) // 50)), len(body)})
    return [
        *(body[:cut] for cut in cuts[:-1]),
        *(body[:start] + body[end:] for start, end in pairwise(cuts)),
        *(body[:cut] + bytes([body[cut] ^ 0x11]) + body[cut + 1 :] for cut in cuts[:-1]),
    ]


def headers_like(headers: tuple[tuple[str, str], ...]) -> Iterator[tuple[tuple[str, str], ...]]:
    """Yield header fields without any, and with each value of the present ones and of FIELDS replaced."""
    yield ()
    for name in dict.fromkeys((*(name for name, _ in headers), *FIELDS)):
        for value in HOSTILE_VALUES:
            yield (*((other, kept) for other, kept in headers if other != name), (name, value))


def check_time(body: bytes, read: Callable[[bytes], object]) -> None:
    """Raise AssertionError unless `read` takes below CALL_S for each flood, by itself and in the middle of `body`."""
    middle = len(body) // 2
    for flood in (*FLOODS, body):
        for before, behind in ((b"", b""), (body[:middle], body[middle:])):
            for size in SIZES:
                hostile = before + flood * min(size, FLOOD_BYTES // max(1, len(flood))) + behind
                took_s = _cpu_s(read, hostile)
                if took_s >= CALL_S:  # what was somebody else's, a collection of their garbage say, does not come twice
                    took_s = min(took_s, _cpu_s(read, hostile))
                ensure(
                    took_s < CALL_S,
                    f"a body is read within {CALL_S} s of CPU, whatever it holds: {len(hostile)} bytes like "
                    f"{hostile[-len(behind) - 8 : len(hostile) - len(behind)]!r} took {took_s:.1f} s",
                )


def _cpu_s(read: Callable[[bytes], object], body: bytes) -> float:
    began_s = time.thread_time()
    read(body)
    return time.thread_time() - began_s
