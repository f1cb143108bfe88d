"""How the contract suites say what is broken: shipped code has no `assert`, which `python -O` would drop."""

import asyncio
from collections.abc import Awaitable, Callable

WITHIN_S = 5.0
"""How long a thing that must happen may take on a busy machine."""


def expect(expected: object, actual: object, sentence: str) -> None:
    """Raise AssertionError with the sentence unless both are equal."""
    if actual != expected:
        raise AssertionError(f"{sentence}\n  expected {expected!r}\n  got      {actual!r}")


def ensure(condition: object, sentence: str) -> None:
    """Raise AssertionError with the sentence unless `condition` is true."""
    if not condition:
        raise AssertionError(sentence)


async def until(condition: Callable[[], Awaitable[bool]], sentence: str, within_s: float = WITHIN_S) -> None:
    """Ask `condition` again and again until it holds; AssertionError with the sentence when it does not in time."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + within_s
    while not await condition():
        if loop.time() > deadline_s:
            raise AssertionError(f"{sentence}\n  not within {within_s:g} s")
        await asyncio.sleep(0.01)
