"""The `freeze` block: times in which no candidate gets more traffic, as people write them."""

import re
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Annotated, Literal
from zoneinfo import ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema, model_validator

from router.core.freeze import DAY_MINUTES, DatedFreeze, FreezeWindow, WeeklyFreeze, zone_of
from router.settings.block import Block

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(rf"(?:(?P<day>{'|'.join(_DAYS)}) )?(?P<hour>[01]\d|2[0-4]):(?P<minute>[0-5]\d)")
_ZONE = re.compile(r"[A-Za-z0-9+_-]+(/[A-Za-z0-9+_-]+)*")  # a name, and no way out of the folder of zones


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of the day, 0..1440 minutes, perhaps of one day of the week (0 Monday)."""

    minute: int
    day: int | None = None


def when(value: object) -> Clock | datetime:
    """Return what `16:00`, `fri 16:00`, `2026-12-20` or `2026-12-20T00:00:00Z` says; YAML may have read the dates."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError('a time in quotes, like "16:00": without them YAML makes a number of it')  # noqa: TRY004
    if isinstance(value, str):
        found = _CLOCK.fullmatch(value)
        if found:
            minute = int(found["hour"]) * 60 + int(found["minute"])
            if minute <= DAY_MINUTES:
                return Clock(minute, _DAYS.index(found["day"]) if found["day"] else None)
        elif value[:4].isdecimal():
            try:
                return datetime.fromisoformat(value)
            except ValueError:
                pass
    raise ValueError('a time like "16:00" or "fri 16:00", or a moment like 2026-12-20T00:00:00Z')


def time_zone(text: str) -> str:
    """Return the name of a time zone that this machine knows."""
    try:
        if _ZONE.fullmatch(text):
            zone_of(text)
            return text
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise ValueError("a time zone like Europe/Berlin or UTC; where this machine lacks it, install its tzdata package")


def one_line(text: str) -> str:
    """Return a text that can stand in a reason."""
    if not text.isprintable():
        raise ValueError("one line of text")
    return text


Moment = Annotated[
    Clock | datetime,
    PlainValidator(when),
    WithJsonSchema({"type": "string", "examples": ["16:00", "fri 16:00", "2026-12-20T00:00:00Z", "2026-12-20"]}),
]


class FreezeBlock(Block):
    """Times in which no candidate gets more traffic. Rolling back, pausing and lowering are always possible."""

    days: list[Day] = Field(
        [], description="Days on which one begins: mon, tue, wed, thu, fri, sat, sun. Without times: all of each day."
    )
    from_: Moment | None = Field(
        None,
        alias="from",
        description='Its begin: "16:00" with `days`, "fri 16:00" without, or once and for all 2026-12-20T00:00:00Z.',
    )
    until: Moment | None = Field(
        None, description="Its end, in the same form; a time that is not after `from` is one of the next day."
    )
    timezone: Annotated[str, AfterValidator(time_zone)] = Field(
        "UTC", description="Whose clock is meant, by its IANA name such as Europe/Berlin."
    )
    reason: Annotated[str, Field(max_length=200), AfterValidator(one_line)] | None = Field(
        None, description="Why, for those who ask what a rollout waits for."
    )

    @model_validator(mode="after")
    def _is_a_period(self) -> "FreezeBlock":
        match self.from_, self.until:
            case None, None if self.days:
                return self
            case datetime(), datetime() if not self.days:
                if self._dated().until_s <= self._dated().from_s:
                    raise ValueError("an `until` after `from`")
            case Clock(), Clock() if self.from_.minute == DAY_MINUTES:
                raise ValueError('a `from` before "24:00"')
            case Clock(day=None), Clock(day=None) if self.days:
                return self
            case Clock(day=int()), Clock(day=int()) if not self.days:
                return self
            case _:
                raise ValueError(
                    '`days` with `from` and `until` like "16:00", or `days` alone; '
                    '`from` and `until` like "fri 16:00"; or both like 2026-12-20T00:00:00Z'
                )
        return self

    def value(self) -> FreezeWindow:
        """Return the window in seconds and minutes."""
        if isinstance(self.from_, Clock) and isinstance(self.until, Clock):
            return self._weekly(self.from_, self.until)
        if not isinstance(self.from_, datetime):
            return WeeklyFreeze(self._days(), timezone=self.timezone, reason=self.reason or "")
        return self._dated()

    def _weekly(self, begin: Clock, end: Clock) -> WeeklyFreeze:
        ends_later = end.minute <= begin.minute
        days, later = self._days(), int(ends_later)
        if begin.day is not None and end.day is not None:
            days, apart = (begin.day,), (end.day - begin.day) % 7
            later = apart or 7 * later
        return WeeklyFreeze(days, begin.minute, end.minute, later, self.timezone, self.reason or "")

    def _dated(self) -> DatedFreeze:
        return DatedFreeze(self._stamp(self.from_), self._stamp(self.until), self.timezone, self.reason or "")

    def _stamp(self, moment: Clock | datetime | None) -> float:
        if not isinstance(moment, datetime):
            raise TypeError(f"{moment} is not a date")  # _is_a_period has seen to it
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone_of(self.timezone))).timestamp()

    def _days(self) -> tuple[int, ...]:
        return tuple(sorted({_DAYS.index(day) for day in self.days}))
