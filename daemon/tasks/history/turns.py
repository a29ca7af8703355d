"""A session as turns: what was asked, and what its agents did, used and cost until they were done with it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from tasks.history.accounting import TOKENS
from tasks.history.records import Query, Record
from tasks.words import SessionStatus

#: Characters of a prompt.
LONGEST_PROMPT = 8000
#: Characters of the JSON around a prompt, beyond which nothing is given of it.
READABLE = 4 << 20
#: Subagents of one turn that are named, those with most calls.
MOST_AGENTS = 50
#: Prompts, ends and starts of subagents that are looked at, the newest.
MOST_MARKS = 100_000

#: Beginning of a prompt that the client wrote itself when background work finished.
NOTIFICATION = "<task-notification>"

_MARKS = f"""
SELECT seq, timestamp, kind, prompt_id, agent_id FROM events
WHERE session_uuid = :session AND kind IN ('UserPromptSubmit', 'Stop', 'StopFailure', 'SubagentStart')
ORDER BY seq DESC LIMIT {MOST_MARKS}
"""
_CALLS = """
SELECT prompt_id, agent_id, count(*), sum(success = 0), total(duration_ms), min(timestamp - coalesce(duration_ms, 0)),
       max(timestamp)
FROM tool_usage WHERE session_uuid = :session AND tool_use_id IS NOT NULL GROUP BY prompt_id, agent_id
"""
_MESSAGES = f"""
SELECT m.prompt_id, t.agent_id, coalesce(sum(m.cost), 0), count(*), sum(m.cost IS NULL),
       {", ".join(f"sum(m.{name})" for name in TOKENS)}, min(m.timestamp), max(m.timestamp)
FROM transcripts AS t JOIN messages AS m USING (transcript_id)
WHERE t.session_uuid = :session GROUP BY m.prompt_id, t.agent_id
"""
_PROMPT = f"""
SELECT substr(prompt, 1, {LONGEST_PROMPT}), length(prompt) > {LONGEST_PROMPT}
FROM (SELECT CASE WHEN length(body) <= {READABLE} AND json_valid(body)
                  THEN CAST(json_extract(body, '$.prompt') AS TEXT) END AS prompt
      FROM events WHERE seq = :seq)
"""


@dataclass(slots=True)
class Work:
    """What agents did: calls, and answers of the API. `cost` in picodollars."""

    calls: int = 0
    failed: int = 0
    duration_ms: float = 0.0
    cost: int = 0
    messages: int = 0
    unpriced: int = 0
    tokens: tuple[int, ...] = (0,) * len(TOKENS)

    def add(self, other: "Work") -> None:
        self.calls += other.calls
        self.failed += other.failed
        self.duration_ms += other.duration_ms
        self.cost += other.cost
        self.messages += other.messages
        self.unpriced += other.unpriced
        self.tokens = tuple(map(int.__add__, self.tokens, other.tokens))

    def record(self) -> Record:
        spent = {"cost": self.cost / 1e12, "messages": self.messages, "unpriced": self.unpriced}
        return {
            "calls": self.calls,
            "failed": self.failed,
            "duration_ms": self.duration_ms,
            "spent": spent | dict(zip(TOKENS, self.tokens, strict=True)),
        }


@dataclass(slots=True)
class _Turn:
    prompt_id: str | None
    seq: int | None = None
    prompted_at: int | None = None
    ended_at: int | None = None
    failed: bool = False
    first_at: int | None = None
    last_at: int | None = None
    work: Work = field(default_factory=Work)
    agents: dict[str, Work] = field(default_factory=dict)

    @property
    def started_at(self) -> int:
        return next((at for at in (self.prompted_at, self.first_at, self.ended_at) if at is not None), 0)

    def saw(self, *moments: float | None) -> None:
        known = [int(at) for at in moments if at is not None]
        self.first_at = min([*known, *([] if self.first_at is None else [self.first_at])], default=None)
        self.last_at = max([*known, *([] if self.last_at is None else [self.last_at])], default=None)

    def did(self, agent_id: str | None, work: Work) -> None:
        self.work.add(work)
        if agent_id is not None:
            self.agents.setdefault(agent_id, Work()).add(work)


def session_turns(query: Query, session_uuid: str, *, before: int | None = None, limit: int) -> list[Record]:
    """The latest `limit` turns of a session, newest first, of those with a number below `before`.

    A turn is a prompt that a hook told of, or whatever has the same prompt id in calls and transcripts; what belongs to no
    prompt is a turn of its own. Numbers begin with 1.
    """
    key = {"session": session_uuid}
    found = _collected(query, key)
    ordered = sorted(found, key=lambda one: (one.started_at, one.seq or 0, one.prompt_id or ""))
    status = query("SELECT status FROM sessions WHERE session_uuid = :session", key)
    live = bool(status) and SessionStatus(status[0][0]) in _BUSY
    types = dict(map(tuple, query("SELECT agent_id, agent_type FROM subagents WHERE session_uuid = :session", key)))
    end = len(ordered) if before is None else max(0, min(before - 1, len(ordered)))
    asked = [number for number, one in enumerate(ordered) if one.seq is not None]
    newest = asked[-1] if asked else None
    return [
        {
            "number": number + 1,
            **_described(query, ordered[number], types),
            "status": _status(ordered[number], working=live and number == newest),
        }
        for number in range(end - 1, max(-1, end - 1 - limit), -1)
    ]


_BUSY = (SessionStatus.STARTING, SessionStatus.WORKING, SessionStatus.WAITING_PERMISSION, SessionStatus.WAITING_INPUT)


def _collected(query: Query, key: Record) -> Iterable[_Turn]:
    found: dict[str | int | None, _Turn] = {}
    for seq, at, kind, prompt_id, agent_id in reversed(query(_MARKS, key)):
        own: str | int | None = seq if kind == "UserPromptSubmit" and prompt_id is None else prompt_id
        turn = found.setdefault(own, _Turn(prompt_id))
        turn.saw(at)
        if kind == "SubagentStart" and agent_id is not None:
            turn.agents.setdefault(agent_id, Work())
        elif kind == "UserPromptSubmit" and turn.seq is None:
            turn.seq, turn.prompted_at = seq, at
        elif agent_id is None and kind in ("Stop", "StopFailure"):
            turn.ended_at, turn.failed = at, kind == "StopFailure"
    for prompt_id, agent_id, calls, failed, duration, first, last in query(_CALLS, key):
        turn = found.setdefault(prompt_id, _Turn(prompt_id))
        turn.did(agent_id, Work(calls, failed, duration))
        turn.saw(first, last)
    for prompt_id, agent_id, cost, messages, unpriced, *tokens, first, last in query(_MESSAGES, key):
        turn = found.setdefault(prompt_id, _Turn(prompt_id))
        turn.did(agent_id, Work(cost=cost, messages=messages, unpriced=unpriced, tokens=tuple(tokens)))
        turn.saw(first, last)
    return found.values()


def _described(query: Query, turn: _Turn, types: dict[str, str | None]) -> Record:
    prompt, cut = query(_PROMPT, {"seq": turn.seq})[0] if turn.seq is not None else (None, False)
    by = None if prompt is None else "background" if prompt.startswith(NOTIFICATION) else "person"
    busiest = sorted(turn.agents.items(), key=lambda one: (-one[1].calls, one[0]))
    return {
        "prompt_id": turn.prompt_id,
        "by": by,
        "prompt": prompt,
        "prompt_cut": bool(cut),
        "started_at": turn.started_at,
        "ended_at": turn.ended_at,
        "last_at": turn.last_at,
        **turn.work.record(),
        "agents": [
            {"agent_id": agent_id, "agent_type": types.get(agent_id) or None, **work.record()}
            for agent_id, work in islice(busiest, MOST_AGENTS)
        ],
        "more_agents": max(0, len(busiest) - MOST_AGENTS),
    }


def _status(turn: _Turn, *, working: bool) -> str | None:
    # A stop that a hook sent back does not end the turn.
    if turn.ended_at is not None and not (working and (turn.last_at or 0) > turn.ended_at):
        return "failed" if turn.failed else "ended"
    if turn.seq is None:
        return None
    return "working" if working else "interrupted"
