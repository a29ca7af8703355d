"""/v1/events: the events themselves, listed or as a live stream (server-sent events)."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from tasks.api.access import Ctx
from tasks.api.context import Context
from tasks.database import Row

router = APIRouter(tags=["events"])

PAGE = 200
#: Seconds of silence after which a stream sends a comment, so that a dead reader is noticed.
HEARTBEAT = 15.0


class StoredEvent(BaseModel):
    #: order of arrival; ask for `after` this to go on
    seq: int
    #: epoch milliseconds
    timestamp: int
    session_uuid: str
    kind: str
    task_id: str | None
    agent_id: str | None
    tool_name: str | None
    tool_use_id: str | None
    flags: str | None
    body: dict[str, Any] | None


_FIELDS = tuple(StoredEvent.model_fields)
_AFTER = f"""
SELECT {", ".join(_FIELDS)} FROM events
WHERE seq > :after AND (:session IS NULL OR session_uuid = :session) AND (:kind IS NULL OR kind = :kind)
ORDER BY seq LIMIT :limit
"""
_LATEST = f"""
SELECT {", ".join(_FIELDS)} FROM events
WHERE (:session IS NULL OR session_uuid = :session) AND (:kind IS NULL OR kind = :kind)
ORDER BY seq DESC LIMIT :limit
"""


@router.get("/events", response_model=list[StoredEvent])
async def read_events(
    ctx: Ctx,
    session: str | None = None,
    kind: str | None = None,
    after: Annotated[int | None, Query(ge=0, description="events that arrived after this seq, oldest first")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    follow: Annotated[bool, Query(description="stream events as they are stored (text/event-stream)")] = False,
    last_event_id: Annotated[int | None, Header(description="where an interrupted stream goes on")] = None,
) -> Any:
    """The latest `limit` events, or those after a seq; in order of arrival."""
    start = last_event_id if last_event_id is not None else after
    if follow:
        if start is None:
            start = (await ctx.database.query("SELECT coalesce(max(seq), 0) FROM events"))[0][0]
        stream = _stream(ctx, {"session": session, "kind": kind, "limit": PAGE}, start)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
    parameters = {"session": session, "kind": kind, "limit": limit, "after": start}
    if start is not None:
        rows = await ctx.database.query(_AFTER, parameters)
    else:
        del parameters["after"]
        rows = (await ctx.database.query(_LATEST, parameters))[::-1]
    return [_event(row) for row in rows]


async def _stream(ctx: Context, filters: dict[str, Any], after: int) -> AsyncIterator[str]:
    # The database is the queue: a slow reader holds nothing up and misses nothing.
    yield ": tasksd\n\n"
    while not ctx.stopping.is_set():
        rows = await ctx.database.query(_AFTER, filters | {"after": after})
        for row in rows:
            event = _event(row)
            after = event.seq
            kind = event.kind if event.kind.isalnum() else "event"
            yield f"id: {event.seq}\nevent: {kind}\ndata: {event.model_dump_json()}\n\n"
        if not rows and not await ctx.stored.wait(HEARTBEAT):
            yield ": still here\n\n"


def _event(row: Row) -> StoredEvent:
    values = dict(zip(_FIELDS, row, strict=True))
    return StoredEvent(**values | {"body": json.loads(values["body"]) if values["body"] else None})
