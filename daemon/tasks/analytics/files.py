"""Which files agents read and change, how often again, and which of them several agents change at once."""

import json
from collections.abc import Iterable, Iterator, Sequence
from operator import add
from typing import Literal

from typing_extensions import TypedDict

from tasks.analytics.span import Query, settled
from tasks.database import Row
from tasks.rollups import COARSE_GRAINS, HOUR, UNROLLED_FILES, cover

#: What files are put in order by, and have to have at least one of: accesses of any kind, reads by an agent that had read
#: the file before, writes and edits within 30 minutes of an earlier one by another agent.
Order = Literal["accesses", "rereads", "contended"]

COLUMNS = ("accesses", "reads", "rereads", "writes", "edits", "contended")
Slot = tuple[int, int]
#: Slots in one statement.
PORTION = 200
#: More candidates than this many times those that are wanted are not looked at one by one.
CANDIDATES = 10
#: How often to ask again when something was rolled up meanwhile.
TRIES = 3

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


# The part of an hour before the first slot, and what is not rolled up yet. A read that is rolled up came again when its
# agent read the file more often than from then on; that holds after earlier reads were deleted, too.
_LOOSE = """
WITH loose AS MATERIALIZED (
    SELECT *, 1 AS rolled, 0 AS again FROM files WHERE timestamp >= :since AND timestamp < :start AND id <= :upto
    UNION ALL
    SELECT * FROM (
        SELECT *, 0, row_number() OVER (PARTITION BY path, session_uuid, agent_id, action ORDER BY id) > 1
        FROM files WHERE id > :upto)
    WHERE timestamp >= :since
)
SELECT path, 1, action = 'read',
       action = 'read' AND (again OR coalesce((
           SELECT u.reads > rolled AND u.reads > rolled * (
               SELECT count(*) FROM files AS o
               WHERE o.path = loose.path AND o.timestamp BETWEEN u.first_at AND u.last_at AND o.action = 'read'
                 AND o.session_uuid = loose.session_uuid AND o.agent_id IS loose.agent_id AND o.id BETWEEN loose.id AND :upto)
           FROM file_use AS u
           WHERE u.path = loose.path AND u.session_uuid = loose.session_uuid AND u.agent_id = coalesce(loose.agent_id, '')
       ), 0)),
       action = 'write', action = 'edit',
       action <> 'read' AND EXISTS (
           SELECT 1 FROM files AS o
           WHERE o.path = loose.path AND o.id < loose.id AND o.action <> 'read'
             AND o.timestamp BETWEEN loose.timestamp - 1800000 AND loose.timestamp + 1800000
             AND (o.session_uuid <> loose.session_uuid OR o.agent_id IS NOT loose.agent_id))
FROM loose WHERE path >= :low AND path < :high
"""

_UPTO = "SELECT upto FROM rolled WHERE source = 'files'"

_SLOTS = """
WITH RECURSIVE found (slot) AS (
    SELECT min(slot) FROM file_rollup WHERE grain = :grain AND slot >= :first
    UNION ALL
    SELECT (SELECT min(slot) FROM file_rollup WHERE grain = :grain AND slot > found.slot) FROM found WHERE slot < :last
)
SELECT slot FROM found WHERE slot <= :last
"""

# Of each slot the files that have more than its (depth + 1)th; and what the others have at most.
_BEST = """
WITH slots (grain, slot) AS (VALUES {slots}),
bounds (grain, slot, bound) AS MATERIALIZED (
    SELECT grain, slot, coalesce((
        SELECT {order} FROM file_rollup AS r INDEXED BY {index}
        WHERE r.grain = slots.grain AND r.slot = slots.slot AND {order} > 0
        ORDER BY {order} DESC LIMIT 1 OFFSET :depth), 0)
    FROM slots
)
SELECT bounds.grain, bounds.slot, r.path, {order}, bound
FROM bounds CROSS JOIN file_rollup AS r INDEXED BY {index}
     ON r.grain = bounds.grain AND r.slot = bounds.slot AND {order} > bound AND {order} > 0
UNION ALL
SELECT grain, slot, NULL, 0, bound FROM bounds
"""

_OF_PATHS = """
WITH slots (grain, slot) AS (VALUES {slots}),
chosen (path) AS MATERIALIZED (SELECT value FROM json_each(:paths))
SELECT r.path, accesses, reads, rereads, writes, edits, contended
FROM slots CROSS JOIN chosen CROSS JOIN file_rollup AS r
     ON r.grain = slots.grain AND r.slot = slots.slot AND r.path = chosen.path
"""

_OF_FOLDER = """
WITH slots (grain, slot) AS (VALUES {slots})
SELECT path, accesses, reads, rereads, writes, edits, contended
FROM slots CROSS JOIN file_rollup AS r ON r.grain = slots.grain AND r.slot = slots.slot AND path >= :low AND path < :high
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
    for _ in range(TRIES):
        upto = query(_UPTO, {})[0][0]
        found = _file_use(query, since, upto, order, limit, project)
        # What was rolled up between the statements would be in both of them, or in neither.
        if query(_UPTO, {})[0][0] == upto:
            break
    return found


def _file_use(query: Query, since: int, upto: int, order: Order, limit: int, project: str | None) -> list[FileUse]:
    start, spans = cover(since, None, COARSE_GRAINS)
    slots = [
        (grain, slot)
        for grain, first, last in spans
        for (slot,) in query(_SLOTS, {"grain": grain, "first": first, "last": last})
    ]
    folder = (project or "").rstrip("/")
    within = {"low": f"{folder}/", "high": f"{folder}0"} if project else {"low": "", "high": "\U0010ffff"}
    loose = _Sums()
    loose.add(query(_LOOSE, {"since": since, "start": start, "upto": upto, **within}))
    sums = None if project else _ranked(query, slots, loose, order, limit)
    if sums is None:
        sums = _Sums()
        for some in _portions(slots):
            sums.add(query(_OF_FOLDER.format(slots=_values(some)), within))
        sums.add(loose.rows())
    at = 1 + COLUMNS.index(order)
    rows = sorted((row for row in sums.rows() if row[at]), key=lambda row: (-row[at], row[0]))[:limit]
    return [
        FileUse(
            path=path, accesses=accesses, reads=reads, rereads=rereads, writes=writes, edits=edits, contended=contended
        )
        for path, accesses, reads, rereads, writes, edits, contended in rows
    ]


class _Sums:
    """Rows of (path, *COLUMNS), added up by path. SQLite would have to sort the paths, which takes several times as long."""

    __slots__ = ("_of",)

    def __init__(self) -> None:
        self._of: dict[str, tuple[int, ...]] = {}

    def add(self, rows: Iterable[Row]) -> None:
        sums = self._of
        for path, *counts in rows:
            before = sums.get(path)
            sums[path] = tuple(counts) if before is None else tuple(map(add, before, counts))

    def rows(self) -> list[Row]:
        return [(path, *counts) for path, counts in self._of.items()]

    def column(self, name: str) -> dict[str, int]:
        at = COLUMNS.index(name)
        return {path: counts[at] for path, counts in self._of.items()}


def _ranked(query: Query, slots: Sequence[Slot], loose: _Sums, order: Order, limit: int) -> _Sums | None:
    """The sums of the files that can be among the first `limit`, found from the first few of each slot.

    What is not among these has at most their bounds. None when that does not settle it: when all have about as much.
    """
    for depth in (2 * limit, 6 * limit, 24 * limit):
        found = loose.column(order)
        known: dict[str, int] = {}
        bounds: dict[Slot, int] = {}
        for some in _portions(slots):
            statement = _BEST.format(slots=_values(some), order=order, index=_INDEXES[order])
            for grain, slot, path, count, bound in query(statement, {"depth": depth}):
                bounds[grain, slot] = bound
                if path is not None:
                    found[path] = found.get(path, 0) + count
                    known[path] = known.get(path, 0) + bound
        rest = sum(bounds.values())
        least = sorted(found.values(), reverse=True)[limit - 1] if len(found) >= limit else 0
        if rest and rest >= least:
            continue
        chosen = [path for path, count in found.items() if count and count + rest - known.get(path, 0) >= least]
        if len(chosen) > CANDIDATES * limit:
            continue
        sums = _Sums()
        paths = json.dumps(sorted(chosen))
        for some in _portions(slots):
            sums.add(query(_OF_PATHS.format(slots=_values(some)), {"paths": paths}))
        wanted = set(chosen)
        sums.add(row for row in loose.rows() if row[0] in wanted)
        return sums
    return None


def _portions(slots: Sequence[Slot]) -> Iterator[Sequence[Slot]]:
    """As many as one statement takes; at least one."""
    for begin in range(0, len(slots), PORTION):
        yield slots[begin : begin + PORTION]


def _values(slots: Sequence[Slot]) -> str:
    return ", ".join(f"({grain}, {slot})" for grain, slot in slots)


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


#: The indexes that have the files of a slot in this order.
_INDEXES: dict[Order, str] = {
    "accesses": "idx_file_accesses",
    "rereads": "idx_file_rereads",
    "contended": "idx_file_contended",
}
