"""/v1/events: the events themselves, listed or as a live stream (server-sent events)."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from tasks import history
from tasks.api.access import Ctx
from tasks.api.context import Context
from tasks.database import Reader

router = APIRouter(tags=["events"])

PAGE = 200
#: SQLite's largest integer.
MAX_SEQ = (1 << 63) - 1
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
    #: of a tool call: what the tool was asked to do
    parameters: Any
    #: of a failed one: why
    error_category: str | None
    error: str | None


@router.get("/events", response_model=list[StoredEvent])
async def read_events(
    ctx: Ctx,
    session: str | None = None,
    kind: str | None = None,
    after: Annotated[
        int | None, Query(ge=0, le=MAX_SEQ, description="events that arrived after this seq, oldest first")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    follow: Annotated[bool, Query(description="stream events as they are stored (text/event-stream)")] = False,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=MAX_SEQ, description="where an interrupted stream goes on")
    ] = None,
) -> Any:
    """The latest `limit` events, or those after a seq; in order of arrival."""
    start = last_event_id if last_event_id is not None else after
    if follow:
        if start is None:
            start = (await ctx.database.query("SELECT coalesce(max(seq), 0) FROM events"))[0][0]
        return StreamingResponse(
            _stream(ctx, session, kind, start), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )
    found = await ctx.database.read(
        lambda reader: history.events(reader.query, session=session, kind=kind, after=start, limit=limit)
    )
    return [StoredEvent(**one) for one in found]


async def _stream(ctx: Context, session: str | None, kind: str | None, after: int) -> AsyncIterator[str]:
    def look(reader: Reader) -> tuple[int, list[history.Record]]:
        newest = reader.query("SELECT coalesce(max(seq), 0) FROM events")[0][0]
        return newest, history.events(reader.query, session=session, kind=kind, after=after, limit=PAGE)

    # The database is the queue: a slow reader holds nothing up and misses nothing.
    yield ": tasksd\n\n"
    while not ctx.stopping.is_set():
        rings = ctx.stored.rings
        newest, found = await ctx.database.read(look)
        for one in found:
            event = StoredEvent(**one)
            after = event.seq
            name = event.kind if event.kind.isalnum() else "event"
            yield f"id: {event.seq}\nevent: {name}\ndata: {event.model_dump_json()}\n\n"
        if not found:
            after = max(after, newest)  # none of those up to the newest was asked for: they need not be looked at again
            if not await ctx.stored.wait(rings, HEARTBEAT):
                yield ": still here\n\n"
