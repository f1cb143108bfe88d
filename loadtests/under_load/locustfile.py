"""What locust runs: the users, the shape, and a verdict on the scenario as locust's exit code.

Started by `python -m loadtests.under_load`, which hands over its Options by environment.
"""

import json
import os
import random
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from typing import Any, ClassVar
from urllib.parse import urlsplit

from locust import FastHttpUser, LoadTestShape, User, between, events, task
from locust.env import Environment

from loadtests.under_load import limits, report
from loadtests.under_load.options import VARIABLE, Options
from loadtests.under_load.protocols import CHAT, CHAT_PATH, DIGITS, PROTOCOLS, chat_body
from loadtests.under_load.running import Run
from loadtests.under_load.scenario import load
from loadtests.under_load.shapes import SHAPES, users_at
from loadtests.under_load.timeline import DIRECT, FIRST, STREAM, TURNOUT, Answer

OPTIONS = Options(**json.loads(os.environ[VARIABLE]))
SCENARIO = load(OPTIONS.scenario)
SHAPE = SHAPES[OPTIONS.shape] if OPTIONS.shape else SCENARIO.shape
RUN = Run(OPTIONS, SCENARIO)

PEOPLE = 20_000
"""Who there is behind the users of locust: each of these plays one person after another, so that few come twice."""
STAY = 3
"""Requests of one person in a row, on the average."""
THINK_S = (0.1, 0.4)
TIMEOUT_S = 30.0
SIDE, RESCUED = "x-turnout-variant", "x-turnout-rescued"
NUMBERS = iter(range(10**9))


class Person(User):
    """Somebody who asks, thinks, and asks again; after some requests somebody else. Sticky by `x-user-id`."""

    abstract = True
    wait_time = between(*THINK_S)

    def on_start(self) -> None:
        """Become the first person."""
        self.choice = random.Random(next(NUMBERS))
        self._become()

    def _become(self) -> None:
        self.headers = {"content-type": "application/json", "x-user-id": f"user-{self.choice.randrange(PEOPLE)}"}
        self.candidate_at: set[str] = set()

    def somebody(self) -> None:
        """Go on as the same person, or become another one."""
        if self.choice.random() < 1 / STAY:
            self._become()

    def note(self, source: str, began_s: float, failed: str, side: str = "") -> None:
        """Keep what came of a request."""
        now_s = time.perf_counter()
        RUN.seen.answers.append(Answer(RUN.second(), source, 1000 * (now_s - began_s), failed, side))

    def stay(self, path: str, side: str) -> None:
        """Remember who answers this person at this path, and note a way back. Each Route splits people anew."""
        if side == "candidate":
            self.candidate_at.add(path)
        elif side and path in self.candidate_at:
            self.candidate_at.remove(path)
            RUN.seen.flips.append(RUN.second())


class DigitPerson(Person, FastHttpUser):
    """Shows images of digits to Turnout, by one of the scenario's protocols each time."""

    host = RUN.gateway_url
    network_timeout = connection_timeout = TIMEOUT_S
    weight = 8
    protocols: ClassVar[list[str]] = [name for name in SCENARIO.protocols if name != CHAT]

    @task
    def show(self) -> None:
        """Ask for one digit; anything but a digit with 200 is an error."""
        self.somebody()
        protocol = PROTOCOLS[self.choice.choice(self.protocols)]
        self.ask(protocol.path, protocol.body_of(self.choice.choice(RUN.images)), protocol.label_of, TURNOUT)

    def ask(self, path: str, body: str, label_of: Callable[[Any], int], source: str) -> None:
        """Send one request and check its answer."""
        began_s = time.perf_counter()
        with self.client.post(
            path, data=body, headers=self.headers, name=f"{source} {path}", catch_response=True
        ) as answer:
            failed = failure_of(answer, label_of)
            if failed:
                answer.failure(failed)
            headers = answer.headers or {}
            side = "" if RESCUED in headers else headers.get(SIDE, "")
            self.note(source, began_s, failed, side)
            self.stay(path, side)


class DirectPerson(DigitPerson):
    """Shows the same images to the stable model itself, at the same time: what waiting would be without Turnout."""

    host = RUN.direct_url
    weight = 2 if RUN.direct_url else 0

    @task
    def show(self) -> None:
        """Ask for one digit."""
        self.somebody()
        protocol = PROTOCOLS[DIGITS]
        self.ask(protocol.path, protocol.body_of(self.choice.choice(RUN.images)), protocol.label_of, DIRECT)


class Reader(Person):
    """Asks for text, and reads it word by word as it comes."""

    weight = 1 if CHAT in SCENARIO.protocols else 0

    def on_start(self) -> None:
        """Connect: by the standard library, whose `read1` gives each event when it comes."""
        super().on_start()
        where = urlsplit(RUN.gateway_url)
        self.line = HTTPConnection(where.hostname or "", where.port, timeout=TIMEOUT_S)

    @task
    def read(self) -> None:
        """Ask for one text; a stream that ends before `[DONE]` is an error."""
        self.somebody()
        began_s, text, failed = time.perf_counter(), b"", ""
        try:
            self.line.request("POST", CHAT_PATH, chat_body(self.choice.choice(RUN.prompts)), self.headers)
            answer = self.line.getresponse()
            text = answer.read1()
            if answer.status == 200:
                self.note(FIRST, began_s, "")
            text += answer.read()
        except (OSError, HTTPException) as error:
            failed = f"{error!r} after {len(text)} bytes of a stream"
            self.line.close()
        else:
            if not text.endswith(b"data: [DONE]\n\n"):
                failed = f"{answer.status}, a stream without [DONE], but with {text[-120:]!r}"
        self.note(STREAM, began_s, failed)
        self.environment.events.request.fire(
            request_type="POST", name=f"{STREAM} {CHAT_PATH}", response_length=len(text), context={},
            response_time=1000 * (time.perf_counter() - began_s), exception=OSError(failed) if failed else None,
        )  # fmt: skip


def failure_of(answer: Any, label_of: Callable[[Any], int]) -> str:  # noqa: ANN401 - locust's
    """Return why an answer is none, empty for a digit."""
    if answer.status_code != 200:
        return f"{answer.status_code or 'no answer'}: {answer.text[:120] if answer.text else answer.error}"
    try:
        digit = label_of(answer.json())
    except (ValueError, LookupError, TypeError) as error:
        return f"unreadable ({error!r}): {answer.text[:120]}"
    return "" if digit in range(10) else f"no digit: {digit}"


class Shape(LoadTestShape):
    """As many users as the scenario's shape, or the asked one, says."""

    def tick(self) -> tuple[int, float] | None:
        """Return how many there are to be, and how fast they come; None at the end."""
        users = users_at(SHAPE, RUN.second(), OPTIONS.seconds, OPTIONS.users)
        return None if users is None else (users, float(OPTIONS.users))


@events.test_start.add_listener
def begin(environment: Environment, **_: object) -> None:  # noqa: ARG001 - locust's
    """Start what goes on beside the users."""
    RUN.begin()


@events.user_error.add_listener
def note_broken(exception: BaseException, **_: object) -> None:
    """A user that breaks has got no answer; locust itself would only print it."""
    RUN.seen.answers.append(Answer(RUN.second(), TURNOUT, 0.0, f"locust's user broke: {exception!r}"))


@events.quitting.add_listener
def end(environment: Environment, **_: object) -> None:
    """Judge, write what was asked for, and end what was started."""
    try:
        RUN.end()
        found = limits.findings(SCENARIO.limits, SCENARIO.fault, RUN.seen, STAY, RUN.compared())
        report.write(OPTIONS, SCENARIO, RUN.seen, found)
        for one in found:
            print(f"{'ok    ' if one.passed else 'MISSED'}  {one.what}: {one.measured} ({one.limit})")
        environment.process_exit_code = int(not all(one.passed for one in found))
    except BaseException:
        environment.process_exit_code = 1
        raise
    finally:
        RUN.stop()
