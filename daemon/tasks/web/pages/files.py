"""Files: which ones agents work on, which they read again and again, and which several of them change at once."""

from collections.abc import Iterable, Mapping
from typing import Any

from tasks.analytics import files
from tasks.analytics.files import ContendedFile, FileUse
from tasks.analytics.span import since
from tasks.web.frame import Data, Look, Page
from tasks.web.kept import Kept
from tasks.web.tables import Table

DAYS = ("7", "1", "30")
#: What the address calls the orders → how the store does, and how a person does.
ORDERS: dict[str, tuple[files.Order, str]] = {
    "hot": ("accesses", "Most used"), "rereads": ("rereads", "Read again"), "contended": ("contended", "Contended"),
}  # fmt: skip
#: Rows; of contended files, each of which is asked about by itself; and of a CSV file.
ROWS, CONTENDED, CSV_ROWS = 50, 20, 1000

_used: Kept[list[FileUse]] = Kept(3.0)
_contended: Kept[list[ContendedFile]] = Kept(3.0)


async def load(look: Look) -> Data:
    days, order, project = chosen(look)
    where = look.ctx.settings.database_file
    contended = order == "contended"
    rows: list[Any]
    if contended:
        rows = await _contended.get((where, days, project), lambda: _changed(look, CONTENDED))
    else:
        rows = await _used.get((where, days, order, project), lambda: _uses(look, ROWS))
    return {
        "days": days,
        "order": order,
        "orders": ORDERS,
        "column": ORDERS[order][0],
        "project": project or "",
        "rows": rows,
        "most": max((one["accesses"] for one in rows), default=0),
        "limit": CONTENDED if contended else ROWS,
    }


def chosen(look: Look) -> tuple[int, str, str | None]:
    """Days, order, and the folder that files are to be in; None: anywhere."""
    return (
        int(look.choice("days", DAYS)),
        look.choice("order", tuple(ORDERS)),
        look.query.get("project", "")[:4096] or None,
    )


async def _uses(look: Look, limit: int) -> list[FileUse]:
    days, order, project = chosen(look)
    begin = since(days=days)
    return await look.ctx.database.read(
        lambda reader: files.file_use(reader.query, since=begin, order=ORDERS[order][0], limit=limit, project=project)
    )


async def _changed(look: Look, limit: int) -> list[ContendedFile]:
    days, _, project = chosen(look)
    begin = since(days=days)
    return await look.ctx.database.read(
        lambda reader: files.contended_files(reader.query, since=begin, limit=limit, project=project)
    )


async def _csv_uses(look: Look) -> Iterable[Mapping[str, object]]:
    return await _uses(look, CSV_ROWS)


async def _csv_contended(look: Look) -> Iterable[Mapping[str, object]]:
    """A row for each agent that changed a file."""
    return [
        {"path": one["path"], "contended": one["contended"], **agent}
        for one in await _changed(look, 200)
        for agent in one["agents"]
    ]


PAGES = (Page("/files", "files", "Files", load, ("used",)),)
TABLES = (
    Table("/files.csv", ("path", *files.COLUMNS), _csv_uses),
    Table(
        "/files/contended.csv",
        ("path", "contended", "session_uuid", "agent_id", "writes", "edits", "edited_at"),
        _csv_contended,
    ),
)
