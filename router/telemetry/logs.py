"""Log events: a console line on a terminal, JSON otherwise, and one event is always one line.

A module takes its Log with `get("recorder")`; each process calls `configure` once. Importing this file is
cheap; structlog is loaded when a process configures or writes its first line.
"""

import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

from router.telemetry.hidden import hidden

if TYPE_CHECKING:
    from router.core.config import LogConfig

Event: TypeAlias = MutableMapping[str, Any]

LEVELS = ("debug", "info", "warning", "error")

KEYS = 1_024
"""How many keys a Throttle or a Changes remembers. Chosen: far above the routes x variants of one process."""

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What can break or forge a line: controls, line separators, direction overrides, lone surrogates."""


@dataclass(frozen=True, slots=True)
class Log:
    """Writes events of one component. `event` is a fixed short sentence; what varies goes into the fields."""

    component: str

    def debug(self, event: str, **fields: object) -> None:
        """Write what only somebody looking for a bug wants."""
        _write("debug", self.component, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Write what changed as it should."""
        _write("info", self.component, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Write what went wrong and is being coped with."""
        _write("warning", self.component, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Write what a person has to look at."""
        _write("error", self.component, event, fields)


def get(component: str) -> Log:
    """Return the Log of one component, named by a glossary word such as `recorder`."""
    return Log(component)


@dataclass(slots=True)
class Throttle:
    """Says when a repeated event may be written: once per key and `interval_s` (monotonic)."""

    interval_s: float = 1.0
    _last_s: dict[str, float] = field(default_factory=dict)
    _held: dict[str, int] = field(default_factory=dict)

    def admit(self, key: str, now_s: float) -> int | None:
        """Return how many of `key` were held back since the last admitted one, None to hold this one too."""
        last_s = self._last_s.get(key)
        if last_s is not None and now_s - last_s < self.interval_s:
            self._held[key] = self._held.get(key, 0) + 1
            return None
        self._last_s.pop(key, None)  # taken out first, so that the dict stays ordered by age
        self._last_s[key] = now_s
        if len(self._last_s) > KEYS:
            oldest = next(iter(self._last_s))
            del self._last_s[oldest]
            self._held.pop(oldest, None)
        return self._held.pop(key, 0)


@dataclass(slots=True)
class ThrottledLog:
    """A Log that writes at most one line a second for each key and says how many it held back."""

    log: Log
    throttle: Throttle = field(default_factory=Throttle)
    clock: Callable[[], float] = time.monotonic

    def info(self, key: str, event: str, **fields: object) -> None:
        """Write an info event unless `key` had one within the last second."""
        self._write("info", key, event, fields)

    def warning(self, key: str, event: str, **fields: object) -> None:
        """Write a warning unless `key` had one within the last second."""
        self._write("warning", key, event, fields)

    def error(self, key: str, event: str, **fields: object) -> None:
        """Write an error unless `key` had one within the last second."""
        self._write("error", key, event, fields)

    def _write(self, level: str, key: str, event: str, fields: Mapping[str, object]) -> None:
        held = self.throttle.admit(key, self.clock())
        if held is not None:
            _write(level, self.log.component, event, {**fields, "held_back": held} if held else fields)


@dataclass(slots=True)
class Changes:
    """Remembers the last state of each key, so that a lasting condition is written once, not all the time."""

    _states: dict[str, object] = field(default_factory=dict)

    def changed(self, key: str, state: object) -> bool:
        """Return whether `state` differs from the last one given for `key`; the first one is a change."""
        if key in self._states and self._states[key] == state:
            return False
        self._states.pop(key, None)
        self._states[key] = state
        if len(self._states) > KEYS:
            del self._states[next(iter(self._states))]
        return True


def configure(config: "LogConfig", *, process: str, stream: TextIO | None = None) -> None:
    """Send this process's events to `stream` (standard error), marked with the name of the process.

    Also takes over Python's own logging from level warning up, so that libraries write such lines too.
    """
    structlog = _structlog()
    out = sys.stderr if stream is None else stream
    console = config.format == "console" or (config.format == "auto" and out.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _mark(process),
            _shorten_exception,
            _one_line,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
            _console_renderer(structlog, out) if console else structlog.processors.JSONRenderer(_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(config.level),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Bridge()], level=logging.WARNING, force=True)


def write_uncaught() -> None:
    """Write an exception that ends this process, a thread or a finalizer as one event, not as a traceback.

    A traceback is many lines of which none says which process it is from. For processes of ours: it replaces the hooks
    of the interpreter.
    """
    log = get("process")
    sys.excepthook = lambda _kind, error, _trace: log.error("ended by an exception", exc_info=error)
    threading.excepthook = lambda given: log.error("a thread ended by an exception", exc_info=given.exc_value)
    sys.unraisablehook = lambda given: log.error("an exception nobody could catch", exc_info=given.exc_value)


def escape(text: str) -> str:
    r"""Return `text` with everything that could break or forge a line written as `\x..` or `\u....`."""
    return _UNPRINTABLE.sub(_escaped, text)


def escape_json(document: str) -> str:
    r"""Return a JSON document with what is left in it of such characters written as `\u....`: the same values."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def _escaped(found: re.Match[str]) -> str:
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(found[0])
    return known or (f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else f"\\u{ord(found[0]):04x}")


def _write(level: str, component: str, event: str, fields: Mapping[str, object]) -> None:
    logger = _structlog().get_logger()
    getattr(logger, level)(event, **{**fields, "component": component})


def _structlog() -> Any:  # noqa: ANN401 - a module
    """Return structlog, without rich unless that is loaded already.

    structlog.dev imports rich, if it is installed, for tracebacks that we never print: 80 ms (measured) that
    each gateway worker would pay at its start.
    """
    if "structlog" not in sys.modules:
        with hidden("rich"):
            import structlog  # noqa: PLC0415
    import structlog  # noqa: PLC0415

    return structlog


def _mark(process: str) -> Callable[[object, str, Event], Event]:
    def mark(_logger: object, _method: str, event: Event) -> Event:
        event["process"] = process
        return event

    return mark


def _shorten_exception(_logger: object, _method: str, event: Event) -> Event:
    """Turn exc_info into a few short fields: a traceback takes many lines, and its locals may hold payloads."""
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    if error is not None:
        event["error"] = f"{type(error).__name__}: {error}"
        event["at"] = _places(error.__traceback__)
        # A parser's callback that fails is told as the parser's failure; the mistake itself is behind it.
        behind = error.__cause__ or error.__context__
        if behind is not None:
            event["because"] = f"{type(behind).__name__}: {behind}"
            event["because_at"] = _places(behind.__traceback__)
    return event


def _places(trace: TracebackType | None) -> str:
    """Return where an exception came from, innermost first: `loop.py:88 tick < app.py:40 _control`."""
    places = []
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return " < ".join(reversed(places[-6:]))


def _one_line(_logger: object, _method: str, event: Event) -> Event:
    for key, value in event.items():
        if not isinstance(value, (bool, int, float, type(None))):
            event[key] = escape(value if isinstance(value, str) else str(value))
    return event


def _json(event: Mapping[str, object], **_options: object) -> str:
    return json.dumps(event, ensure_ascii=False)


def _console_renderer(structlog: Any, out: TextIO) -> Any:  # noqa: ANN401 - structlog's own
    colors = out.isatty() and not os.environ.get("NO_COLOR")
    return structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0)


class _Bridge(logging.Handler):
    """Writes records of Python's logging as events of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        level = LEVELS[min(max(record.levelno // 10 - 1, 0), len(LEVELS) - 1)]
        _write(
            level,
            record.name,
            record.getMessage(),
            {"exc_info": record.exc_info[1]} if record.exc_info else {},
        )
