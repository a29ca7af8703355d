"""Local days: which zone they are of, and from which to which millisecond each lasts."""

import io
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tasks.errors import ConfigError
from tasks.rollups import MINUTE

QUARTER = 15 * MINUTE
#: Days that one question may be about.
MOST_DAYS = 3660

_FIRST, _LAST = date(1970, 1, 2), date(9998, 12, 31)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Day:
    """A local day: [start, end) in epoch milliseconds; 23 to 25 hours where clocks change."""

    date: date
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Period:
    """Whole local days, `first` and `last` included: [start, end) in epoch milliseconds."""

    first: date
    last: date
    zone: ZoneInfo
    start: int
    end: int


def find_zone(
    name: str, *, environ: Mapping[str, str] = os.environ, localtime: Path = Path("/etc/localtime")
) -> ZoneInfo:
    """The IANA zone of that name; with an empty one the machine's own: TZ, else what /etc/localtime is, else UTC.

    Raises ValueError when there is no such zone.
    """
    if not name:
        return _machine_zone(environ, localtime)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"{name!r} is no time zone; names are such as Europe/Paris, America/New_York or UTC"
        ) from error


def chosen_zone(asked: str | None, configured: str) -> ZoneInfo:
    """The zone asked for, else the configured one. Raises ValueError for the first, ConfigError for the second."""
    if asked:
        return find_zone(asked)
    try:
        return find_zone(configured)
    except ValueError as error:
        raise ConfigError(f"costs.zone: {error}") from error


def today(zone: ZoneInfo, now: int) -> date:
    return (_EPOCH + timedelta(milliseconds=now)).astimezone(zone).date()


@lru_cache(maxsize=1 << 13)  # the same days are asked for again and again: a fifth of an answer about money
def start_of(day: date, zone: ZoneInfo) -> int:
    """The first quarter hour of a local day. Of a day that the zone skipped: where the next one begins."""
    first, second = (_instant(day, zone, fold) for fold in (0, 1))
    if first > second:
        # Clocks jump over midnight: the day begins where the jump lands, which lies between the two readings.
        while today(zone, second) < day:
            second += QUARTER
        first = second
    # Quarter hours are what all zones agree on; before about 1972 some did not.
    return -(-first // QUARTER) * QUARTER


def local_days(first: date, last: date, zone: ZoneInfo) -> list[Day]:
    """The days from `first` to `last`, each beginning where the one before ends; without such as the zone skipped."""
    dates = [first + timedelta(days=number) for number in range((last - first).days + 2)]
    starts = [start_of(day, zone) for day in dates]
    return [Day(day, start, end) for day, start, end in zip(dates, starts, starts[1:], strict=False) if start < end]


def period(
    zone: ZoneInfo,
    now: int,
    *,
    days: int | None = None,
    since: date | str | None = None,
    until: date | str | None = None,
) -> Period:
    """The last `days` local days, today included (default: 30); or those from `since` to `until` (default: today).

    Raises ValueError for contradictions, and for what is no span of up to MOST_DAYS days.
    """
    since, until = _date("since", since), _date("until", until)
    current = today(zone, now)
    if days is not None and since is not None:
        raise ValueError(f"days = {days} and since = {since}: say one of them")
    if days is not None and not (isinstance(days, int) and 1 <= days <= MOST_DAYS):
        raise ValueError(f"days = {days}: a whole number from 1 to {MOST_DAYS} is needed")
    last = current if until is None else until
    if not _FIRST <= last <= _LAST:
        raise ValueError(f"until = {last}: a day from {_FIRST} to {_LAST} is needed")
    first = max(last - timedelta(days=(days or 30) - 1), _FIRST) if since is None else since
    if first > last:
        raise ValueError(f"since = {first} is later than until = {last}")
    if first < _FIRST:
        raise ValueError(f"since = {first}: a day from {_FIRST} to {last} is needed")
    if (last - first).days >= MOST_DAYS:
        raise ValueError(f"since = {first}: that is more than {MOST_DAYS} days before {last}")
    return Period(first, last, zone, start_of(first, zone), start_of(last + timedelta(days=1), zone))


def _date(name: str, value: date | str | None) -> date | None:
    try:
        return date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"{name} = {value!r}: a day such as 2025-10-22 is needed") from error


def _instant(day: date, zone: ZoneInfo, fold: int) -> int:
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone, fold=fold)
    return (midnight.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)


def _machine_zone(environ: Mapping[str, str], localtime: Path) -> ZoneInfo:
    chosen = environ.get("TZ")
    if chosen is not None:
        # As the C library takes it: empty, or not understood, is UTC.
        return _of_variable(chosen.removeprefix(":")) or ZoneInfo("UTC")
    return _of_file(localtime) or ZoneInfo("UTC")


def _of_variable(text: str) -> ZoneInfo | None:
    if text.startswith("/"):
        return _of_file(Path(text))
    try:
        return find_zone(text) if text else None
    except ValueError:
        return _of_rule(text)


def _of_file(path: Path) -> ZoneInfo | None:
    """By the name that the file has among the zones; a copy of one elsewhere is a zone without a name."""
    try:
        _, found, name = str(path.resolve(strict=True)).rpartition("/zoneinfo/")
        if found:
            try:
                return find_zone(name.removeprefix("posix/").removeprefix("right/"))
            except ValueError:
                pass
        with path.open("rb") as file:
            return ZoneInfo.from_file(file, key=str(path))
    except (OSError, RuntimeError, ValueError):
        return None


def _of_rule(text: str) -> ZoneInfo | None:
    """A zone by its rule, as POSIX writes it: `CET-1CEST,M3.5.0,M10.5.0/3`."""
    if not text.isascii():
        return None
    # A file of zone information that holds nothing but the rule.
    part = b"TZif2" + bytes(15) + struct.pack(">6l", 0, 0, 0, 0, 1, 4) + struct.pack(">lbb", 0, 0, 0) + b"UTC\0"
    try:
        return ZoneInfo.from_file(io.BytesIO(part + part + b"\n" + text.encode() + b"\n"), key=text)
    except ValueError:
        return None
