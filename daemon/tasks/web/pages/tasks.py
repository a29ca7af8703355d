"""Tasks: the list, handing over work, and clearing away what finished work left behind."""

from tasks import history
from tasks.api.tasks import CleanOrder, clean_tasks, list_tasks
from tasks.history import DAY, Record
from tasks.web.frame import Data, Look, Page
from tasks.web.kept import Kept
from tasks.web.links import linker
from tasks.web.tables import Table
from tasks.words import Role, TaskPriority, TaskStatus

#: Rows of one page.
ROWS = 50
#: Days since the end of a task, to choose from when cleaning.
AGES = (30, 7, 1, 0, 90)
#: Lines of what cleaning would do.
CLEANED = 300

_STATUSES = ("", "live", *map(str, TaskStatus))

_seen: Kept[Record] = Kept(15.0)


async def load(look: Look) -> Data:
    ctx, query = look.ctx, look.query
    status = look.choice("status", _STATUSES)
    chosen = {name: query.get(name) or None for name in ("workflow", "agent_type", "workspace", "before")}
    tasks = await list_tasks(
        ctx,
        status=[TaskStatus(status)] if status not in ("", "live") else None,
        live=status == "live",
        user=None,
        since=None,
        limit=ROWS,
        **chosen,
    )
    ids = [one.task_id for one in tasks]
    spent = await ctx.database.read(lambda reader: history.spent_by(reader.query, "task", ids))
    seen = await _seen.get(id(ctx), lambda: ctx.database.read(lambda reader: history.seen(reader.query)))
    types = {*ctx.settings.agent.types, *ctx.settings.enforcement.types, *seen["agent_types"]}
    return {
        "tasks": tasks,
        "more": len(tasks) == ROWS,
        "costs": {one.task_id: cost_of(one.cost_usd, spent.get(one.task_id)) for one in tasks},
        "status": status,
        "statuses": _STATUSES[2:],
        "chosen": chosen,
        "filtered": bool(status or any(chosen.values())),
        "priorities": [one.name.lower() for one in (TaskPriority.NORMAL, TaskPriority.HIGH, TaskPriority.LOW)],
        "seen": seen | {"agent_types": sorted(types), "places": places(seen)},
        "takes_tasks": ctx.dispatcher is not None,
        "to": linker(query),
    }


def cost_of(reported: float | None, ours: Record | None) -> float | None:
    """Dollars: what the client said in the end; until then what its transcripts tell."""
    return reported if reported is not None else ours["cost"] if ours else None


def places(seen: Record) -> list[str]:
    """Folders that work may be handed over for."""
    return list(dict.fromkeys([*seen["workspaces"], *seen["folders"]]))


async def load_clean(look: Look) -> Data:
    """What would be removed; nothing is."""
    days = int(look.choice("days", tuple(map(str, AGES))))
    found = await clean_tasks(look.ctx, CleanOrder(older_than_ms=days * DAY, dry_run=True))
    return {
        "days": days,
        "ages": sorted(AGES),
        "older_than_ms": days * DAY,
        "removable": [one for one in found if one.removed],
        "kept": [one for one in found if not one.removed],
        "most": CLEANED,
    }


PAGES = (
    Page("/tasks", "tasks", "Tasks", load, ("rows",)),
    Page("/tasks/clean", "clean", "Clear away", load_clean, (), role=Role.OPERATOR, menu="tasks", live=False),
)
TABLES: tuple[Table, ...] = ()
