"""One session: what it does now, what was asked and what was done for it, its subagents, what it cost."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tasks.analytics.files import session_files
from tasks.api.calls import Call, list_session_calls
from tasks.api.sessions import SessionDetails, read_session
from tasks.api.turns import TreeAgent, list_turns, read_tree
from tasks.web.frame import Data, Look, Page
from tasks.web.kept import Kept
from tasks.web.links import linker
from tasks.web.strips import spans, strip
from tasks.web.tables import Table
from tasks.words import SessionStatus

#: Turns and calls of one page; calls that are shown with their turns, of all and of each.
TURNS, CALLS, RECENT, OF_A_TURN = 25, 50, 120, 15
#: Subagents, levels of them, changes of status, files.
AGENTS, LEVELS, CHANGES, FILES = 200, 12, 80, 25
#: Changes of status that are told of at most.
_ALL_CHANGES = 1000
#: Milliseconds by which the present state of a session grows.
_STEP = 10_000

_VIEW_NAMES = ("turns", "calls", "agents", "status")

_files: Kept[list[dict[str, object]]] = Kept(3.0)


@dataclass(frozen=True, slots=True)
class Branch:
    """One agent in a tree that is printed from above: lists begin before it, or end before it."""

    agent: TreeAgent
    opens: bool
    closes: int


async def load(look: Look) -> Data:
    ctx = look.ctx
    session = await read_session(ctx, look.path["session_uuid"])
    view = look.choice("view", _VIEW_NAMES)
    is_over = SessionStatus(session.status).is_over
    return {
        "session": session,
        # Where its paths begin.
        "inside": f"{session.cwd}/" if session.cwd else "",
        "went_on": _successor(session),
        "is_over": is_over,
        "views": _VIEW_NAMES,
        "view": view,
        "strip": strip(session.changes, since=session.started_at, until=_until(session)),
        "files": await _files.get((id(ctx), session.session_uuid), lambda: _used(look, session.session_uuid)),
        "to": linker(look.query),
    } | await _VIEWS[view](look, session)


def _until(session: SessionDetails) -> int:
    """When what is known of its states ends."""
    if len(session.changes) >= _ALL_CHANGES:
        return session.changes[-1].timestamp
    if session.ended_at is not None:
        return session.ended_at
    if SessionStatus(session.status).is_over:
        return session.last_event_at
    # It is in its state still; to the last ten seconds, so that what is shown stays the same for a while.
    return max(session.last_event_at, time.time_ns() // 1_000_000 // _STEP * _STEP)


async def _states(look: Look) -> list[dict[str, object]]:
    session = await read_session(look.ctx, look.path["session_uuid"])
    found = spans(session.changes, since=session.started_at, until=_until(session))
    return [{"status": status, "began": began, "ended": ended, "ms": ended - began} for status, began, ended in found]


def _successor(session: SessionDetails) -> str | None:
    """The session that this one went on as."""
    last = next((one for one in reversed(session.changes) if one.agent_id is None), None)
    return last.detail if last is not None and last.cause in ("forked", "cleared") else None


async def _used(look: Look, session_uuid: str) -> list[dict[str, object]]:
    found = await look.ctx.database.read(lambda reader: session_files(reader.query, session_uuid, limit=FILES + 1))
    return [dict(one) for one in found]


async def _turns(look: Look, session: SessionDetails) -> Data:
    before = look.number("before", 0, most=1 << 40) or None
    turns = await list_turns(look.ctx, session.session_uuid, before=before, limit=TURNS)
    latest = await _calls_of(look, session, None, None, RECENT) if before is None else []
    calls: dict[str | None, list[Call]] = {}
    for one in latest:
        calls.setdefault(one.prompt_id, []).append(one)
    return {
        "turns": turns,
        "turn_calls": {key: found[:OF_A_TURN] for key, found in calls.items()},
        "more": len(turns) == TURNS and turns[-1].number > 1,
        "is_older": before is not None,
    }


async def _calls(look: Look, session: SessionDetails) -> Data:
    before = look.number("before", 0, most=1 << 62) or None
    agent, prompt = look.query.get("agent"), look.query.get("prompt")
    calls = await _calls_of(look, session, agent, prompt, CALLS, before)
    return {
        "calls": calls,
        "agent": agent,
        "prompt": prompt,
        "more": len(calls) == CALLS,
        "is_older": before is not None,
    }


async def _calls_of(
    look: Look, session: SessionDetails, agent: str | None, prompt: str | None, limit: int, before: int | None = None
) -> list[Call]:
    return await list_session_calls(
        look.ctx, session.session_uuid, agent=agent, prompt=prompt, before=before, limit=limit
    )


async def _agents(look: Look, session: SessionDetails) -> Data:
    found = await read_tree(look.ctx, session.session_uuid)
    tree, depth = branches(found[:AGENTS])
    return {"tree": tree, "depth": depth, "more_agents": max(0, len(found) - AGENTS)}


def branches(agents: Sequence[TreeAgent]) -> tuple[list[Branch], int]:
    """The tree for printing, no deeper than LEVELS, and the depth of the last one: how many lists are open in the end."""
    found: list[Branch] = []
    last = -1
    for one in agents:
        depth = min(one.depth, LEVELS)
        found.append(Branch(one, depth > last, max(0, last - depth)))
        last = depth
    return found, last


async def _status(look: Look, session: SessionDetails) -> Data:
    return {"changes": session.changes[-CHANGES:][::-1], "more_changes": max(0, len(session.changes) - CHANGES)}


_VIEWS: dict[str, Callable[[Look, SessionDetails], Awaitable[Data]]] = {
    "turns": _turns,
    "calls": _calls,
    "agents": _agents,
    "status": _status,
}

PAGES = (
    Page(
        "/sessions/{session_uuid}", "session", "Session", load, ("head", "running", "view", "facts", "money", "work"),
        menu="sessions",
    ),
)  # fmt: skip
TABLES = (Table("/sessions/{session_uuid}/states.csv", ("status", "began", "ended", "ms"), _states),)
