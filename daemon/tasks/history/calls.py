"""The finished calls of a task or a session, page by page, each small enough to be shown whatever its agent wrote."""

import json
from collections.abc import Mapping
from typing import Any

from tasks.history.records import Query, Record, records

CALL_FIELDS = (
    "id", "timestamp", "session_uuid", "task_id", "agent_id", "agent_type", "prompt_id", "tool_use_id", "tool_name",
    "success", "error", "error_category", "duration_ms", "background", "source", "model",
)  # fmt: skip

#: Characters of the JSON of parameters that are given as they are stored; of longer ones the texts are cut.
WHOLE_PARAMETERS = 64 << 10
#: Characters that are left of each text in longer ones.
SHORT_TEXT = 2000
#: Characters of parameters that are still read in order to cut them; of longer ones nothing is given, …
READABLE = 4 << 20
#: … nor of what would make one page read more than this.
READ_AT_ONCE = 16 << 20
#: Levels of nesting that are given, and items of one list or object.
DEEPEST, MOST_ITEMS = 40, 1000

# Places first, then the rows: sorting would carry all their text along. The plus keeps the order from choosing an index.
_OF_TASK = """
SELECT id FROM tool_usage
WHERE task_id = :task AND (:before IS NULL OR (timestamp, id) < (:timestamp, :before))
ORDER BY timestamp DESC, id DESC LIMIT :limit
"""
_OF_SESSION = """
SELECT id FROM tool_usage
WHERE session_uuid = :session AND tool_use_id IS NOT NULL AND (:any_agent OR agent_id IS :agent)
  AND (:any_prompt OR prompt_id IS :prompt) AND (:before IS NULL OR (+timestamp, id) < (:timestamp, :before))
ORDER BY +timestamp DESC, id DESC LIMIT :limit
"""
_ROWS = f"""
SELECT {", ".join(CALL_FIELDS)}, length(parameters), CASE WHEN length(parameters) <= {WHOLE_PARAMETERS} THEN parameters END
FROM tool_usage WHERE id IN ({{places}}) ORDER BY +timestamp DESC, id DESC
"""
_PLACE = "SELECT timestamp FROM tool_usage WHERE id = :before"
_PARAMETERS = "SELECT parameters FROM tool_usage WHERE id = :id"


def calls_of_task(query: Query, task_id: str, *, before: int | None = None, limit: int) -> list[Record]:
    """Finished calls of a task, the latest finished first; with `before`, those that follow the call of that id in this
    order. `parameters` are parsed; `cut` says whether they lack something that is stored.
    """
    return _page(query, _OF_TASK, {"task": task_id}, before, limit)


def calls_of_session(
    query: Query,
    session_uuid: str,
    *,
    agent: str | None = None,
    prompt: str | None = None,
    before: int | None = None,
    limit: int,
) -> list[Record]:
    """The same for a session, without calls that only the Python API recorded. `agent`: only of this subagent, '': only of
    the main agent; `prompt`: only what belongs to this prompt, '': to none.
    """
    key = {
        "session": session_uuid,
        "any_agent": agent is None,
        "agent": agent or None,
        "any_prompt": prompt is None,
        "prompt": prompt or None,
    }
    return _page(query, _OF_SESSION, key, before, limit)


def _page(query: Query, places: str, key: Mapping[str, Any], before: int | None, limit: int) -> list[Record]:
    timestamp = None
    if before is not None:
        # A call that is gone was among the oldest: what comes after it is gone as well.
        if not (found := query(_PLACE, {"before": before})):
            return []
        timestamp = found[0][0]
    ids = [int(row[0]) for row in query(places, {**key, "before": before, "timestamp": timestamp, "limit": limit})]
    rows = query(_ROWS.format(places=", ".join(map(str, ids))), {})
    room = READ_AT_ONCE
    page = []
    for *values, size, parameters in rows:
        (one,) = records(CALL_FIELDS, [tuple(values)])
        cut = size is not None and parameters is None
        if cut and size <= min(READABLE, room):
            room -= size
            parameters = query(_PARAMETERS, {"id": one["id"]})[0][0]
        known = one["duration_ms"] is not None
        one |= {
            "started_at": round(one["timestamp"] - one["duration_ms"]) if known else None,
            "success": bool(one["success"]),
            "parameters": _parsed(parameters, SHORT_TEXT if cut else None),
            "cut": cut,
        }
        page.append(one)
    return page


def _parsed(text: str | None, longest: int | None) -> Any:
    """What the JSON `text` holds; None when it holds nothing. Of texts in it the first `longest` characters."""
    if text is None:
        return None
    try:
        return _bounded(json.loads(text, parse_constant=str), longest, DEEPEST)
    except (ValueError, RecursionError):
        return None


def _bounded(value: Any, longest: int | None, levels: int) -> Any:
    if isinstance(value, str):
        short = value if longest is None or len(value) <= longest else f"{value[:longest]}…"
        return short.encode("utf-8", "replace").decode()  # a lone surrogate cannot be sent
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if not isinstance(value, dict | list):
        return value
    if not levels:
        return "…"
    if isinstance(value, list):
        return [_bounded(one, longest, levels - 1) for one in value[:MOST_ITEMS]]
    return {
        _bounded(name, longest, levels): _bounded(one, longest, levels - 1)
        for name, one in list(value.items())[:MOST_ITEMS]
    }
