"""Pool: who is at work, who is next and why not yet, what the limits are, and how quickly work gets done."""

import json
import time
from collections import Counter
from collections.abc import Sequence

from tasks.analytics.tasks import TaskStats, task_stats
from tasks.api.pool import read_pool
from tasks.api.tasks import ListedTask, list_tasks
from tasks.config import Settings
from tasks.database import Reader
from tasks.history.work import SHORT
from tasks.rollups import DAY
from tasks.web.frame import Data, Look, Page
from tasks.web.kept import Kept
from tasks.web.tables import Table
from tasks.words import TaskStatus

#: Rows of one table.
MOST = 50
#: Agents at work that are shown.
MOST_AT_WORK = 200

_stats: Kept[tuple[TaskStats, TaskStats]] = Kept(5.0)

_NAMES = f"""
SELECT task_id, substr(description, 1, {SHORT}), workspace, agent_type, created_at FROM tasks
WHERE task_id IN (SELECT value FROM json_each(:ids))
"""


async def load(look: Look) -> Data:
    ctx = look.ctx
    if ctx.dispatcher is None:
        return {"pool": None}
    pool = await read_pool(ctx)
    at_work = await list_tasks(ctx, status=[TaskStatus.RUNNING], limit=MOST_AT_WORK)
    waiting, held = pool.waiting[:MOST], pool.held[:MOST]
    ids = [one.task_id for one in waiting] + [one.task_id for one in held]
    return {
        "pool": pool,
        "at_work": sorted(at_work, key=lambda one: (one.started_at or 0, one.task_id)),
        "waiting": waiting,
        "held": held,
        "named": await ctx.database.read(lambda reader: _named(reader, ids)),
        "limits": _limits(ctx.settings, at_work),
        "settings": ctx.settings.pool,
        "spans": await _stats.get(id(ctx), lambda: _throughput(look)),
    }


def _named(reader: Reader, ids: Sequence[str]) -> dict[str, dict[str, object]]:
    """What is said of tasks in a line: id → description, workspace, type of agent, when it was handed over."""
    fields = ("description", "workspace", "agent_type", "created_at")
    rows = reader.query(_NAMES, {"ids": json.dumps(ids)})
    found = {id_: dict(zip(fields, rest, strict=True)) for id_, *rest in rows}
    nothing = dict.fromkeys(fields)
    return {id_: found.get(id_, nothing) for id_ in ids}  # one may be purged meanwhile


def _limits(settings: Settings, at_work: Sequence[ListedTask]) -> list[tuple[str, str, int, int]]:
    """Limits besides that of the pool: what for, name, agents at work, at most."""
    types = Counter(one.agent_type or "" for one in at_work)
    rows = [
        ("type of agent", name, types[name], one.max_agents)
        for name, one in sorted(settings.agent.types.items())
        if one.max_agents
    ]
    if most := settings.pool.per_workspace:
        workspaces = Counter(one.workspace or "" for one in at_work)
        rows += [("workspace", name, count, most) for name, count in workspaces.most_common(MOST)]
    return rows


async def _throughput(look: Look) -> tuple[TaskStats, TaskStats]:
    """Of the tasks handed over in the last 24 hours, and in the last 7 days."""
    now = time.time_ns() // 1_000_000
    return await look.ctx.database.read(
        lambda reader: (
            task_stats(reader.query, since=now - DAY),
            task_stats(reader.query, since=now - 7 * DAY),
        )
    )


PAGES = (Page("/pool", "pool", "Pool", load, ("figures", "valve", "work", "queue", "held", "limits", "throughput")),)
TABLES: tuple[Table, ...] = ()
