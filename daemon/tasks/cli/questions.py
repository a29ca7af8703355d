"""What the readers ask and how the answers are shown: one description for the quick path, for click and for the fallback."""

from __future__ import annotations

import os

from tasks.cli import views
from tasks.client import quote, target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from tasks.cli.page import Block


#: Rows that lists have when nothing else is asked for.
LIMIT = "50"
#: Most sessions, and tasks, that the API gives at once.
ALL_SESSIONS = 1000


class Question:
    """What to ask the API, and how to show its answer."""

    __slots__ = ("name", "show", "target", "values")

    def __init__(self, name: str, target: str, show: Callable[[Any, int], Sequence[Block]], **values: Any) -> None:
        self.name = name
        self.target = target
        #: (answer, now in epoch milliseconds) → page
        self.show = show
        #: what was asked for, for who answers from the file
        self.values = values

    def note(self, answer: Any) -> str | None:
        """What to say about an answer that may not be all there is."""
        shown = len(answer) if self.name in ("sessions", "tasks") else 0
        if not shown or shown < self.values["limit"] or shown >= ALL_SESSIONS:
            return None
        options = "--limit or --all" if self.name == "sessions" else "--limit"
        return f"{shown} {self.name[:-1]}{'s' * (shown > 1)} shown, {options} shows more"


def status() -> Question:
    from tasks.cli import overview

    return Question("status", "/v1/status", overview.status)


def tasks(
    *, statuses: Sequence[str] = (), live: bool = False, workflow: str | None = None, limit: str = LIMIT
) -> Question:
    from tasks.cli import taskviews

    where = target("/v1/tasks", live=live or None, workflow=workflow, limit=limit)
    where += "".join(f"&status={quote(one)}" for one in statuses)
    return Question(
        "tasks", where, taskviews.tasks, statuses=list(statuses), live=live, workflow=workflow, limit=int(limit)
    )


def sessions(*, live: bool = False, limit: str = LIMIT) -> Question:
    where = target("/v1/sessions", live=live or None, limit=limit)
    return Question("sessions", where, views.sessions, live=live, limit=int(limit))


def tools(*, hours: str = "24") -> Question:
    return Question(
        "tools", target("/v1/tools", hours=hours), lambda answer, _: views.tools(answer, hours), hours=float(hours)
    )


def errors(*, days: str = "7") -> Question:
    return Question(
        "errors", target("/v1/errors", days=days), lambda answer, _: views.errors(answer, days), days=float(days)
    )


def failures(
    *, days: str | None = None, category: str | None = None, tool: str | None = None, limit: str = LIMIT
) -> Question:
    return Question(
        "failures",
        target("/v1/errors/recent", days=days, category=category, tool=tool, limit=limit),
        views.failures,
        days=None if days is None else float(days),
        category=category,
        tool=tool,
        limit=int(limit),
    )


def events(
    *, session: str | None = None, kind: str | None = None, after: str | None = None, limit: str = LIMIT
) -> Question:
    return Question(
        "events",
        target("/v1/events", session=session, kind=kind, after=after, limit=limit),
        lambda answer, _: views.events(answer),
        session=session,
        kind=kind,
        after=None if after is None else int(after),
        limit=int(limit),
    )


def costs(
    *,
    by: str | None = None,
    days: str | None = None,
    since: str | None = None,
    until: str | None = None,
    zone: str | None = None,
    limit: str | None = None,
) -> Question:
    from tasks.cli import costviews

    # The daemon's environment may be another one.
    zone = zone or os.environ.get("TASKSD_COSTS_ZONE") or None
    where, show = (f"/v1/costs/by/{by}", costviews.divided) if by else ("/v1/costs", costviews.overview)
    asked = {"since": since, "until": until, "zone": zone}
    most = (limit or LIMIT) if by else None
    return Question(
        "costs",
        target(where, days=days, **asked, limit=most),
        show,
        by=by,
        days=None if days is None else int(days),
        limit=None if most is None else int(most),
        **asked,
    )
