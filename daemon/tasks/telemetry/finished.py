"""What has finished since the last push: read from the store behind cursors, so that a restart repeats and loses nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tasks.database import Row
from tasks.words import SessionStatus

Query = Callable[[str, Mapping[str, Any]], list[Row]]

#: Milliseconds that a row gets to be completed: by a stronger source, by the transcript's tokens.
SETTLING = 15_000
#: Rows of one kind in one push.
LIMIT = 500

_OVER = tuple(str(status) for status in SessionStatus if status.is_over)
_TURN_ENDS = ("Stop", "StopFailure")

_CALLS = f"""
SELECT id, timestamp, session_uuid, task_id, agent_id, prompt_id, tool_use_id, tool_name, success, error_category, duration_ms,
       model
FROM tool_usage WHERE id > :after ORDER BY id LIMIT {LIMIT}
"""

_EVENTS = f"""
SELECT seq, timestamp, session_uuid, kind, task_id, agent_id, prompt_id
FROM events WHERE seq > :after ORDER BY seq LIMIT {LIMIT}
"""

_TURN_BEGAN = """
SELECT timestamp FROM events
WHERE session_uuid = :session AND seq < :seq AND kind = 'UserPromptSubmit' AND prompt_id IS :prompt
ORDER BY seq DESC LIMIT 1
"""

_SUBAGENT = """
SELECT agent_type, started_at, ended_at, status FROM subagents WHERE session_uuid = :session AND agent_id = :agent
"""

_TURN_USAGE = """
SELECT model, sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
       sum(cache_write_5m_tokens + cache_write_1h_tokens), sum(cost), sum(cost IS NULL)
FROM transcripts JOIN messages USING (transcript_id)
WHERE session_uuid = :session AND messages.prompt_id = :prompt AND (:agent IS NULL OR agent_id = :agent)
GROUP BY model ORDER BY sum(output_tokens) DESC, model
"""

_SESSION_USAGE = """
SELECT model, sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
       sum(cache_write_5m_tokens + cache_write_1h_tokens), sum(cost), sum(unpriced)
FROM cost_rollup WHERE dimension = 'session' AND value = :session AND grain = 86400000
GROUP BY model ORDER BY sum(output_tokens) DESC, model
"""

_ENDS = f"""
SELECT id, timestamp, session_uuid, status FROM agent_status
WHERE id > :after AND agent_id IS NULL ORDER BY id LIMIT {LIMIT}
"""

_SESSION = "SELECT task_id, started_at, origin, model FROM sessions WHERE session_uuid = :session"


@dataclass(frozen=True, slots=True)
class Cursors:
    """The newest rows that were pushed."""

    calls: int
    events: int
    changes: int

    @classmethod
    def newest(cls, query: Query) -> "Cursors":
        """What happens from now on: history is not pushed."""
        row = query(
            "SELECT (SELECT max(id) FROM tool_usage), (SELECT max(seq) FROM events), (SELECT max(id) FROM agent_status)",
            {},
        )[0]
        return cls(*(one or 0 for one in row))

    def within(self, newest: "Cursors") -> "Cursors":
        """The ids of purged rows are given again."""
        return Cursors(
            *(min(own, other) for own, other in zip(asdict(self).values(), asdict(newest).values(), strict=True))
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and money; `cost` in picodollars, None: something in it has no price."""

    model: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost: int | None


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call; times in epoch milliseconds, `began` is `ended` when its duration is not known."""

    key: str
    began: float
    ended: int
    session_uuid: str | None
    task_id: str | None
    agent_id: str | None
    prompt_id: str | None
    tool_use_id: str | None
    tool_name: str
    error_category: str | None
    model: str | None


@dataclass(frozen=True, slots=True)
class Turn:
    """From a prompt to the end of the answer; of a subagent (`agent_id`) from its start to its end."""

    session_uuid: str
    task_id: str | None
    agent_id: str | None
    agent_type: str | None
    prompt_id: str | None
    began: int
    ended: int
    failed: bool
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class Session:
    session_uuid: str
    task_id: str | None
    origin: str | None
    status: str
    began: int
    ended: int
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class Finished:
    calls: Sequence[Call]
    turns: Sequence[Turn]
    sessions: Sequence[Session]
    #: to be stored once these are pushed
    cursors: Cursors


def finished(query: Query, after: Cursors, now: int) -> Finished:
    """What finished behind `after` and has settled by `now` (epoch milliseconds), up to a few hundred of each kind."""
    after = after.within(Cursors.newest(query))
    calls = _settled(query(_CALLS, {"after": after.calls}), now)
    events = _settled(query(_EVENTS, {"after": after.events}), now)
    changes = _settled(query(_ENDS, {"after": after.changes}), now)
    turns = [turn for row in events if (turn := _turn(query, row)) is not None]
    sessions = [one for row in changes if row[3] in _OVER and (one := _session(query, row)) is not None]
    cursors = after
    for name, rows in (("calls", calls), ("events", events), ("changes", changes)):
        if rows:
            cursors = replace(cursors, **{name: rows[-1][0]})
    return Finished([_call(row) for row in calls], turns, sessions, cursors)


def _settled(rows: list[Row], now: int) -> list[Row]:
    """The beginning of `rows` up to the first that is too young. One from the future (a clock was set) waits for nobody."""
    for number, row in enumerate(rows):
        if now - SETTLING < row[1] <= now:
            return rows[:number]
    return rows


def _call(row: Row) -> Call:
    id_, at, session, task, agent, prompt, use, tool, success, category, duration, model = row
    return Call(
        key=f"{session}/{use}" if use else f"call/{id_}",
        began=at - (duration or 0.0),
        ended=at,
        session_uuid=session,
        task_id=task,
        agent_id=agent,
        prompt_id=prompt,
        tool_use_id=use,
        tool_name=tool,
        error_category=None if success else category,
        model=model,
    )


def _turn(query: Query, row: Row) -> Turn | None:
    seq, at, session, kind, task, agent, prompt = row
    if agent is not None and (kind == "SubagentStop" or kind in _TURN_ENDS):
        found = query(_SUBAGENT, {"session": session, "agent": agent})
        agent_type, began, _, _ = found[0] if found else (None, None, None, None)
    elif agent is None and kind in _TURN_ENDS:
        found = query(_TURN_BEGAN, {"session": session, "seq": seq, "prompt": prompt})
        agent_type, began = None, found[0][0] if found else None
    else:
        return None
    usage = query(_TURN_USAGE, {"session": session, "prompt": prompt, "agent": agent})
    return Turn(
        session_uuid=session,
        task_id=task,
        agent_id=agent,
        agent_type=agent_type,
        prompt_id=prompt,
        began=min(began, at) if began is not None else at,
        ended=at,
        failed=kind == "StopFailure",
        usage=_sum(usage),
    )


def _session(query: Query, row: Row) -> Session | None:
    _, at, session, status = row
    if not (found := query(_SESSION, {"session": session})):
        return None
    task, began, origin, _ = found[0]
    usage = _sum(query(_SESSION_USAGE, {"session": session}))
    return Session(session, task, origin, status, min(began, at), at, usage)


def _sum(rows: list[Row]) -> Usage | None:
    """All models together, under the name of the one that wrote most."""
    if not rows:
        return None
    unpriced = sum(row[6] for row in rows)
    return Usage(
        model=rows[0][0],
        input_tokens=sum(row[1] for row in rows),
        output_tokens=sum(row[2] for row in rows),
        cache_read_tokens=sum(row[3] for row in rows),
        cache_write_tokens=sum(row[4] for row in rows),
        cost=None if unpriced else sum(row[5] for row in rows),
    )
