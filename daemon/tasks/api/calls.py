"""/v1/tasks/{id}/calls and /v1/sessions/{id}/calls: what an agent did, call by call."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import BaseModel

from tasks import history
from tasks.api.access import Ctx
from tasks.api.context import Context
from tasks.api.tasks import TaskId

router = APIRouter()

SessionId = Annotated[str, Path(max_length=256, description="the id, or a unique beginning of it")]
_Before = Annotated[int | None, Query(ge=0, le=(1 << 63) - 1, description="what comes after the call of this id")]
_Limit = Annotated[int, Query(ge=1, le=500)]


class Call(BaseModel):
    """A finished call. Times in epoch milliseconds."""

    #: ask for calls `before` the id of the last one to go on
    id: int
    #: when it finished
    timestamp: int
    #: null: it is not known how long it took
    started_at: int | None
    session_uuid: str | None
    task_id: str | None
    tool_name: str
    #: null: recorded through the Python API
    tool_use_id: str | None
    #: the subagent that made it; null: the main agent
    agent_id: str | None
    agent_type: str | None
    prompt_id: str | None
    #: redacted: what is stored of the tool's input; of more than 64 KiB, the beginning of every text, or null
    parameters: Any
    #: whether `parameters` lack something that is stored
    cut: bool
    success: bool
    error: str | None
    error_category: str | None
    duration_ms: float | None
    #: requested, automatic: it went on in the background
    background: str | None
    #: hook, batch, transcript, inferred, api
    source: str
    model: str | None


@router.get("/tasks/{task_id}/calls", tags=["tasks"])
async def list_task_calls(ctx: Ctx, task_id: TaskId, before: _Before = None, limit: _Limit = 100) -> list[Call]:
    """Finished calls of its agents over all runs, the latest finished first; fewer than `limit`: there are no more."""
    found = await ctx.database.read(
        lambda reader: history.calls_of_task(
            reader.query, history.whole_task_id(reader.query, task_id), before=before, limit=limit
        )
    )
    return [Call(**one) for one in found]


@router.get("/sessions/{session_uuid}/calls", tags=["sessions"])
async def list_session_calls(
    ctx: Ctx,
    session_uuid: SessionId,
    agent: Annotated[
        str | None, Query(max_length=256, description="only of this subagent; empty: of the main agent")
    ] = None,
    prompt: Annotated[
        str | None, Query(max_length=256, description="only what belongs to this prompt; empty: to none")
    ] = None,
    before: _Before = None,
    limit: _Limit = 100,
) -> list[Call]:
    """The same for a session, without calls that only the Python API recorded."""
    whole = await whole_session_id(ctx, session_uuid)
    found = await ctx.database.read(
        lambda reader: history.calls_of_session(
            reader.query, whole, agent=agent, prompt=prompt, before=before, limit=limit
        )
    )
    return [Call(**one) for one in found]


async def whole_session_id(ctx: Context, session_uuid: str) -> str:
    try:
        return await ctx.database.read(lambda reader: history.whole_session_id(reader.query, session_uuid))
    except history.NoSuchSession as error:
        raise HTTPException(404, str(error)) from error
