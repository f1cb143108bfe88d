"""Commands that ask again and again: `get -w` and `wait`."""

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer

from router.cli.options import Format
from router.cli.output import Screen, say
from router.cli.problems import ERROR, CommandError
from router.cli.show import Line, essence, rollout_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from httpx import Response

    from router.cli.client import Api

ASK_S = 0.5
"""How often to ask. Chosen: nobody reads faster, and an answer costs control a few milliseconds."""

PATIENCE_S = 30.0
"""How long a control plane may be away in between. Chosen: many times what a restart takes."""

REACHED = 0
ROLLED_BACK = 3
TIMED_OUT = 4
INTERRUPTED = 130


class Goal(StrEnum):
    """What `wait` waits for."""

    PROMOTED = "promoted"
    PASSED = "passed"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a wait ended, and the last answer."""

    exit_code: int
    answer: "Response"


def verdict(rollout: "Mapping[str, Any]", goal: Goal) -> int | None:
    """Return the exit status when the rollout has reached `goal` or cannot reach it any more, else None."""
    phase = rollout["phase"]
    if phase == goal:
        return REACHED
    if phase == "rolled_back":
        return ROLLED_BACK
    if phase == "promoted":
        return REACHED if goal is Goal.PASSED else ERROR
    passed = rollout["judgement"]["promote"] or rollout["reason"].startswith("shadow_passed")
    return REACHED if goal is Goal.PASSED and passed else None


def wait_for(api: "Api", path: str, goal: Goal, timeout_s: float) -> Ended:
    """Ask until the rollout ends one way or another, or the time is over.

    A Route without a rollout is waited for too: one may be about to start. Raises CommandError when another rollout
    takes the place of the one that is waited for.
    """
    give_up_s = time.monotonic() + timeout_s
    patient = Patient()
    last = api.get(f"{path}/rollout")
    waited_for = ""
    while True:
        last = patient.ask(lambda: api.get(f"{path}/rollout")) or last
        rollout = last.json()
        waited_for = waited_for or rollout["id"]
        if rollout["id"] != waited_for:
            raise CommandError(f"rollout {waited_for} was followed by {rollout['id']}", "it cannot be waited for")
        exit_code = verdict(rollout, goal)
        if exit_code is not None:
            return Ended(exit_code, last)
        left_s = give_up_s - time.monotonic()
        if left_s <= 0:
            return Ended(TIMED_OUT, last)
        time.sleep(min(ASK_S, left_s))


def watch(api: "Api", path: str, output: Format, *, once: bool) -> None:
    """Show the rollout, and unless `once` every change of it until Ctrl-C."""
    try:
        if output is Format.JSON:
            _watch_json(api, f"{path}/rollout", once=once)
        else:
            _watch_tree(api, path, once=once)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _watch_json(api: "Api", path: str, *, once: bool) -> None:
    patient = Patient()
    shown: tuple[object, ...] | None = None
    while True:
        answer = patient.ask(lambda: api.get(path))
        if answer is not None and (seen := essence(answer.json())) != shown:
            shown = seen
            say(answer.text)
        if once:
            return
        time.sleep(ASK_S)


def _watch_tree(api: "Api", path: str, *, once: bool) -> None:
    patient = Patient()
    shown: tuple[object, ...] | None = None
    lines: list[Line] = []
    with Screen() as screen:
        while True:
            answer = patient.ask(lambda: api.get(path))
            seen: tuple[object, ...] = (patient.sentence,) if answer is None else essence(answer.json()["rollout"])
            lines = lines if answer is None else rollout_tree(answer.json(), time.time())
            if seen != shown or screen.repaints:
                screen.draw(lines if answer is not None else [*lines, Line(patient.sentence, "red")])
            shown = seen
            if once:
                return
            time.sleep(ASK_S)


class Patient:
    """Asks a control plane that may be away for a while, but not at the first question and not for too long."""

    def __init__(self) -> None:
        self._answered_s: float | None = None  # by the monotonic clock
        self.sentence = ""

    def ask(self, question: "Callable[[], Response]") -> "Response | None":
        """Return the answer, None when there is none just now. Raises CommandError when it is no use to go on."""
        from router.cli.client import UnreachableError

        try:
            answer = question()
        except UnreachableError as error:
            if self._answered_s is None or time.monotonic() - self._answered_s > PATIENCE_S:
                raise
            self.sentence = f"{error.what}; trying again"
            return None
        self._answered_s = time.monotonic()
        return answer
