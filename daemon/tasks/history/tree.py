"""The agents of a session as a tree: the main agent, those it started, and those that these started."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tasks.history.accounting import TOKENS
from tasks.history.records import Query, Record
from tasks.history.turns import Work

#: Subagents of one session that are told of, those that began first.
MOST_AGENTS = 1000
#: Milliseconds by which a subagent may begin before the call that started it, as hooks tell it.
SLACK = 2000

_MAIN = "SELECT status, started_at, ended_at, status_detail FROM sessions WHERE session_uuid = :session"
_SUBAGENTS = """
SELECT agent_id, agent_type, status, started_at, ended_at, detail FROM subagents WHERE session_uuid = :session
"""
_CALLS = """
SELECT agent_id, max(agent_type), count(*), sum(success = 0), total(duration_ms), min(timestamp - coalesce(duration_ms, 0)),
       max(timestamp)
FROM tool_usage WHERE session_uuid = :session AND tool_use_id IS NOT NULL GROUP BY agent_id
"""
_RUNNING = (
    "SELECT agent_id, max(agent_type), count(*) FROM tool_running WHERE session_uuid = :session GROUP BY agent_id"
)
_MESSAGES = f"""
SELECT t.agent_id, max(t.agent_type), coalesce(sum(m.cost), 0), count(*), sum(m.cost IS NULL),
       {", ".join(f"sum(m.{name})" for name in TOKENS)}, min(m.timestamp), max(m.timestamp)
FROM transcripts AS t JOIN messages AS m USING (transcript_id) WHERE t.session_uuid = :session GROUP BY t.agent_id
"""
#: What a finished call that started a subagent was answered.
_REPORTED = """
SELECT CAST(json_extract(body, '$.tool_response.agentId') AS TEXT), tool_use_id FROM events
WHERE session_uuid = :session AND kind = 'PostToolUse' AND tool_name IN ('Agent', 'Task') AND json_valid(body)
"""
_STARTING = """
SELECT tool_use_id, agent_id, timestamp - coalesce(duration_ms, 0), timestamp,
       CASE WHEN json_valid(parameters) THEN CAST(json_extract(parameters, '$.subagent_type') AS TEXT) END,
       CASE WHEN json_valid(parameters) THEN substr(CAST(json_extract(parameters, '$.description') AS TEXT), 1, 500) END
FROM tool_usage WHERE session_uuid = :session AND tool_use_id IS NOT NULL AND tool_name IN ('Agent', 'Task')
UNION ALL
SELECT tool_use_id, agent_id, started_at, NULL,
       CASE WHEN json_valid(parameters) THEN CAST(json_extract(parameters, '$.subagent_type') AS TEXT) END,
       CASE WHEN json_valid(parameters) THEN substr(CAST(json_extract(parameters, '$.description') AS TEXT), 1, 500) END
FROM tool_running WHERE session_uuid = :session AND tool_name IN ('Agent', 'Task')
ORDER BY 3 LIMIT 5000
"""


@dataclass(frozen=True, slots=True)
class _Start:
    """A call of the tool that starts subagents; `ended` None: still in flight."""

    tool_use_id: str
    by: str | None
    began: float
    ended: int | None
    agent_type: str | None
    description: str | None


@dataclass(slots=True)
class _Agent:
    agent_id: str | None
    agent_type: str | None = None
    status: str | None = None
    started_at: int | None = None
    ended_at: int | None = None
    detail: str | None = None
    first_at: int | None = None
    last_at: int | None = None
    running: int = 0
    work: Work = field(default_factory=Work)
    parent_id: str | None = None
    #: how the parent is known
    parent_by: str | None = None
    start: _Start | None = None

    @property
    def begin(self) -> int:
        known = self.first_at if self.started_at is None else self.started_at
        return known or 0

    def saw(self, first: float, last: int) -> None:
        self.first_at = int(first) if self.first_at is None else min(self.first_at, int(first))
        self.last_at = last if self.last_at is None else max(self.last_at, last)


def session_tree(query: Query, session_uuid: str) -> list[Record]:
    """The agents in the order in which a tree is printed: each followed by those it started, the first one first; `depth` of
    the main agent is 0. A parent is `reported` by the call that started it, `matched` by type and time, or `assumed` to be
    the main agent.
    """
    key = {"session": session_uuid}
    agents = _agents(query, key)
    main = agents.pop(None)
    subagents = sorted(agents.values(), key=lambda one: (one.begin, one.agent_id or ""))[:MOST_AGENTS]
    if subagents:
        starts = [_Start(*row) for row in query(_STARTING, key)]
        reported = {str(child): use for child, use in query(_REPORTED, key) if child}
        _place(subagents, starts, reported)
    children: dict[str | None, list[_Agent]] = {}
    for one in subagents:
        children.setdefault(one.parent_id, []).append(one)
    return [_described(one, depth, len(children.get(one.agent_id, ()))) for one, depth in _walk(main, children)]


def _agents(query: Query, key: Record) -> dict[str | None, _Agent]:
    status, started_at, ended_at, detail = query(_MAIN, key)[0]
    found: dict[str | None, _Agent] = {None: _Agent(None, None, status, started_at, ended_at, detail)}
    for agent_id, *fields in query(_SUBAGENTS, key):
        found[agent_id] = _Agent(agent_id, *fields)
    for agent_id, agent_type, calls, failed, duration, first, last in query(_CALLS, key):
        one = found.setdefault(agent_id, _Agent(agent_id))
        one.agent_type = one.agent_type or agent_type
        one.work.add(Work(calls, failed, duration))
        one.saw(first, last)
    for agent_id, agent_type, running in query(_RUNNING, key):
        one = found.setdefault(agent_id, _Agent(agent_id))
        one.agent_type = one.agent_type or agent_type
        one.running = running
    for agent_id, agent_type, cost, messages, unpriced, *tokens, first, last in query(_MESSAGES, key):
        one = found.setdefault(agent_id, _Agent(agent_id))
        one.agent_type = one.agent_type or (agent_type if agent_id is not None else None)
        one.work.add(Work(cost=cost, messages=messages, unpriced=unpriced, tokens=tuple(tokens)))
        one.saw(first, last)
    return found


def _place(subagents: list[_Agent], starts: list[_Start], reported: dict[str, str]) -> None:
    """Give every subagent its parent and the call that started it, as far as they are known."""
    known = {one.agent_id: one for one in subagents}
    by_use = {start.tool_use_id: start for start in starts}
    free = {start.tool_use_id for start in starts} - set(reported.values())
    for one in subagents:
        start = by_use.get(reported.get(one.agent_id or "", ""))
        how = "reported"
        if start is None:
            fitting = [by_use[use] for use in free if _fits(by_use[use], one)]
            start, how = max(fitting, key=lambda start: start.began, default=None), "matched"
        one.parent_by = "assumed"
        if start is not None:
            free.discard(start.tool_use_id)
            one.start = start
            if start.by is None or (start.by in known and not _is_below(known, start.by, one.agent_id)):
                one.parent_id, one.parent_by = start.by, how


def _fits(start: _Start, one: _Agent) -> bool:
    same = not start.agent_type or not one.agent_type or start.agent_type == one.agent_type
    begun = one.started_at is not None and start.began - SLACK <= one.started_at
    return same and begun and (start.ended is None or (one.started_at or 0) <= start.ended) and start.by != one.agent_id


def _is_below(known: dict[str | None, _Agent], agent_id: str | None, top: str | None) -> bool:
    """Whether `agent_id` is `top`, or was started by it: then it cannot be its parent."""
    while agent_id is not None:
        if agent_id == top:
            return True
        agent_id = known[agent_id].parent_id
    return False


def _walk(main: _Agent, children: dict[str | None, list[_Agent]]) -> Iterator[tuple[_Agent, int]]:
    waiting = [(main, 0)]
    while waiting:
        one, depth = waiting.pop()
        yield one, depth
        waiting.extend((child, depth + 1) for child in reversed(children.get(one.agent_id, ())))


def _described(one: _Agent, depth: int, children: int) -> Record:
    return {
        "agent_id": one.agent_id,
        "parent_id": one.parent_id,
        "parent_by": one.parent_by,
        "depth": depth,
        "children": children,
        "agent_type": one.agent_type or None,
        "status": one.status,
        "detail": one.detail,
        "description": None if one.start is None else one.start.description,
        "tool_use_id": None if one.start is None else one.start.tool_use_id,
        "started_at": one.first_at if one.started_at is None else one.started_at,
        "ended_at": one.ended_at,
        "last_at": one.last_at,
        "running": one.running,
        **one.work.record(),
    }
