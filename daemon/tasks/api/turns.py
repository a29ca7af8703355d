"""/v1/sessions/{id}/turns and /tree: a session by what was asked, and by who worked."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from tasks import history
from tasks.api.access import Ctx
from tasks.api.calls import SessionId, whole_session_id
from tasks.api.sessions import Spent

router = APIRouter(tags=["sessions"])


class Work(BaseModel):
    #: finished calls; of these, failed
    calls: int
    failed: int
    #: of the calls whose duration is known, all together
    duration_ms: float
    spent: Spent


class TurnAgent(Work):
    agent_id: str
    agent_type: str | None


class Turn(Work):
    """Everything between a prompt and the end of the answer, its subagents included. Times in epoch milliseconds."""

    #: counts from 1; ask for turns `before` this to go on
    number: int
    #: null: what belongs to no prompt
    prompt_id: str | None
    #: background: the client itself, when work in the background was done; null: no hook told of it, or no text is stored
    by: Literal["person", "background"] | None
    #: as stored, redacted: the first 8,000 characters
    prompt: str | None
    prompt_cut: bool
    #: null: no hook told of it
    status: Literal["working", "ended", "failed", "interrupted"] | None
    #: of the prompt, else of the first call or answer
    started_at: int
    #: null: no end was reported
    ended_at: int | None
    #: of the last thing that is known of it
    last_at: int | None
    #: subagents that worked in it, those with most calls first, at most 50; how many more there were
    agents: list[TurnAgent]
    more_agents: int


class TreeAgent(Work):
    """Times in epoch milliseconds."""

    #: null: the main agent
    agent_id: str | None
    #: who started it; null: the main agent did, or it is the main agent
    parent_id: str | None
    #: how the parent is known: by the call that started it, by type and time, or not at all; null: the main agent
    parent_by: Literal["reported", "matched", "assumed"] | None
    #: 0: the main agent
    depth: int
    #: subagents that it started itself
    children: int
    agent_type: str | None
    #: of the main agent, the session's; null: known from transcripts alone
    status: str | None
    detail: str | None
    #: what the call that started it says of it, and that call
    description: str | None
    tool_use_id: str | None
    started_at: int | None
    ended_at: int | None
    #: of the last finished call or answer
    last_at: int | None
    #: calls in flight
    running: int


@router.get("/sessions/{session_uuid}/turns")
async def list_turns(
    ctx: Ctx,
    session_uuid: SessionId,
    before: Annotated[int | None, Query(ge=1, le=1 << 40, description="those with a lower number")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 200,
) -> list[Turn]:
    """The latest first. Without hooks, a turn is whatever transcripts tell under one prompt id."""
    whole = await whole_session_id(ctx, session_uuid)
    found = await ctx.database.read(
        lambda reader: history.session_turns(reader.query, whole, before=before, limit=limit)
    )
    return [Turn(**one) for one in found]


@router.get("/sessions/{session_uuid}/tree")
async def read_tree(ctx: Ctx, session_uuid: SessionId) -> list[TreeAgent]:
    """The main agent and its subagents, at most 1000, in the order of a tree: each is followed by those it started."""
    whole = await whole_session_id(ctx, session_uuid)
    found = await ctx.database.read(lambda reader: history.session_tree(reader.query, whole))
    return [TreeAgent(**one) for one in found]
