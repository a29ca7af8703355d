"""Now: who waits for a person, what every agent does this second, what it costs today, how the daemon is."""

import time
from collections.abc import Mapping, Sequence

from tasks import history
from tasks.analytics import error_rates
from tasks.analytics.days import chosen_zone, period
from tasks.analytics.hours import HourOfCalls, calls_by_hour
from tasks.analytics.spending import CostSummary, cost_summary
from tasks.api.pool import Pool, WaitingTask, read_pool
from tasks.api.sessions import Session, list_sessions
from tasks.api.status import read_status
from tasks.api.tasks import ListedTask, list_tasks
from tasks.history.attention import attention
from tasks.rollups import DAY
from tasks.web.charts import sparkline
from tasks.web.frame import Data, Look, Page
from tasks.web.kept import Kept
from tasks.web.tables import Table
from tasks.words import SessionStatus, TaskStatus

#: Rows of one table.
MOST = 60
#: Finished tasks that are still shown.
RECENT = 8
#: Sessions in these wait for a person.
_WAITING = (SessionStatus.WAITING_PERMISSION, SessionStatus.WAITING_INPUT)

_money: Kept[CostSummary] = Kept(5.0)
_failures: Kept[dict[str, int]] = Kept(5.0)
_hours: Kept[list[HourOfCalls]] = Kept(5.0)


async def load(look: Look) -> Data:
    ctx, now = look.ctx, time.time_ns() // 1_000_000
    sessions = await list_sessions(ctx, live=True, limit=200)
    tasks = await list_tasks(ctx, live=True, limit=200)
    recent = await ctx.database.read(lambda reader: history.ended(reader.query, since=now - 7 * DAY, limit=RECENT))
    for_people = await ctx.database.read(lambda reader: attention(reader.query, now=now))
    status = await read_status(ctx)
    pool = await read_pool(ctx) if ctx.dispatcher is not None else None
    places = _places(pool)
    hours = await _hours.get(id(ctx), lambda: _called(look, now))
    return {
        "status": status,
        "pool": pool,
        "places": places,
        "waiting": [one for one in sessions if one.status in _WAITING],
        "for_people": for_people,
        "sessions": sorted(sessions, key=_urgency)[:MOST],
        "tasks": _in_order(tasks, places)[:MOST],
        "more": {"sessions": max(len(sessions) - MOST, 0), "tasks": max(len(tasks) - MOST, 0)},
        "recent": recent,
        "money": await _money.get(id(ctx), lambda: _spent(look, now)),
        "failures": await _failures.get(id(ctx), lambda: _failed(look, now)),
        "hours": hours,
        "spark": sparkline("hourly", "Calls in each of the last 24 hours", [one["calls"] for one in hours]),
        "is_new": not (sessions or tasks or recent or status.ingest.events_total or status.accounting.messages),
    }


def _places(pool: Pool | None) -> dict[str, WaitingTask]:
    """Task → its place in the line."""
    return {one.task_id: one for one in pool.waiting} if pool is not None else {}


def _in_order(tasks: Sequence[ListedTask], places: Mapping[str, WaitingTask]) -> list[ListedTask]:
    """Those at work, the longest first, then those in line, the next first, then those that something holds."""

    def rank(one: ListedTask) -> tuple[int, int]:
        if one.status == TaskStatus.RUNNING:
            return 0, one.started_at or 0
        place = places.get(one.task_id)
        return (1, place.position) if place else (2, one.created_at)

    return sorted(tasks, key=rank)


def _urgency(one: Session) -> tuple[int, int]:
    return (0 if one.status in _WAITING else 1 if one.running or one.status == "working" else 2, -one.last_event_at)


async def _spent(look: Look, now: int) -> CostSummary:
    costs = look.ctx.settings.costs
    week = period(chosen_zone(None, costs.zone), now, days=7)
    return await look.ctx.database.read(
        lambda reader: cost_summary(reader.query, week, now=now, drift_limit=costs.drift)
    )


async def _failed(look: Look, now: int) -> dict[str, int]:
    return await look.ctx.database.read(lambda reader: error_rates(reader.query, since=now - DAY))


async def _called(look: Look, now: int) -> list[HourOfCalls]:
    return await look.ctx.database.read(lambda reader: calls_by_hour(reader.query, now=now))


async def _hourly(look: Look) -> list[HourOfCalls]:
    return await _called(look, time.time_ns() // 1_000_000)


PAGES = (Page("/", "now", "Now", load, ("figures", "attention", "tasks", "sessions", "recent", "calls", "health")),)
TABLES = (Table("/hours.csv", ("start", "calls", "failures"), _hourly),)
