"""Sessions: those that are open first, then those that are over."""

from tasks import history
from tasks.api.sessions import Session, list_sessions
from tasks.web.frame import Data, Look, Page
from tasks.web.links import linker
from tasks.web.tables import Table
from tasks.words import SessionStatus

#: Rows of one page, and open sessions that stand before them.
ROWS, OPEN = 50, 100

_STATUSES = ("", "live", *map(str, SessionStatus))
_OVER = [one for one in SessionStatus if one.is_over]
#: Sessions in these wait for a person.
_WAITING = (SessionStatus.WAITING_PERMISSION, SessionStatus.WAITING_INPUT)


async def load(look: Look) -> Data:
    ctx = look.ctx
    status, before = look.choice("status", _STATUSES), look.query.get("before") or None
    live: list[Session] = []
    if status == "" and before is None:
        live = await list_sessions(ctx, status=None, live=True, before=None, limit=OPEN)
    only = [SessionStatus(status)] if status not in ("", "live") else _OVER if status == "" else None
    rest = await list_sessions(ctx, status=only, live=status == "live", before=before, limit=ROWS)
    sessions = [*sorted(live, key=_urgency), *rest]
    ids = [one.session_uuid for one in sessions]
    return {
        "sessions": sessions,
        "more": len(rest) == ROWS,
        "last": rest[-1].session_uuid if rest else None,
        "costs": await ctx.database.read(lambda reader: history.spent_by(reader.query, "session", ids)),
        "status": status,
        "statuses": _STATUSES[2:],
        "before": before,
        "to": linker(look.query),
    }


def _urgency(one: Session) -> tuple[bool, int]:
    return (one.status not in _WAITING, -one.last_event_at)


PAGES = (Page("/sessions", "sessions", "Sessions", load, ("rows",)),)
TABLES: tuple[Table, ...] = ()
