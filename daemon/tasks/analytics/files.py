"""Which files agents read and change, how often again, and which of them several agents change at once."""

from typing import Literal

from typing_extensions import TypedDict

from tasks.analytics.span import Query, settled
from tasks.rollups import COARSE_GRAINS, HOUR, UNROLLED_FILES, cover, span_clause

#: What files are put in order by, and have to have at least one of: accesses of any kind, reads by an agent that had read
#: the file before, writes and edits within 30 minutes of an earlier one by another agent.
Order = Literal["accesses", "rereads", "contended"]

#: Agents named per contended file: those that changed it last.
AGENTS = 10


class FileUse(TypedDict):
    #: absolute
    path: str
    #: reads, writes and edits together
    accesses: int
    reads: int
    #: of the reads, by an agent that had read the file before
    rereads: int
    writes: int
    edits: int
    #: of the writes and edits, within 30 minutes of an earlier one by another agent
    contended: int


class Editor(TypedDict):
    """An agent that changed a file; its counts are over all time."""

    session_uuid: str
    #: None: the main agent of the session
    agent_id: str | None
    writes: int
    edits: int
    #: epoch milliseconds of its latest write or edit
    edited_at: int


class ContendedFile(FileUse):
    #: those that changed it in the span, the latest first, at most 10
    agents: list[Editor]


class SessionFile(TypedDict):
    """What one agent of a session did with a file. Times in epoch milliseconds."""

    path: str
    #: None: the main agent
    agent_id: str | None
    reads: int
    writes: int
    edits: int
    first_at: int
    last_at: int
    #: its latest write or edit; None: it only read
    edited_at: int | None


# What is rolled up comes from the roll-ups. The rest (`loose`: the part of an hour before the first slot, and what is not
# rolled up yet) is judged by all rows of the sessions that it belongs to; what was deleted of these, file_use still counts.
_FILES = """
WITH span (grain, first, last) AS (VALUES {span}),
loose AS MATERIALIZED (
    SELECT id, timestamp, path, action, session_uuid, agent_id
    FROM files WHERE timestamp >= :since AND timestamp < :start {within}
    UNION ALL
    SELECT id, timestamp, path, action, session_uuid, agent_id
    FROM files WHERE {unrolled} AND +timestamp >= :start {within}
),
reads AS MATERIALIZED (
    SELECT f.id, f.path,
           row_number() OVER (PARTITION BY f.session_uuid, f.agent_id, f.path ORDER BY f.id) - 1
           + coalesce(u.reads, 0) - sum(NOT {unrolled}) OVER (PARTITION BY f.session_uuid, f.agent_id, f.path) AS before
    FROM files AS f LEFT JOIN file_use AS u
         ON u.path = f.path AND u.session_uuid = f.session_uuid AND u.agent_id = coalesce(f.agent_id, '')
    WHERE f.session_uuid IN (SELECT session_uuid FROM loose WHERE action = 'read') AND f.action = 'read' {within_f}
)
SELECT path, sum(reads + writes + edits) AS accesses, sum(reads), sum(rereads) AS rereads, sum(writes), sum(edits),
       sum(contended) AS contended
FROM (
    SELECT path, reads, rereads, writes, edits, contended
    FROM span JOIN file_rollup AS r ON r.grain = span.grain AND r.slot BETWEEN span.first AND span.last
    WHERE true {within}
    UNION ALL
    SELECT path, action = 'read', action = 'read' AND (SELECT before FROM reads WHERE reads.id = loose.id) > 0,
           action = 'write', action = 'edit',
           action <> 'read' AND EXISTS (
               SELECT 1 FROM files AS other
               WHERE other.path = loose.path AND other.id < loose.id AND other.action <> 'read'
                 AND other.timestamp BETWEEN loose.timestamp - 1800000 AND loose.timestamp + 1800000
                 AND (other.session_uuid <> loose.session_uuid OR other.agent_id IS NOT loose.agent_id))
    FROM loose
) GROUP BY path HAVING sum({order}) > 0 ORDER BY sum({order}) DESC, path LIMIT :limit
"""

_EDITORS = """
SELECT session_uuid, nullif(agent_id, ''), sum(writes), sum(edits), max(edited_at) FROM (
    SELECT session_uuid, agent_id, writes, edits, edited_at FROM file_use WHERE path = :path
    UNION ALL
    SELECT session_uuid, coalesce(agent_id, ''), action = 'write', action = 'edit', timestamp
    FROM files WHERE {unrolled} AND +path = :path AND action <> 'read'
) GROUP BY session_uuid, agent_id HAVING max(edited_at) >= :since
ORDER BY max(edited_at) DESC, session_uuid, agent_id LIMIT :limit
"""

_OF_SESSION = """
SELECT path, nullif(agent_id, ''), sum(reads), sum(writes), sum(edits), min(first_at), max(last_at), max(edited_at) FROM (
    SELECT path, agent_id, reads, writes, edits, first_at, last_at, edited_at FROM file_use WHERE session_uuid = :session
    UNION ALL
    SELECT path, coalesce(agent_id, ''), action = 'read', action = 'write', action = 'edit', timestamp, timestamp,
           iif(action = 'read', NULL, timestamp)
    FROM files WHERE {unrolled} AND +session_uuid = :session
) GROUP BY path, agent_id ORDER BY sum(reads + writes + edits) DESC, path, agent_id LIMIT :limit
"""


def file_use(
    query: Query, *, since: int = 0, order: Order = "accesses", limit: int = 50, project: str | None = None
) -> list[FileUse]:
    """The files with the most accesses, rereads or contended changes since `since` (epoch milliseconds).

    `project` is a folder: only files in it.
    """
    since = settled(query, since, HOUR, source="files")
    start, slots = cover(since, None, COARSE_GRAINS)
    within = "" if project is None else "AND {0}path >= :low AND {0}path < :high"
    statement = _FILES.format(
        span=span_clause(slots), unrolled=UNROLLED_FILES, within=within.format("+"), within_f=within.format("+f."),
        order=_ORDERS[order],
    )  # fmt: skip
    folder = (project or "").rstrip("/")
    values = {"since": since, "start": start, "limit": limit, "low": f"{folder}/", "high": f"{folder}0"}
    return [
        FileUse(
            path=path, accesses=accesses, reads=reads, rereads=rereads, writes=writes, edits=edits, contended=contended
        )
        for path, accesses, reads, rereads, writes, edits, contended in query(statement, values)
    ]


def contended_files(
    query: Query, *, since: int = 0, limit: int = 20, project: str | None = None
) -> list[ContendedFile]:
    """Files that several agents changed at once, those with the most such changes first, each with the agents."""
    statement = _EDITORS.format(unrolled=UNROLLED_FILES)
    return [
        ContendedFile(
            **one,
            agents=[
                Editor(session_uuid=session, agent_id=agent, writes=writes, edits=edits, edited_at=edited_at)
                for session, agent, writes, edits, edited_at in query(
                    statement, {"path": one["path"], "since": since, "limit": AGENTS}
                )
            ],
        )
        for one in file_use(query, since=since, order="contended", limit=limit, project=project)
    ]


def session_files(query: Query, session_uuid: str, *, limit: int = 1000) -> list[SessionFile]:
    """What the agents of a session did with which files, over all time; the most accessed first."""
    rows = query(_OF_SESSION.format(unrolled=UNROLLED_FILES), {"session": session_uuid, "limit": limit})
    return [
        SessionFile(
            path=path, agent_id=agent, reads=reads, writes=writes, edits=edits, first_at=first_at, last_at=last_at,
            edited_at=edited_at,
        )
        for path, agent, reads, writes, edits, first_at, last_at, edited_at in rows
    ]  # fmt: skip


_ORDERS: dict[Order, str] = {"accesses": "reads + writes + edits", "rereads": "rereads", "contended": "contended"}
