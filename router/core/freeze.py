"""Freeze windows: times in which no candidate gets more traffic. Pure: the time is an argument.

A freeze never stands before less traffic: `router.core.decisions.guard` says what it holds back.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

DAY_MINUTES = 1_440


@dataclass(frozen=True, slots=True)
class DatedFreeze:
    """One period, from `from_s` until before `until_s`, in seconds since 1970; `timezone` is how its end is shown."""

    from_s: float
    until_s: float
    timezone: str = "UTC"
    reason: str = ""

    def end_s(self, now_s: float) -> float | None:
        """Return when the freeze that is on at `now_s` ends, None where there is none."""
        return self.until_s if self.from_s <= now_s < self.until_s else None


@dataclass(frozen=True, slots=True)
class WeeklyFreeze:
    """A period that comes back each week: one begins on each of `days` (0 Monday .. 6 Sunday).

    `from_minute` and `until_minute` are minutes of the local day, 0..1440; the end is `days_later` days after the
    begin. Where the clock is changed in `timezone`, an hour that comes twice is frozen both times, and a begin or
    end that does not exist is taken as the earlier or later of its two readings: a freeze is rather too long.
    """

    days: tuple[int, ...]
    from_minute: int = 0
    until_minute: int = DAY_MINUTES
    days_later: int = 0
    timezone: str = "UTC"
    reason: str = ""

    def end_s(self, now_s: float) -> float | None:
        """Return when the last of the freezes that are on at `now_s` ends, None where there is none."""
        zone = zone_of(self.timezone)
        today = datetime.fromtimestamp(now_s, zone).date()
        ends_s = []
        for back in range(self.days_later + 2):  # one day more: an end of 24:00 may be read an hour late
            day = today - timedelta(days=back)
            if day.weekday() in self.days:
                from_s = min(_readings_s(day, self.from_minute, zone))
                until_s = max(_readings_s(day + timedelta(days=self.days_later), self.until_minute, zone))
                if from_s <= now_s < until_s:
                    ends_s.append(until_s)
        return max(ends_s, default=None)


FreezeWindow = DatedFreeze | WeeklyFreeze


def frozen(now_s: float, windows: Iterable[FreezeWindow]) -> str | None:
    """Return why no candidate may get more traffic at `now_s`, and until when; None outside of all `windows`."""
    on = [(end_s, window) for window in windows if (end_s := window.end_s(now_s)) is not None]
    if not on:
        return None
    end_s, window = max(on, key=lambda one: one[0])
    end = datetime.fromtimestamp(end_s, zone_of(window.timezone))
    because = f": {window.reason}" if window.reason else ""
    return f"frozen until {end:%a %Y-%m-%d %H:%M} {window.timezone}{because}"


def zone_of(name: str) -> tzinfo:
    """Return the time zone of an IANA name such as Europe/Berlin; UTC also where no zones are installed.

    Raises ZoneInfoNotFoundError or ValueError for other names.
    """
    return UTC if name == "UTC" else ZoneInfo(name)


def _readings_s(day: date, minute: int, zone: tzinfo) -> tuple[float, float]:
    """Return what a local time may mean: twice the same but for the hours in which the clock is changed."""
    day += timedelta(days=minute // DAY_MINUTES)
    local = datetime.combine(day, time(minute % DAY_MINUTES // 60, minute % 60), zone)
    return local.timestamp(), local.replace(fold=1).timestamp()
