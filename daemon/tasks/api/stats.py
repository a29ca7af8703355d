"""/v1/stats/…: what calls, files and the time of agents add up to, answered from the roll-ups."""

from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request
from pydantic import BaseModel

from tasks import history
from tasks.analytics import agents, files, tools
from tasks.analytics.agents import StateTime
from tasks.analytics.files import ContendedFile, FileUse, SessionFile
from tasks.analytics.tools import Dimension, ToolDurations, ToolUse, UseStats, ValueUse
from tasks.api.access import Ctx
from tasks.api.context import Context
from tasks.api.span import Since

router = APIRouter(prefix="/stats", tags=["statistics"])

Limit = Annotated[int, Query(ge=1, le=1000)]
SessionId = Annotated[str, Path(max_length=256)]
Name = Annotated[str | None, Query(max_length=256)]
Project = Annotated[str | None, Query(max_length=4096, description="only files in this folder")]


class AgentStats(BaseModel):
    #: status → time that main agents spent in it; every status that is not the end of a session is named
    states: dict[str, StateTime]
    #: calls by type of agent; '' is a main agent without a type
    agent_types: list[UseStats]


@router.get("/tools")
async def read_tools(
    ctx: Ctx,
    request: Request,
    since: Since,
    workflow: Name = None,
    agent_type: Name = None,
    model: Name = None,
    session: Name = None,
    task: Name = None,
) -> list[ToolUse]:
    """Use of the tools, the most used first: of all agents, or of one workflow, type of agent, model, session or task.

    The calls of a session or task are counted over all time.
    """
    named: dict[Dimension, str | None] = {
        "workflow": workflow, "agent_type": agent_type, "model": model, "session": session, "task": task
    }  # fmt: skip
    chosen = [(dimension, value) for dimension, value in named.items() if value is not None]
    if len(chosen) > 1:
        raise HTTPException(422, f"only one of {', '.join(named)} can be chosen")
    if not chosen:
        return await ctx.database.read(lambda reader: tools.tool_usage(reader.query, since=since))
    dimension, value = chosen[0]
    begin = since
    if dimension not in tools.DATED:
        if {"days", "hours"} & request.query_params.keys():
            raise HTTPException(422, f"the calls of a {dimension} are counted over all time: leave out days and hours")
        begin = 0
    return await ctx.database.read(lambda reader: tools.usage_of(reader.query, dimension, value, since=begin))


@router.get("/tools/durations")
async def read_durations(
    ctx: Ctx,
    since: Since,
    quantile: Annotated[list[Annotated[float, Query(ge=0, le=1)]], Query(max_length=20)] = list(tools.QUANTILES),  # noqa: B006
) -> list[ToolDurations]:
    """How long the calls of each tool took, in milliseconds. Percentiles of more than 5,000 calls are estimates."""
    return await ctx.database.read(lambda reader: tools.tool_durations(reader.query, since=since, quantiles=quantile))


@router.get("/tools/by/{dimension}")
async def read_tools_by(
    ctx: Ctx, dimension: Literal["workflow", "agent_type", "model"], since: Since
) -> list[ValueUse]:
    """Use of every tool by every workflow, type of agent or model; those with the most calls first."""
    return await ctx.database.read(lambda reader: tools.usage_by(reader.query, dimension, since=since))


@router.get("/workflows")
async def read_workflows(ctx: Ctx, since: Since) -> list[UseStats]:
    """Calls and failures by workflow, the one with the most calls first."""
    return await ctx.database.read(lambda reader: tools.stats_by(reader.query, "workflow", since=since))


@router.get("/models")
async def read_models(ctx: Ctx, since: Since) -> list[UseStats]:
    """Calls and failures by model, the one with the most calls first; '' is not known."""
    return await ctx.database.read(lambda reader: tools.stats_by(reader.query, "model", since=since))


@router.get("/sessions")
async def read_sessions(ctx: Ctx, since: Since, limit: Limit = 50) -> list[UseStats]:
    """All calls and failures of each session that was active, the one with the most calls first."""
    return await ctx.database.read(lambda reader: tools.session_stats(reader.query, since=since, limit=limit))


@router.get("/files")
async def read_files(
    ctx: Ctx,
    since: Since,
    order: Literal["accesses", "rereads"] = "accesses",
    project: Project = None,
    limit: Limit = 50,
) -> list[FileUse]:
    """The files that agents accessed, or read again, most often."""
    return await ctx.database.read(
        lambda reader: files.file_use(reader.query, since=since, order=order, limit=limit, project=project)
    )


@router.get("/files/contended")
async def read_contended_files(
    ctx: Ctx, since: Since, project: Project = None, limit: Annotated[int, Query(ge=1, le=200)] = 20
) -> list[ContendedFile]:
    """The files that several agents changed within 30 minutes, each with those that changed it last."""
    return await ctx.database.read(
        lambda reader: files.contended_files(reader.query, since=since, limit=limit, project=project)
    )


@router.get("/files/session/{session_uuid}")
async def read_session_files(ctx: Ctx, session_uuid: SessionId, limit: Limit = 50) -> list[SessionFile]:
    """What the agents of a session did with which files, over all time; the most accessed first. A unique beginning of the
    id will do."""
    whole = await _whole(ctx, session_uuid)
    return await ctx.database.read(lambda reader: files.session_files(reader.query, whole, limit=limit))


@router.get("/agents")
async def read_agents(ctx: Ctx, since: Since) -> AgentStats:
    """How long main agents were in which state, and the calls by type of agent."""
    states = await ctx.database.read(lambda reader: agents.agent_time(reader.query, since=since))
    types = await ctx.database.read(lambda reader: tools.stats_by(reader.query, "agent_type", since=since))
    return AgentStats(states=states, agent_types=types)


@router.get("/agents/session/{session_uuid}")
async def read_session_time(ctx: Ctx, session_uuid: SessionId) -> dict[str, StateTime]:
    """How long the main agent of a session was in which state, as far as its changes of status are still stored. A unique
    beginning of the id will do."""
    whole = await _whole(ctx, session_uuid)
    return await ctx.database.read(lambda reader: agents.session_time(reader.query, whole))


async def _whole(ctx: Context, session_uuid: str) -> str:
    try:
        return await ctx.database.read(lambda reader: history.whole_session_id(reader.query, session_uuid))
    except history.NoSuchSession as error:
        raise HTTPException(404, str(error)) from error
