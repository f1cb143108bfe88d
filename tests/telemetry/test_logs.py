"""Log events: one line each, whatever is in them, and not too many of them."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from router.core.config import LogConfig
from router.telemetry import logs

HOSTILE = "a\nb\r\x1b[31m\x00\u2028\x85\u202e\ud800"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Give back Python's and structlog's own configuration after each test."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()


def written(kind: str) -> io.StringIO:
    """Configure logging in one format and return the stream that it writes to."""
    stream = io.StringIO()
    logs.configure(LogConfig(format=kind), process="gateway-0", stream=stream)
    return stream


@pytest.mark.parametrize("kind", ["json", "console"])
def test_se8_one_event_is_one_line_whatever_a_client_put_into_it(kind: str) -> None:
    """Control characters, line separators and direction marks come out escaped, in event, fields and values."""
    stream = written(kind)
    logs.get("recorder").warning(HOSTILE, label=HOSTILE, items=[HOSTILE])
    text = stream.getvalue()
    assert len(text.splitlines()) == 1
    assert text.endswith("\n")
    assert not any(character in text[:-1] for character in HOSTILE if not character.isprintable())


def test_json_lines_carry_level_process_component_and_fields() -> None:
    """A machine finds everything under fixed names."""
    stream = written("json")
    logs.get("recorder").info("store is back", lost_pairs=3)
    event = json.loads(stream.getvalue())
    del event["timestamp"]
    assert event == {
        "event": "store is back",
        "level": "info",
        "process": "gateway-0",
        "component": "recorder",
        "lost_pairs": 3,
    }


def test_an_exception_takes_two_fields_and_no_extra_line() -> None:
    """Type, sentence and place are told; the traceback's lines and locals are not."""
    stream = written("json")
    try:
        int("nine\nlives")
    except ValueError as error:
        logs.get("recorder").error("write failed", exc_info=error)
    event = json.loads(stream.getvalue())
    assert event["error"].startswith("ValueError: invalid literal for int()")
    assert event["at"].startswith("test_logs.py:")
    assert stream.getvalue().count("\n") == 1


def test_an_exception_within_another_names_both() -> None:
    """A parser's callback that fails is raised as the parser's failure: the mistake itself must be seen."""
    stream = written("json")
    try:
        try:
            int("nine")
        except ValueError as error:
            raise KeyError("callback") from error
    except KeyError as error:
        logs.get("gateway").error("failed", exc_info=error)
    event = json.loads(stream.getvalue())
    assert event["error"] == "KeyError: 'callback'"
    assert event["because"].startswith("ValueError: invalid literal")
    assert event["because_at"].startswith("test_logs.py:")


UNCAUGHT = """
import threading
from router.core.config import LogConfig
from router.telemetry import logs

class Odd:
    def __del__(self):
        raise ValueError("finalizer\\nbad")

def fail(text):
    secret = "s3cret in a variable"
    raise ValueError(text)

logs.configure(LogConfig(format="json"), process="x")
logs.write_uncaught()
Odd()
thread = threading.Thread(target=fail, args=("thread\\nbad",))
thread.start()
thread.join()
fail("main\\nbad")
"""


def test_se8_what_nobody_caught_is_one_line_too() -> None:
    """In a finalizer, in a thread, and at the end of a process: three events, no traceback, no variable's value."""
    done = subprocess.run([sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [event["error"] for event in events] == [
        "ValueError: finalizer\\nbad", "ValueError: thread\\nbad", "ValueError: main\\nbad",
    ]  # fmt: skip
    assert "s3cret" not in done.stderr


def test_libraries_that_use_pythons_logging_write_the_same_sort_of_line() -> None:
    """A warning of a library is an event with the library's name; its chatter below warning is not written."""
    stream = written("json")
    logging.getLogger("uvicorn.error").info("started")
    logging.getLogger("uvicorn.error").warning("odd\nrequest")
    event = json.loads(stream.getvalue())
    assert (event["component"], event["level"], event["event"]) == ("uvicorn.error", "warning", "odd\\nrequest")


def test_the_level_is_obeyed() -> None:
    """With level warning, info events are not written."""
    stream = io.StringIO()
    logs.configure(LogConfig(level="warning", format="json"), process="gateway-0", stream=stream)
    logs.get("recorder").info("all is well")
    assert stream.getvalue() == ""


def test_a_throttle_admits_one_event_a_second_for_each_key_and_counts_the_rest() -> None:
    """Keys do not disturb each other; what was held back is told with the next line."""
    throttle = logs.Throttle()
    answers = [throttle.admit(key, now_s) for key, now_s in [("a", 0.0), ("a", 0.5), ("b", 0.5), ("a", 0.9)]]
    assert answers == [0, None, 0, None]
    assert throttle.admit("a", 1.0) == 2
    assert throttle.admit("a", 2.5) == 0


def test_a_throttle_forgets_the_oldest_keys() -> None:
    """Keys that a client can invent do not grow it without end."""
    throttle = logs.Throttle()
    for number in range(logs.KEYS * 3):
        throttle.admit(str(number), 0.0)
        throttle.admit(str(number), 0.1)
    assert throttle.admit("0", 0.2) == 0
    assert throttle.admit(str(logs.KEYS * 3 - 1), 0.2) is None


def test_a_throttled_log_writes_one_line_and_then_the_number_held_back() -> None:
    """Ten failures within a second are one line; the next one says nine were held back."""
    stream = written("json")
    times = iter([*[0.1 * n for n in range(10)], 5.0])
    upstream = logs.ThrottledLog(logs.get("upstream"), clock=lambda: next(times))
    for _ in range(11):
        upstream.warning("digits/v1", "connect failed", variant="v1")
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event.get("held_back") for event in events] == [None, 9]


def test_a_lasting_condition_is_a_change_only_once() -> None:
    """The first state and each different one are changes; repetitions are not."""
    changes = logs.Changes()
    states = ["up", "up", "down", "down", "up"]
    assert [changes.changed("store", state) for state in states] == [True, False, True, False, True]


def test_importing_telemetry_loads_neither_structlog_nor_prometheus() -> None:
    """A gateway worker imports both files at its start; the heavy libraries wait for their first use."""
    code = (
        "import sys; import router.telemetry.logs, router.telemetry.metrics as m; "
        "m.merge([{'turnout_store_up': {(): 1.0}}]); "
        "print(sorted({'structlog', 'prometheus_client', 'rich', 'asyncio'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_configuring_loads_structlog_without_rich() -> None:
    """It would cost each worker 80 ms, and a later import of rich still works."""
    code = (
        "import sys; from router.telemetry import logs; from router.core.config import LogConfig; "
        "logs.configure(LogConfig(), process='x'); loaded = 'rich' in sys.modules; import rich; "
        "print(loaded, rich.__name__)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "rich"]
