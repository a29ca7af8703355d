"""/v1/sessions: conversations, their status, what each does now, its changes of status and its subagents."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import BaseModel

from tasks import history
from tasks.api.access import Ctx
from tasks.words import SessionStatus

router = APIRouter(tags=["sessions"])


class RunningCall(BaseModel):
    tool_use_id: str
    tool_name: str
    #: epoch milliseconds
    started_at: int
    agent_id: str | None
    parameters: str | None


class Session(BaseModel):
    """Times in epoch milliseconds."""

    session_uuid: str
    status: str
    status_since: int
    status_detail: str | None
    task_id: str | None
    origin: str | None
    parent_uuid: str | None
    cwd: str | None
    model: str | None
    pid: int | None
    started_at: int
    last_event_at: int
    ended_at: int | None
    end_reason: str | None
    events: int
    prompts: int
    running: list[RunningCall]


class StatusChange(BaseModel):
    timestamp: int
    agent_id: str | None
    status: str
    previous: str | None
    cause: str
    detail: str | None


class Subagent(BaseModel):
    agent_id: str
    agent_type: str | None
    status: str
    started_at: int | None
    ended_at: int | None
    detail: str | None


class Spent(BaseModel):
    """By its transcripts."""

    #: dollars, of the messages that have a price
    cost: float
    #: answers of the API; of these, without a price
    messages: int
    unpriced: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int


class SessionDetails(Session):
    changes: list[StatusChange]
    subagents: list[Subagent]
    #: calls by tool: [all, failed]
    calls: dict[str, tuple[int, int]]
    #: calls with a result in the session's transcripts; of these, reported by hooks; of these, known from transcripts alone
    expected: int
    seen: int
    added: int
    spent: Spent


@router.get("/sessions")
async def list_sessions(
    ctx: Ctx,
    status: Annotated[list[SessionStatus] | None, Query(description="only these statuses")] = None,
    live: Annotated[bool, Query(description="only sessions that are not over")] = False,
    before: Annotated[str | None, Query(max_length=256, description="what comes after the session of this id")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> list[Session]:
    """The latest active first."""
    wanted = list(status or SessionStatus)
    if live:
        wanted = [one for one in wanted if not one.is_over]
    found = await ctx.database.read(
        lambda reader: history.sessions(reader.query, statuses=wanted, before=before, limit=limit)
    )
    return [Session(**one) for one in found]


@router.get("/sessions/{session_uuid}")
async def read_session(ctx: Ctx, session_uuid: Annotated[str, Path(max_length=256)]) -> SessionDetails:
    """One session; a unique beginning of its id will do."""
    try:
        found = await ctx.database.read(lambda reader: history.session(reader.query, session_uuid))
    except history.NoSuchSession as error:
        raise HTTPException(404, str(error)) from error
    return SessionDetails(**found)
