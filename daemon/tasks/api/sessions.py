"""/v1/sessions: conversations, their status, what each does now, its changes of status and its subagents."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel

from tasks.api.access import Ctx
from tasks.database import Row
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


class SessionDetails(Session):
    changes: list[StatusChange]
    subagents: list[Subagent]
    #: calls by tool: [all, failed]
    calls: dict[str, tuple[int, int]]


_FIELDS = [name for name in Session.model_fields if name != "running"]
_SELECT = f"SELECT {', '.join(_FIELDS)} FROM sessions"


@router.get("/sessions")
async def list_sessions(
    ctx: Ctx,
    status: Annotated[list[SessionStatus] | None, Query(description="only these statuses")] = None,
    live: Annotated[bool, Query(description="only sessions that are not over")] = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> list[Session]:
    """The latest active first."""
    wanted = list(status or SessionStatus)
    if live:
        wanted = [one for one in wanted if not one.is_over]
    marks = ", ".join("?" for _ in wanted)
    rows = await ctx.database.query(
        f"{_SELECT} WHERE status IN ({marks}) ORDER BY last_event_at DESC LIMIT ?", [*wanted, limit]
    )
    return await _with_running(ctx, rows)


@router.get("/sessions/{session_uuid}")
async def read_session(ctx: Ctx, session_uuid: str) -> SessionDetails:
    """One session; a unique beginning of its id will do."""
    prefix = session_uuid.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    rows = await ctx.database.query(f"{_SELECT} WHERE session_uuid LIKE ? ESCAPE '\\' LIMIT 2", [prefix])
    if len(rows) != 1:
        detail = (
            f"no session has the id {session_uuid}" if not rows else f"several session ids begin with {session_uuid}"
        )
        raise HTTPException(404, detail)
    session = (await _with_running(ctx, rows))[0]
    key = {"session": session.session_uuid}
    changes = await ctx.database.query(
        "SELECT timestamp, agent_id, status, previous, cause, detail FROM agent_status"
        " WHERE session_uuid = :session ORDER BY timestamp, id LIMIT 1000",
        key,
    )
    subagents = await ctx.database.query(
        "SELECT agent_id, agent_type, status, started_at, ended_at, detail FROM subagents"
        " WHERE session_uuid = :session ORDER BY started_at",
        key,
    )
    calls = await ctx.database.query(
        "SELECT tool_name, count(*), sum(success = 0) FROM tool_usage WHERE session_uuid = :session"
        " AND tool_use_id IS NOT NULL GROUP BY tool_name ORDER BY count(*) DESC",
        key,
    )
    return SessionDetails(
        **session.model_dump(),
        changes=[StatusChange(**dict(zip(StatusChange.model_fields, row, strict=True))) for row in changes],
        subagents=[Subagent(**dict(zip(Subagent.model_fields, row, strict=True))) for row in subagents],
        calls={tool: (count, failed) for tool, count, failed in calls},
    )


async def _with_running(ctx: Ctx, rows: list[Row]) -> list[Session]:
    ids = [row[0] for row in rows]
    calls = await ctx.database.query(
        "SELECT session_uuid, tool_use_id, tool_name, started_at, agent_id, parameters FROM tool_running"
        f" WHERE session_uuid IN ({', '.join('?' for _ in ids)}) ORDER BY started_at",
        ids,
    )
    running: dict[str, list[RunningCall]] = {}
    for session, *call in calls:
        running.setdefault(session, []).append(RunningCall(**dict(zip(RunningCall.model_fields, call, strict=True))))
    return [Session(**dict(zip(_FIELDS, row, strict=True)), running=running.get(row[0], [])) for row in rows]
