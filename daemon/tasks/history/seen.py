"""Names that were used lately, for people who are about to use one again."""

from tasks.history.records import Query, Record

#: Tasks and sessions that are looked at, the latest.
LATEST = 300
#: Names of one kind.
MOST = 40

_TASKS = f"SELECT workspace, workflow, agent_type, model FROM tasks ORDER BY created_at DESC LIMIT {LATEST}"
_SESSIONS = f"SELECT cwd FROM sessions ORDER BY last_event_at DESC LIMIT {LATEST}"


def seen(query: Query) -> Record:
    """`workspaces`, `workflows`, `agent_types` and `models` of the latest tasks, `folders` of the latest sessions; the one
    used last first.
    """
    kinds = ("workspaces", "workflows", "agent_types", "models")
    columns = list(zip(*query(_TASKS, ()), strict=True)) or [()] * len(kinds)
    found = dict(zip(kinds, columns, strict=True)) | {"folders": [row[0] for row in query(_SESSIONS, ())]}
    return {kind: [one for one in dict.fromkeys(names) if one][:MOST] for kind, names in found.items()}
