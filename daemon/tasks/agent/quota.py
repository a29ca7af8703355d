"""Finds out that a run ended because the API would not or could not serve it now, and when it goes on."""

import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo

from tasks.agent.result import AgentResult

#: Milliseconds. No limit lasts longer; what names a later moment is wrong or was misread.
FARTHEST = 62 * 24 * 3600 * 1000
#: HTTP: too many requests, no service, overloaded. The client has tried ten times, for three minutes, before it gives up.
_STATUSES = (429, 502, 503, 504, 529)
_ERRORS = ("usage_limit_reached", "connection_failed")
#: What clients that tell no status say, and refusals that come with another one.
_LIMIT = re.compile(
    r"\bhit your\b[^|]{0,80}\blimit\b|(?<!context )\blimit reached\b|\busage limits?\b|\bout of (?:extra )?usage\b|"
    r"\brate[ _-]limit|\btemporarily limiting requests\b|\boverloaded\b|^API Error: (?:Connection|Can't reach)\b",
    re.IGNORECASE,
)

#: The client's own words for it, recorded.
_ACCOUNT = re.compile(r"(?:Not logged in|Invalid API key|Credit balance is too low|OAuth token)\b", re.IGNORECASE)

_EPOCH = re.compile(r"\|\s*(\d{10}|\d{13})\b")
_RESET = re.compile(r"\b(?:resets?|regain access)\s+(?:(?:at|on)\s+)?", re.IGNORECASE)
_SPAN = re.compile(r"in\s+((?:\d{1,4}\s*(?:d|h|m|s)[a-z]*[\s,]*)+)", re.IGNORECASE)
_PART = re.compile(r"(\d+)\s*([dhms])", re.IGNORECASE)
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY = re.compile(
    rf"({'|'.join(_MONTHS)})[a-z]{{0,6}}\.?\s+(\d{{1,2}})(?![\d:])(?:,?\s+(\d{{4}})(?!\d))?", re.IGNORECASE
)
_ISO = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_BETWEEN = re.compile(r"T|,?\s*(?:at\s+)?", re.IGNORECASE)
_CLOCK = re.compile(
    r"(\d{1,2})(?::(\d{2}))?(?::\d{2})?\s*([ap])\.?m\b|(\d{1,2}):(\d{2})(?::\d{2})?(?!\d)", re.IGNORECASE
)
_ZONE = re.compile(r"\.?\s*\(([^()\n]{1,40})\)|\s*(UTC|GMT|Z)\b", re.IGNORECASE)
_OFFSET = re.compile(r"(?:UTC|GMT)?\s*([+-])(\d{1,2})(?::?(\d{2}))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limit:
    """What ended a run and passes by itself: a limit of usage, or an API that is overloaded or out of reach.

    The same session can go on once it is over.
    """

    #: epoch milliseconds, in the future when this was read; None: no time was named, or it has passed
    resets_at: int | None
    #: the client's words
    text: str


def is_limit(result: AgentResult) -> bool:
    """Whether the client gave up because of what passes by itself.

    The agent's own words never count: an error of this kind carries the client's words.
    """
    if not result.is_error or result.subtype != "success":
        return False
    if result.api_status in _STATUSES or result.api_error in _ERRORS:
        return True
    says_so = _LIMIT.search(result.text) is not None
    return says_so and (result.api_status is None or _RESET.search(result.text) is not None)


def is_account_trouble(result: AgentResult) -> bool:
    """Whether the client was turned away for the person's account: no login, a refused key, no credit. Only a person can
    change that, and it meets every task alike.
    """
    if not result.is_error or result.subtype != "success":
        return False
    return result.api_status in (401, 403) or _ACCOUNT.match(result.text) is not None


def sane(moment: int, now: int) -> int | None:
    """`moment` when it can be the end of a limit that holds at `now`."""
    return moment if now < moment <= now + FARTHEST else None


def parse_reset(words: str, now: int, zone: tzinfo | None = None) -> int | None:
    """The moment after `now` that the client names as the end of a limit; both in epoch milliseconds.

    Understands `resets 3pm (Europe/Paris)`, `resets Oct 5, 3:30pm (UTC)`, `resets Jan 2, 2027, 3pm`, `resets at 15:10`,
    `regain access on 2026-12-01 at 00:00 UTC`, `resets in 2h 5m` and `…|1760000000`. Without a zone of its own a time is in
    `zone` (default: the machine's). None: no time is named, it has passed, or it is more than 62 days ahead.
    """
    if epoch := _EPOCH.search(words):
        return sane(int(epoch[1]) * (1000 if len(epoch[1]) == 10 else 1), now)
    for found in _RESET.finditer(words):
        for moment in _moments(words[found.end() : found.end() + 80], now, zone):
            if sane(moment, now):
                return moment
    return None


def _moments(words: str, now: int, zone: tzinfo | None) -> Iterator[int]:
    """What the words can mean, earliest first."""
    if span := _SPAN.match(words):
        yield now + 1000 * sum(int(number) * _SECONDS[unit.lower()] for number, unit in _PART.findall(span[1]))
        return
    day = _ISO.match(words) or _DAY.match(words)
    rest = words[day.end() :] if day else words
    between = _BETWEEN.match(rest) if day else None
    clock = _CLOCK.match(rest, between.end() if between else 0)
    if day is None and clock is None:
        return
    at = _time(clock)
    if at is None:
        return
    if named := _ZONE.match(rest, clock.end() if clock else 0):
        zone = _zone((named[1] or named[2]).strip(), zone)
    for candidate in _days(day, datetime.fromtimestamp(now / 1000, zone).date()):
        for fold in (0, 1):  # the hour that comes twice
            yield int(datetime.combine(candidate, at.replace(fold=fold), zone).timestamp() * 1000)


def _time(clock: re.Match[str] | None) -> time | None:
    if clock is None:
        return time(0)
    hour, minute = int(clock[1] or clock[4]), int(clock[2] or clock[5] or 0)
    if clock[3]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if clock[3].lower() == "p" else 0)
    return time(hour, minute) if hour < 24 and minute < 60 else None


def _days(day: re.Match[str] | None, today: date) -> Iterator[date]:
    if day is None:
        yield from (today + timedelta(days=ahead) for ahead in range(-1, 3))
        return
    if day.re is _ISO:
        years, month = [int(day[1])], int(day[2])
        number = int(day[3])
    else:
        years = [int(day[3])] if day[3] else [today.year - 1, today.year, today.year + 1]
        month, number = _MONTHS.index(day[1].lower()) + 1, int(day[2])
    for year in years:
        if 1970 <= year <= 9998 and _exists(year, month, number):
            yield date(year, month, number)


def _exists(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _zone(name: str, otherwise: tzinfo | None) -> tzinfo | None:
    """The zone of that name; a name that the machine does not know leaves it at the zone the client most likely is in."""
    if name.upper() in ("UTC", "GMT", "Z"):
        return UTC
    if offset := _OFFSET.fullmatch(name):
        ahead = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
        return timezone(ahead if offset[1] == "+" else -ahead) if ahead < timedelta(hours=24) else otherwise
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return otherwise
