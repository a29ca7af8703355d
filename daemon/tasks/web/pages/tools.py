"""Tools and errors: what is called, how long it takes, what fails, why, and whether that becomes more."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tasks.analytics import errors, tools
from tasks.analytics.days import chosen_zone, period
from tasks.analytics.errors import DailyErrors, ErrorKind, FailureRate
from tasks.analytics.span import now_ms, since
from tasks.analytics.tools import ToolDurations, ToolUse, UseStats
from tasks.api.errors import FailedCall, read_recent_errors
from tasks.text import count, milliseconds
from tasks.web.charts import Bar, Day, Range, bars, columns, ranges
from tasks.web.frame import Data, Look, Page
from tasks.web.kept import Kept
from tasks.web.scales import plain
from tasks.web.shown import number, percent
from tasks.web.tables import Table
from tasks.words import ErrorCategory

DAYS = ("7", "1", "30")
#: What calls are divided by → how that is called, and what an empty name means.
DIMENSIONS: dict[tools.Dimension, tuple[str, str]] = {
    "agent_type": ("Agent type", "(main agent)"), "workflow": ("Workflow", "–"), "model": ("Model", "(not known)"),
}  # fmt: skip
#: Days that the rate is drawn for at least.
DRAWN = 14
#: Rows: tools, tools drawn, kinds of errors, failed calls, values; and of a CSV file.
TOOLS, RANGES, KINDS, RECENT, VALUES, CSV_ROWS = 60, 12, 25, 15, 30, 500
_QUANTILES = (0.5, 0.95)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the address asks for."""

    days: int
    by: tools.Dimension
    #: None: all of them
    tool: str | None
    category: ErrorCategory | None


@dataclass(frozen=True, slots=True)
class Used:
    """What the span holds, whatever is filtered."""

    tools: list[ToolUse]
    durations: list[ToolDurations]
    categories: list[FailureRate]
    daily: list[DailyErrors]


@dataclass(frozen=True, slots=True)
class Failed:
    kinds: list[ErrorKind]
    recent: list[FailedCall]


_used: Kept[Used] = Kept(3.0)
_failed: Kept[Failed] = Kept(3.0)
_callers: Kept[list[UseStats]] = Kept(3.0)


async def load(look: Look) -> Data:
    chosen, where = choice(look), look.ctx.settings.database_file
    used = await _used.get((where, chosen.days), lambda: _uses(look, chosen))
    failed = await _failed.get((where, chosen), lambda: _failures(look, chosen))
    callers = await _callers.get((where, chosen.days, chosen.by), lambda: _by(look, chosen))
    calls = sum(one["count"] for one in used.tools)
    timed = {one["tool_name"]: one for one in used.durations}
    return {
        "chosen": chosen,
        "dimensions": DIMENSIONS,
        "tools": [(one, one["count"] / calls, timed.get(one["tool_name"])) for one in used.tools[:TOOLS]],
        "names": [one["tool_name"] for one in used.tools],
        "categories": list(ErrorCategory),
        "calls": calls,
        "failures": sum(one["failures"] for one in used.tools),
        "left_out": max(len(used.tools) - TOOLS, 0),
        "durations": _durations(used.durations),
        "by_category": _by_category(used.categories),
        "failed_by": used.categories,
        "daily": used.daily,
        "trend": _trend(used.daily),
        "failed": failed,
        "callers": callers[:VALUES],
        "callers_left": max(len(callers) - VALUES, 0),
        "most_calls": max((one["calls"] for one in callers), default=0),
    }


def choice(look: Look) -> Chosen:
    """Nonsense is as if it had not been asked for."""
    by = look.choice("by", tuple(DIMENSIONS))
    category = look.query.get("category", "")
    return Chosen(
        int(look.choice("days", DAYS)),
        next(one for one in DIMENSIONS if one == by),
        look.query.get("tool", "")[:256] or None,
        ErrorCategory(category) if category in tuple(ErrorCategory) else None,
    )


async def _uses(look: Look, chosen: Chosen) -> Used:
    read, begin = look.ctx.database.read, since(days=chosen.days)
    drawn = period(chosen_zone(None, look.ctx.settings.costs.zone), now_ms(), days=max(chosen.days, DRAWN))
    return Used(
        await read(lambda reader: tools.tool_usage(reader.query, since=begin)),
        await read(lambda reader: tools.tool_durations(reader.query, since=begin, quantiles=_QUANTILES)),
        await read(lambda reader: errors.failure_rates(reader.query, "category", since=begin)),
        await read(lambda reader: errors.error_trend(reader.query, drawn)),
    )


async def _failures(look: Look, chosen: Chosen, *, kinds: int = KINDS, recent: int = RECENT) -> Failed:
    begin = since(days=chosen.days)
    return Failed(
        await look.ctx.database.read(
            lambda reader: errors.error_kinds(
                reader.query, since=begin, limit=kinds, tool=chosen.tool, category=chosen.category
            )
        ),
        await read_recent_errors(
            look.ctx, category=chosen.category, tool=chosen.tool, days=float(chosen.days), limit=recent
        ),
    )


async def _by(look: Look, chosen: Chosen) -> list[UseStats]:
    begin = since(days=chosen.days)
    return await look.ctx.database.read(lambda reader: tools.stats_by(reader.query, chosen.by, since=begin))


def _durations(found: Sequence[ToolDurations]) -> Markup:
    rows = [
        Range(one["tool_name"], one["percentiles"]["p50"], one["percentiles"]["p95"], one["max_duration"])
        for one in found[:RANGES]
    ]
    return ranges(
        "durations-chart",
        "How long calls take: median to 95th percentile, longest",
        rows,
        tell=milliseconds,
        tick=_axis,
    )


def _axis(value: float) -> str:
    """A power of ten of milliseconds."""
    return f"{value:g} ms" if value < 1000 else f"{value / 1000:,.0f} s"


def _by_category(found: Sequence[FailureRate]) -> Markup:
    rows = [Bar(one["value"].replace("_", " "), one["failures"], percent(one["share"])) for one in found]
    return bars("categories-chart", "Failed calls by category", rows, tell=number)


def _trend(daily: Sequence[DailyErrors]) -> Markup:
    days = [
        Day(one["date"], (one["rate"] or 0.0,), f"{one['failures']:,} of {count(one['calls'], 'call')}")
        for one in daily
    ]
    return columns(
        "trend-chart", "Share of calls that failed, by day", days,
        tell=percent, tick=lambda value: f"{plain(value * 100)} %", today=daily[-1]["date"],
    )  # fmt: skip


Rows = Iterable[Mapping[str, Any]]


async def _csv_tools(look: Look) -> Rows:
    used = await _uses(look, choice(look))
    timed = {one["tool_name"]: one for one in used.durations}
    rows: list[dict[str, object]] = []
    for one in used.tools:
        row: dict[str, object] = dict(one)
        if times := timed.get(one["tool_name"]):
            row |= {"timed": times["timed"], "max_duration": times["max_duration"], **times["percentiles"]}
        rows.append(row)
    return rows


async def _csv_by(look: Look) -> Rows:
    return await _by(look, choice(look))


async def _csv_categories(look: Look) -> Rows:
    return (await _uses(look, choice(look))).categories


async def _csv_daily(look: Look) -> Rows:
    return (await _uses(look, choice(look))).daily


async def _csv_kinds(look: Look) -> Rows:
    return (await _failures(look, choice(look), kinds=CSV_ROWS, recent=1)).kinds


async def _csv_recent(look: Look) -> Rows:
    found = await _failures(look, choice(look), kinds=1, recent=CSV_ROWS)
    return [one.model_dump() for one in found.recent]


PAGES = (
    Page(
        "/tools", "tools", "Tools & errors", load,
        ("figures", "used", "durations", "categories", "trend", "kinds", "recent", "callers"),
    ),
)  # fmt: skip
TABLES = (
    Table(
        "/tools.csv",
        ("tool_name", "count", "failures", "success_rate", "avg_duration", "timed", "p50", "p95", "max_duration"),
        _csv_tools,
    ),
    Table("/tools/by.csv", ("value", "calls", "failures", "error_rate", "avg_duration", "tools"), _csv_by),
    Table("/tools/categories.csv", ("value", "calls", "failures", "rate", "share"), _csv_categories),
    Table("/tools/daily.csv", ("date", "calls", "failures", "rate"), _csv_daily),
    Table(
        "/tools/kinds.csv",
        (
            "fingerprint", "tool_name", "error_category", "message", "calls", "share", "trend", "first_seen", "last_seen",
            "session_uuid",
        ),
        _csv_kinds,
    ),
    Table("/tools/recent.csv", tuple(FailedCall.model_fields), _csv_recent),
)  # fmt: skip
